"""Convert FLUX checkpoints on disk: Black Forest Labs' single files to diffusers' folders, and back."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor

from backbones.conversion import architecture, autoencoder, state_dict
from backbones.conversion.reader import DTYPES, SafetensorsReader
from backbones.conversion.weights import PICKLES
from editkit import atomic_files
from editkit.errors import EditkitError

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A checkpoint that is to be written.

    Attributes:
        layout: all tensors on the meta device, by name.
        tensors: names and real tensors, in any order.
        config: diffusers' config as JSON; None for a native file.
    """

    layout: dict[str, Tensor]
    tensors: Iterable[tuple[str, Tensor]]
    config: str | None = None


def convert(source: Path, destination: Path, axes: tuple[int, ...] | None = None) -> Path:
    """Convert a FLUX checkpoint to the other naming, tensor by tensor; dtypes stay the same.

    Args:
        source: a native transformer's or autoencoder's `.safetensors` file, or diffusers' transformer folder.
        destination: a new folder for a native file, a new `.safetensors` file for a folder.
        axes: RoPE axes of a native transformer whose heads are not 128 wide; ignored otherwise.

    Returns:
        `destination`, complete; after an error nothing is there.

    Raises:
        EditkitError: for a source that is damaged or of another kind, axes that do not fit, a destination
            that exists or has the wrong ending, or a disk error.
    """
    source, destination = Path(source), Path(destination)
    _check_paths(source, destination)
    try:
        with ExitStack() as stack:
            if source.is_dir():
                converted = _transformer_to_native(SafetensorsReader(_weight_files(source), stack))
            else:
                converted = _from_native(SafetensorsReader([source], stack), axes)
            _write(converted, destination)
    except EditkitError as error:
        raise EditkitError(f"{source} cannot be converted: {error}") from error
    except OSError as error:
        raise EditkitError(f"{destination} cannot be written: {error.strerror or error}.") from error
    return destination


def _check_paths(source: Path, destination: Path) -> None:
    wanted = "give a native .safetensors file, or diffusers' transformer folder"
    if not source.exists():
        raise EditkitError(f"{source} does not exist; {wanted}.")
    if source.is_file() and source.suffix != ".safetensors":
        kind = "a pickle, never opened as it can run code" if source.suffix in PICKLES else "of another kind"
        raise EditkitError(f"{source} is {kind}; {wanted}.")
    if source.is_dir() != (destination.suffix == ".safetensors"):
        ending = "one that ends in .safetensors" if source.is_dir() else "a folder's name"
        raise EditkitError(f"{destination} does not suit {source} as a destination; give {ending}.")
    if destination.exists():
        raise EditkitError(f"{destination} exists; give a new destination, or remove it first.")


def _weight_files(folder: Path) -> list[Path]:
    """Return the weight files in diffusers' transformer folder."""
    if (folder / "model_index.json").is_file():
        raise EditkitError(f"it is a whole pipeline; give {folder / 'transformer'}.")
    found = _read_json(folder / CONFIG).get("_class_name")
    if found != FluxTransformer2DModel.__name__:
        raise EditkitError(f"its config names {found}; only a FluxTransformer2DModel can be converted back.")
    if (folder / INDEX).is_file():
        shards = _read_json(folder / INDEX).get("weight_map")
        names = list(shards.values()) if isinstance(shards, dict) else []
        if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
            raise EditkitError(f"its {INDEX} names no files beside it; download the folder again.")
        return [folder / name for name in sorted(set(names))]
    if not (folder / WEIGHTS).is_file():
        raise EditkitError(f"it holds neither {WEIGHTS} nor {INDEX}; pickles are never opened.")
    return [folder / WEIGHTS]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditkitError(f"its {path.name} cannot be read; give a whole diffusers folder.") from error
    return value if isinstance(value, dict) else {}


def _transformer_to_native(stored: SafetensorsReader) -> Converted:
    layout = stored.layout()
    native = state_dict.diffusers_to_native(layout)
    _checked_config(FluxTransformer2DModel, architecture.infer_architecture(native), layout)
    return Converted(layout=native, tensors=state_dict.join_diffusers(stored))


def _from_native(stored: SafetensorsReader, axes: tuple[int, ...] | None) -> Converted:
    layout = stored.layout()
    if "decoder.conv_in.weight" in layout:
        return _autoencoder_from_native(stored)
    diffusers = state_dict.native_to_diffusers(layout)
    config = _checked_config(FluxTransformer2DModel, architecture.infer_config(layout, axes), diffusers)
    return Converted(layout=diffusers, tensors=state_dict.split_native(stored), config=config)


def _autoencoder_from_native(native: Mapping[str, Tensor]) -> Converted:
    """Convert FLUX's native autoencoder; it is read whole, a third of a gigabyte at most."""
    state = dict(native)
    config = autoencoder.infer_config(state)
    converted = autoencoder.native_to_diffusers(state, config)
    layout = {name: tensor.to("meta") for name, tensor in converted.items()}
    return Converted(
        layout=layout, tensors=converted.items(), config=_checked_config(AutoencoderKL, config, layout)
    )


def _checked_config(model: Any, config: dict[str, Any], layout: Mapping[str, Tensor]) -> str:
    """Return the full config as JSON, after a check that its model has exactly the tensors of `layout`."""
    try:
        with torch.device("meta"):
            instance = model.from_config(config)
    except (ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
        raise EditkitError(f"diffusers builds no {model.__name__} of these sizes ({error}).") from error
    need = {name: tensor.shape for name, tensor in instance.state_dict().items()}
    have = {name: tensor.shape for name, tensor in layout.items()}
    if wrong := [name for name in {**need, **have} if need.get(name) != have.get(name)]:
        few = ", ".join(wrong[:3])
        raise EditkitError(
            f"{len(wrong)} tensors do not fit a {model.__name__} ({few}); give an undamaged checkpoint."
        )
    return str(instance.to_json_string())


def _write(converted: Converted, destination: Path) -> None:
    """Write a checkpoint whole or not at all."""
    with atomic_files.beside(destination) as partial:
        if converted.config is None:
            _write_tensors(converted, partial)
        else:
            partial.mkdir()
            (partial / CONFIG).write_text(converted.config, encoding="utf-8")
            _write_tensors(converted, partial / WEIGHTS)


def _write_tensors(converted: Converted, path: Path) -> None:
    """Write a safetensors file tensor by tensor; the library's own writer needs all of them in memory."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    # Widest dtype first, as safetensors orders them: each tensor stays aligned to its own size.
    for name, tensor in sorted(converted.layout.items(), key=lambda item: -item[1].itemsize):
        start, end = end, end + tensor.nbytes
        header[name] = dict(dtype=CODES[tensor.dtype], shape=list(tensor.shape), data_offsets=[start, end])
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, tensor in converted.tensors:
            file.seek(8 + len(encoded) + header[name]["data_offsets"][0])
            file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
