"""Find shards by a path, a folder, or a pattern with wildcards and braces, here or at a URL."""

import re
from pathlib import Path

COMPRESSED = {".tar.gz": "gzip", ".tgz": "gzip", ".tar.bz2": "bz2", ".tar.xz": "xz", ".tar.zst": "zstd"}
"""fsspec's name of the compression, by the end of a shard's name; zstd needs the package `zstandard`."""
ENDINGS = (".tar", *COMPRESSED)
PATTERN = re.compile(r"[*?\[{]")


def compression(name: str) -> str | None:
    """Return fsspec's name of a shard's compression; None if it has none."""
    return next((kind for end, kind in COMPRESSED.items() if name.lower().endswith(end)), None)


def find(where: str) -> list[str]:
    """Return the URLs of all shards at a path or URL: a shard, a folder of shards, or a pattern.

    A pattern may have wildcards, and braces as in `{00000..00099}` and `{train,more}`.

    Raises:
        OSError, ValueError, ImportError: where the file system cannot be read.
    """
    import fsspec

    system, place = fsspec.core.url_to_fs(where)
    if system.isdir(place):
        inside = sorted(system.glob(f"{place.rstrip('/')}/*"))
        found = [each for each in inside if each.lower().endswith(ENDINGS)]
    elif PATTERN.search(place) and not system.exists(place):
        found = [
            name
            for each in expanded(place)
            for name in (sorted(system.glob(each)) if PATTERN.search(each) else [each])
        ]
    else:
        found = [place]
    return [system.unstrip_protocol(each) for each in found]


def expanded(pattern: str) -> list[str]:
    """Return the names that a pattern's braces stand for, in their order."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
    choices = braces[1].split(",")
    if numbers:
        first, last = map(int, numbers.groups())
        choices = [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
    return [
        name
        for choice in choices
        for name in expanded(pattern[: braces.start()] + choice + pattern[braces.end() :])
    ]


def is_here(path: str) -> bool:
    """Whether a path of this machine, or a pattern of paths, is that of at least one file or folder."""
    return Path(path).exists() or (bool(PATTERN.search(path)) and _any_match(path))


def _any_match(pattern: str) -> bool:
    from glob import glob

    return any(glob(each) for each in expanded(pattern))
