"""Read rows of a transformer's weights from its safetensors files, through memory maps."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import FluxTransformer2DModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

from backbones.conversion import scaled, single_file
from backbones.conversion.reader import SafetensorsReader
from backbones.empty_models import complete_state, empty_model
from backbones.widening import widen_input
from editkit.backbone import WeightReader
from editkit.errors import EditkitError, first_sentence

INDEX, ALONE = "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors"
"""Names of diffusers' index of several files, and of a single file."""


class Piece(NamedTuple):
    """Rows of a tensor in a file, from `start` to before `end`."""

    path: Path
    key: str
    start: int
    end: int


class WeightSlices:
    """The weights of a transformer, read row by row.

    Args:
        pieces: the rows in files that each weight consists of, from top to bottom.
    """

    def __init__(self, pieces: Mapping[str, Sequence[Piece]]) -> None:
        self.pieces = pieces

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Read rows of a weight, as they are in the file.

        Raises:
            EditkitError: where the file cannot be read.
        """
        found, above = [], 0
        for path, key, first, last in self.pieces[name]:
            low, high = max(first, first + start - above), min(last, first + end - above)
            if low < high:
                found.append(_read(path, key, low, high))
            above += last - first
        return found[0] if len(found) == 1 else torch.cat(found)


class WidenedSlices:
    """The weights of a transformer whose input layer is wider than that in its files.

    Args:
        weights: the weights in the files.
        in_channels: number of channels that the wider layer takes.
        columns: the new column of each column in the files.
    """

    def __init__(self, weights: WeightReader, in_channels: int, columns: Sequence[int]) -> None:
        self.weights, self.in_channels, self.columns = weights, in_channels, columns

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Read rows of a weight; the new columns of the input layer are zero."""
        found = self.weights.rows(name, start, end)
        wider = name == "x_embedder.weight"
        return widen_input(found, self.in_channels, self.columns) if wider else found


def open_slices(
    where: Path, axes: tuple[int, ...] | None, dtype: torch.dtype
) -> tuple[FluxTransformer2DModel, WeightSlices] | None:
    """Build a transformer on the meta device, and what reads its weights; None where some are quantized.

    Args:
        where: a diffusers folder, or a .safetensors file in Black Forest Labs' or diffusers' naming.
        axes: RoPE axes of a file whose heads are not 128 wide.
        dtype: precision of the transformer.

    Raises:
        EditkitError: where a file cannot be read, or its weights are not those of the transformer.
    """
    with _readable(f"The transformer in {where} cannot be loaded"):
        found = _in_folder(where) if where.is_dir() else _in_file(where, axes)
        if found is None:
            return None
        config, layout, pieces = found
        made = empty_model(FluxTransformer2DModel, config).to(dtype)
        complete_state(made, layout)
    return made.eval().requires_grad_(False), WeightSlices(pieces)


Located = tuple[dict[str, Any], dict[str, Tensor], dict[str, list[Piece]]]
"""A transformer's config, its weights on the meta device, and where they are."""


def _in_folder(folder: Path) -> Located | None:
    """Locate the weights in a diffusers folder."""
    config = _json_object(folder / "config.json")
    if config.get("quantization_config"):
        return None
    files = {ALONE}
    if (folder / INDEX).is_file():
        shards = _json_object(folder / INDEX).get("weight_map")
        files = set(map(str, shards.values())) if isinstance(shards, dict) else set()
        if not files:
            raise EditkitError(f"its {INDEX} names no files beside it; download the folder again.")
    layout: dict[str, Tensor] = {}
    pieces: dict[str, list[Piece]] = {}
    for path in sorted(folder / file for file in files):
        with ExitStack() as stack:
            held = SafetensorsReader([path], stack).layout()
        layout |= held
        pieces |= {name: [Piece(path, name, 0, weight.shape[:1].numel())] for name, weight in held.items()}
    return config, layout, pieces


def _json_object(path: Path) -> dict[str, Any]:
    """Read a file that must hold a JSON object."""
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise EditkitError(f"its {path.name} holds no JSON object; download the folder again.")
    return found


def _in_file(path: Path, axes: tuple[int, ...] | None) -> Located | None:
    """Locate the weights in a single file."""
    found = single_file.locate_transformer(path, axes)
    if found is None:
        return None
    config, layout, places = found
    return config, layout, {name: [Piece(path, *place) for place in each] for name, each in places.items()}


def _read(path: Path, key: str, start: int, end: int) -> Tensor:
    with _readable(f"The weights in {path} cannot be read"), safe_open(path, "pt") as file:
        found: Tensor = file.get_slice(key)[start:end]
        scaled.check_unscaled(key.removesuffix(".weight"), found)
        return found


@contextmanager
def _readable(problem: str) -> Iterator[None]:
    """Raise the errors of files with this problem."""
    try:
        yield
    except (OSError, ValueError, LookupError, SafetensorError, EditkitError) as error:
        raise EditkitError(f"{problem} ({first_sentence(error)}).") from error
