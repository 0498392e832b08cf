"""Read the rows of a dataset from tar shards in the webdataset layout."""

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from editkit.data.columns import Rows
from editkit.data.records import DataConfig
from editkit.errors import EditkitError


def rows(path: Path, _: DataConfig) -> Rows:
    """Find the rows of a shard or a folder of shards.

    Members of one stem are one row; its columns are named by what follows a member's first dot.

    Raises:
        EditkitError: if a shard is not a tar file.
    """
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    return [row for shard in shards for row in _shard_rows(shard)]


class ShardRow(Mapping[str, Any]):
    """A row in a shard; each column is read when it is looked up, text and JSON decoded.

    The keys of a column `json` are columns too, if no member has their name.

    Args:
        places: shard, offset and size in bytes of each column.
    """

    def __init__(self, places: Mapping[str, tuple[Path, int, int]]) -> None:
        self.places = places

    def __getitem__(self, column: str) -> Any:
        if column not in self.places:
            return self._json()[column]
        shard, offset, size = self.places[column]
        with shard.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if column.endswith("json"):
            return json.loads(data)
        return data.decode() if column.endswith(("txt", "text", "caption")) else data

    def __iter__(self) -> Iterator[str]:
        return iter(self._json() | dict(self.places))

    def __len__(self) -> int:
        return len(self._json() | dict(self.places))

    def _json(self) -> dict[str, Any]:
        found = self["json"] if "json" in self.places else None
        return found if isinstance(found, dict) else {}


def _shard_rows(shard: Path) -> Iterable[ShardRow]:
    found: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, _, column = name.partition(".")
                if member.isfile() and column:
                    place = (shard, member.offset_data, member.size)
                    found.setdefault(f"{folder}/{stem}", {})[column] = place
    except (OSError, tarfile.TarError) as error:
        raise EditkitError(f"The shard {shard} cannot be read; give tar files of webdataset.") from error
    return [ShardRow(places) for places in found.values()]
