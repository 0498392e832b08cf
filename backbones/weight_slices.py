"""Read rows of a transformer's weights from its safetensors files, through memory maps."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from backbones.widening import widen_input
from editkit.backbone import WeightReader
from editkit.errors import EditkitError, first_sentence

INDEX, ALONE = "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors"
"""Names of diffusers' index of several files, and of a single file."""


class WeightSlices:
    """The weights in a diffusers transformer folder.

    Args:
        folder: the folder.
        names: names of the weights that are needed.

    Raises:
        EditkitError: where a file cannot be read or a weight is missing.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        try:
            if (folder / INDEX).is_file():
                files = json.loads((folder / INDEX).read_text())["weight_map"]
                self.paths = {name: folder / file for name, file in files.items()}
            else:
                with safe_open(folder / ALONE, "pt") as file:
                    self.paths = dict.fromkeys(file.keys(), folder / ALONE)
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            problem = first_sentence(error)
            raise EditkitError(f"The transformer in {folder} cannot be loaded ({problem}).") from error
        if missing := [name for name in names if name not in self.paths]:
            raise EditkitError(f"The transformer in {folder} has no weight {missing[0]}; give a whole one.")

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Read rows of a weight, as they are in the file.

        Raises:
            EditkitError: where the file cannot be read.
        """
        path = self.paths[name]
        try:
            with safe_open(path, "pt") as file:
                found: Tensor = file.get_slice(name)[start:end]
                return found
        except (OSError, SafetensorError) as error:
            problem = first_sentence(error)
            raise EditkitError(f"The weights in {path} cannot be read ({problem}).") from error


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
