"""Hashes of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit import atomic_files
from editkit.errors import EditkitError
from tests.imaging.picture_files import written


def test_sha256_follows_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "weights.safetensors", b"abc")
    first = atomic_files.sha256(path)
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert atomic_files.sha256(str(path)) == first
    written(path, b"abcd")
    assert atomic_files.sha256(path) != first
    with pytest.raises(EditkitError, match="weights"):
        atomic_files.sha256(tmp_path / "none")
