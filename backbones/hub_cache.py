"""Tell which files of a repository are in the Hub's cache."""

import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError


def snapshot(repository: str) -> Path | None:
    """Return a repository's folder in the Hub's cache, which may hold only part of it; None if absent."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except OSError as error:
        # Newer releases raise this for every folder that lacks a file, needed or not; it holds the path.
        path = getattr(error, "snapshot_path", None)
        return None if path is None else Path(path)


def missing(folder: Path, wanted: Sequence[str]) -> list[str]:
    """List the needed files that a folder of the Hub's cache lacks.

    Args:
        folder: the folder, which may hold only part of a repository.
        wanted: names and patterns of files. Names and patterns of weights are needed, others are not.
    """
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    needed = [pattern for pattern in wanted if "*" not in pattern or pattern.endswith(".safetensors")]
    absent = [pattern for pattern in needed if not fnmatch.filter(files, pattern)]
    for index in (each for pattern in needed for each in fnmatch.filter(files, f"{pattern}.index.json")):
        shards = sorted({*(read_json(folder / index).get("weight_map") or {}).values()})
        beside = [Path(index).with_name(shard).as_posix() for shard in shards]
        absent += [shard for shard in beside if not (folder / shard).is_file()]
    return absent


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty dict where the file holds another JSON value.

    Raises:
        EditkitError: where the file is missing or is not JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditkitError(
            f"The file {path} is missing or is not JSON; give a whole diffusers folder."
        ) from error
    return value if isinstance(value, dict) else {}
