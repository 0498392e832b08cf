"""Files of encoded records: some tens of records each, of which single rows are read through a memory map.

A file is safetensors. Each tensor has one row for each record. What is the same in all rows along a tensor's
last axis, such as the channels of a mask that never changes, is stored once: `NAME.constant`, and
`NAME.places` marks it on the axis. The header says what else is known, in JSON under `about`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editkit import atomic_files
from editkit.errors import EditkitError, first_sentence

CONSTANT, PLACES = ".constant", ".places"
"""Endings of the names of what is the same in all rows, and of the mask that says where it belongs."""
Header = dict[str, Any]
"""Entries of a file's header: bucket, indices, instructions, number of transparent records."""


def write(path: Path, tensors: Mapping[str, Tensor], header: Header) -> None:
    """Write the rows of some records whole or not at all.

    Args:
        path: the file.
        tensors: B rows of each tensor.
        header: in JSON's types; `instructions` has the wordings of each record.

    Raises:
        OSError, SafetensorError: where the file cannot be written.
    """
    held: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        held |= _split(name, tensor)
    with atomic_files.beside(path) as partial:
        save_file(held, partial, {"about": json.dumps(header)})


def _split(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Split off what all rows have in common along the last axis; nothing where there is one row."""
    same_C = (tensor == tensor[:1]).flatten(0, -2).all(dim=0)
    if len(tensor) == 1 or not same_C.any():
        return {name: tensor.contiguous()}
    return {
        name: tensor[..., ~same_C].contiguous(),
        name + CONSTANT: tensor[0, ..., same_C].contiguous(),
        name + PLACES: same_C,
    }


class ChunkFile:
    """An open file; rows are read when they are asked for."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.header: Header = json.loads(file.metadata()["about"])

    @cached_property
    def wordings(self) -> list[tuple[str, ...]]:
        """All wordings of each record's instruction."""
        return [tuple(each) for each in self.header["instructions"]]

    def row(self, number: int) -> dict[str, Tensor]:
        """Read the tensors of one record."""
        names = set(self._file.keys())
        plain = sorted(name for name in names if not name.endswith((CONSTANT, PLACES)))
        found = {}
        for name in plain:
            own = self._file.get_slice(name)[number : number + 1][0]
            if name + PLACES not in names:
                found[name] = own.clone()
                continue
            same_C = self._file.get_tensor(name + PLACES)
            whole = own.new_empty(*own.shape[:-1], len(same_C))
            whole[..., ~same_C], whole[..., same_C] = own, self._file.get_tensor(name + CONSTANT)
            found[name] = whole
        return found


@contextmanager
def opened(path: Path) -> Iterator[ChunkFile]:
    """Open a file of encoded records.

    Raises:
        EditkitError: where it is damaged or missing.
    """
    with read_errors(path), safe_open(path, "pt") as file:
        yield ChunkFile(file)


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Say in one sentence why a file of a cache cannot be read."""
    try:
        yield
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        problem = first_sentence(error)
        raise EditkitError(
            f"The encoded records in {path} cannot be read ({problem}); delete the folder {path.parent}."
        ) from error
