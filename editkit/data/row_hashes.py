"""Hash the rows of a dataset and the listing of their files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from editkit.data.columns import Rows
from editkit.data.file_stamps import FileStamps
from editkit.data.folders import BadRow

READER_VERSION = 3
"""Version of how pictures are read; with a new one, latents are encoded again."""
PICTURES = ("answer", "source", "mask", "references")
"""Fields of a record that hold pictures."""
BATCH = 1000
"""Rows of a Hugging Face dataset that are read together."""


def hashes(
    rows: Rows, places: Sequence[int], columns: Mapping[str, str], folder: Path, *, chosen: bool
) -> tuple[str, str]:
    """Hash the rows with the path, size and time of each file, and again with sizes alone.

    The second hash is the same for a copy of the files, on another machine too.

    Args:
        rows: all rows.
        places: the places of those that are records.
        columns: the column of each field.
        folder: where names of files start.
        chosen: whether a row's kind decided on `places`.
    """
    # Hugging Face computes its own, and shards have stamps.
    known = getattr(rows, "_fingerprint", None) or getattr(rows, "stamp", None)
    exact = hashlib.blake2b(f"{READER_VERSION} {known}".encode(), digest_size=16)
    if known:
        if chosen:
            exact.update(np.asarray(places).tobytes())
        return exact.hexdigest(), _listing(rows)
    copied = hashlib.blake2b(digest_size=16)
    stamp = FileStamps(folder)
    for row in rows if len(places) == len(rows) else (rows[place] for place in places):
        if isinstance(row, BadRow):
            exact.update(row.problem.encode(errors="backslashreplace"))
            copied.update(b"bad")
            continue
        words, files, held = _about(row, columns, stamp)
        told = json.dumps([words, held], default=str).encode()
        exact.update(told + json.dumps(files).encode())
        copied.update(told + repr([size for _, size, _ in files]).encode())
    return exact.hexdigest(), copied.hexdigest()


def _about(
    row: Mapping[str, Any], columns: Mapping[str, str], stamp: FileStamps
) -> tuple[dict[str, Any], list[tuple[str, int, int]], list[str]]:
    """Return what a row's record is made from: its words, stamps of its files, hashes of pictures in it."""
    pictures = [row.get(columns[field]) for field in PICTURES if field in columns]
    paths = [each for value in pictures for each in (value if isinstance(value, list) else [value])]
    names = [each.get("path") if isinstance(each, Mapping) else each for each in paths]
    files = [stamp(name) for name in names if name and isinstance(name, str)]
    held = [hashlib.blake2b(data).hexdigest() for each in paths if (data := _embedded_bytes(each))]
    return {name: value for name, value in row.items() if _is_words(value)}, files, held


def _is_words(value: Any) -> bool:
    """Whether a value is text, or a list without pictures."""
    held = isinstance(value, list) and any(isinstance(each, Mapping | bytes | Image) for each in value)
    return isinstance(value, str | list) and not held


def _listing(rows: Any) -> str:
    """Hash names and sizes of shards, or the words and the size of a Hugging Face dataset."""
    made = hashlib.blake2b(digest_size=16)
    if (listing := getattr(rows, "listing", None)) is not None:
        made.update(listing.encode())
        return made.hexdigest()
    source = getattr(rows, "rows", rows)  # behind names of class labels
    made.update(f"{len(source)} {source.column_names} {source.data.nbytes}".encode())
    if words := [name for name, feature in source.features.items() if _is_text(feature)]:
        for batch in source.select_columns(words).iter(BATCH):
            made.update(json.dumps(batch, default=str).encode())
    return made.hexdigest()


def _is_text(feature: Any) -> bool:
    """Whether a column of this kind holds text, or lists of text."""
    return getattr(getattr(feature, "feature", feature), "dtype", "") in ("string", "large_string")


def _embedded_bytes(value: Any) -> bytes:
    """Return the bytes of a picture that a row holds itself, as Hugging Face's do, decoded or not."""
    if isinstance(value, Image):
        return f"{value.mode} {value.size}".encode() + value.tobytes()
    data = value.get("bytes") if isinstance(value, Mapping) else value
    return data if isinstance(data, bytes) else b""
