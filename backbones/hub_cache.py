"""What of a repository is in the Hub's cache."""

import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError


def snapshot(repository: str) -> Path | None:
    """A repository's folder in the Hub's cache, which may be part of it, or None."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except OSError as error:
        # Newer releases raise this for a folder that lacks files, needed or not, and tell where it is.
        path = getattr(error, "snapshot_path", None)
        return None if path is None else Path(path)


def missing(folder: Path, wanted: Sequence[str]) -> list[str]:
    """What a folder of the Hub's cache, which may be part of a repository, lacks of what must be there."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    needed = [pattern for pattern in wanted if "*" not in pattern or pattern.endswith(".safetensors")]
    absent = [pattern for pattern in needed if not fnmatch.filter(files, pattern)]
    for index in (each for pattern in needed for each in fnmatch.filter(files, f"{pattern}.index.json")):
        shards = sorted({*(read(folder / index).get("weight_map") or {}).values()})
        beside = [Path(index).with_name(shard).as_posix() for shard in shards]
        absent += [shard for shard in beside if not (folder / shard).is_file()]
    return absent


def read(path: Path) -> dict[str, Any]:
    """A JSON object of a folder of diffusers.

    Raises:
        EditkitError: where it is missing or no JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditkitError(
            f"The file {path} is missing or no JSON; give a whole diffusers folder."
        ) from error
    return value if isinstance(value, dict) else {}
