"""Find adapter files, hash them and read them."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.errors import EditkitError, EditkitWarning, first_sentence

FILE = "pytorch_lora_weights.safetensors"
"""diffusers' and editkit's name of an adapter's file in a folder."""
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""peft's names of the file, and of the LoraConfig beside it."""
METADATA = "lora_adapter_metadata"
"""Key of the file's metadata under which the LoraConfig is, in JSON."""
SUFFIXES = (".safetensors", ".sft")


def file(path: str | Path) -> Path:
    """Return the adapter file of a path: the path itself, or the file in the folder.

    Raises:
        EditkitError: where the folder holds several.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return path
    found = sorted(each for each in path.iterdir() if is_adapter(each))
    named = [path / name for name in (FILE, PEFT_FILE) if path / name in found]
    if not named and len(found) > 1:
        names = ", ".join(each.name for each in found[:3])
        raise EditkitError(f"The folder {path} holds {len(found)} adapter files ({names}); name one of them.")
    return (named or found or [path / FILE])[0]


def digest(path: str | Path) -> str:
    """Hash an adapter's file, and the config beside it if there is one; returns a hexadecimal SHA-256.

    Raises:
        EditkitError: where it cannot be read.
    """
    path = file(path)
    own, beside = atomic_files.sha256(path), path.parent / PEFT_CONFIG
    if not beside.is_file():
        return own
    return hashlib.sha256(f"{own}{atomic_files.sha256(beside)}".encode()).hexdigest()


def is_adapter(path: str | Path) -> bool:
    """Whether a file's name ends as an adapter's does."""
    return Path(path).suffix.lower() in SUFFIXES


def choose(name: str, known: Mapping[str, str], base: str | None) -> str:
    """Return where the adapter of this name is; a file, a folder and a Hub id stand for themselves.

    Args:
        name: one of `known`, or a file, a folder or a Hub id.
        known: files, folders and Hub ids of a method's adapters for the backbone, by name.
        base: the backbone's base model, for the message.

    Raises:
        EditkitError: where it is none of these.
    """
    if name not in known and "/" not in name and not Path(name).suffix and not Path(name).exists():
        names = f"for {base} ({', '.join(known)})" if known else "for this backbone"
        raise EditkitError(
            f"The adapter {name} is neither one {names} nor an existing file or folder nor a Hub id; "
            "give one of these."
        )
    return known.get(name, name)


def check_adapter_file(path: str | Path) -> Path:
    """Return the adapter file that a path stands for; this reads nothing and needs no torch.

    Raises:
        EditkitError: where it is missing or has another suffix.
    """
    path = file(path)
    if not is_adapter(path) or not path.is_file():
        raise EditkitError(f"The adapter {path} is not a .safetensors file that exists.")
    return path


def read_adapter(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the tensors and metadata of an adapter's file, or of the one in a folder.

    If peft wrote a LoraConfig beside the file and the metadata have none, it is added to the metadata. Where
    it is missing beside a file of peft's name, a warning says so.

    Raises:
        EditkitError: where it is missing or is not a valid safetensors file.
    """
    path = check_adapter_file(path)
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file  # needs torch

    try:
        state = load_file(path)
        with safe_open(path, framework="pt") as opened:
            about = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        problem = first_sentence(error)
        raise EditkitError(f"The adapter {path} cannot be read ({problem}); download it again.") from error
    beside = path.parent / PEFT_CONFIG
    if METADATA not in about and beside.is_file():
        about[METADATA] = _config(beside)
    if METADATA not in about and path.name == PEFT_FILE and not any(key.endswith(".alpha") for key in state):
        warnings.warn(
            f"The adapter {path} has no {PEFT_CONFIG} beside it, where peft keeps alpha; alpha is the rank.",
            EditkitWarning,
            stacklevel=2,
        )
    return state, about


def _config(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (OSError, ValueError) as error:
        raise EditkitError(f"{path} cannot be read as JSON; correct or remove it.") from error
    return text
