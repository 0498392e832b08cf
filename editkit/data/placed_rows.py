"""Keep the rows of a text file on the disk: memory holds the place of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO


class PlacedRows(Sequence[Mapping[str, Any]]):
    """The rows of a file, read when they are asked for; memory holds 8 bytes a row.

    Args:
        path: the file.
        starts: the place in bytes at which each row starts.
        read: reads one row from the open file, which stands at its start; processes get it by pickling.
    """

    def __init__(
        self, path: Path, starts: Sequence[int], read: Callable[[BinaryIO], Mapping[str, Any]]
    ) -> None:
        self.path, self.starts, self.read = path, starts, read

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        with self.path.open("rb") as file:
            file.seek(self.starts[place])
            return self.read(file)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        with self.path.open("rb") as file:
            for start in self.starts:
                file.seek(start)
                yield self.read(file)
