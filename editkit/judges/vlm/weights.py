"""Find a local judge's weights, and check that they fit into memory."""

import hashlib
import json
import os
import struct
from math import prod
from pathlib import Path
from typing import Any

import torch

from editkit import atomic_files
from editkit.backbone import provider
from editkit.errors import EditkitError

WANTED = ["*.json", "*.txt", "*.jinja", "*.model", "*.safetensors"]
ROOM = 1.1
"""Memory that a model needs, as a multiple of its weights."""


def folder_of(model: str) -> Path:
    """Return a model's folder: a local one, one in the Hub's cache, or a downloaded one.

    Raises:
        EditkitError: where the files cannot be obtained, or are pickled.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    if os.path.isdir(model):
        return Path(model)
    try:
        validate_repo_id(model)
        named = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    except HFValidationError:
        named = False
    if not named:
        raise EditkitError(
            f"The judge's model {model} is no folder here and no Hub id; "
            f"give one of these, such as Qwen/Qwen2.5-VL-7B-Instruct."
        )
    return provider().fetch(model, None, WANTED)


def revision(folder: Path) -> str:
    """The Hub's commit of a folder in its cache; the digest of all weights of another one.

    Raises:
        EditkitError: where a file cannot be read.
    """
    if folder.parent.name == "snapshots":
        return folder.name
    digests = [f"{file.name} {atomic_files.sha256(file)}" for file in sorted(folder.glob("*.safetensors"))]
    return f"sha256 {hashlib.sha256(' '.join(digests).encode()).hexdigest()[:16]}"


def check_memory(folder: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Check that a CPU's memory can hold the weights; without the check the system would kill the process.

    Raises:
        EditkitError: where it cannot.
    """
    if device.type != "cpu" or not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return
    needed = ROOM * dtype.itemsize * sum(_elements(file) for file in folder.glob("*.safetensors"))
    free = _free()
    if needed > free:
        raise EditkitError(
            f"The judge's model {folder} needs {needed / 1e9:.0f} GB of memory, where {free / 1e9:.0f} are "
            f"free; use a smaller model, dtype=bfloat16, a GPU, or the judge 'openai' behind an endpoint."
        )


def _free() -> int:
    """Return the bytes of memory that are available without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _elements(file: Path) -> int:
    """Count the elements in a safetensors file by its header; 0 where the header cannot be read."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(min(length, 100_000_000)))
        return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return 0
