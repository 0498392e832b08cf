"""Law and behaviour: a weight file's hash is always its SHA-256, and is computed once in its life."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editkit import atomic_files

SIZE, LARGE = atomic_files.KEPT_FROM, 96 << 20
"""Bytes of the smallest file whose hash is kept, and of one that takes some tenths of a second to read."""
HASH = "import sys; from editkit import atomic_files; print(atomic_files.sha256(sys.argv[1]))"


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of hashes of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    atomic_files.forget()
    return tmp_path / "cache"


def weights(path: Path, first: bytes = b"a", size: int = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(first * size)
    return path


def truth(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_seen_before_costs_nothing_in_a_new_process(tmp_path: Path) -> None:
    file = weights(tmp_path / "flux.safetensors", size=LARGE)
    assert atomic_files.sha256(file) == truth(file)
    atomic_files.forget()
    started = time.process_time()
    found = atomic_files.sha256(file)
    assert time.process_time() - started < 0.05
    assert found == truth(file)


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    """By its time or its size; of the same path."""
    file = weights(tmp_path / "flux.safetensors")
    first = atomic_files.sha256(file)
    status = file.stat()
    weights(file, b"b")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    atomic_files.forget()
    assert atomic_files.sha256(file) == truth(file) != first
    with file.open("ab") as more:
        more.write(b"c")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    atomic_files.forget()
    assert atomic_files.sha256(file) == truth(file)


def test_the_hubs_cache_tells_hashes_by_names(tmp_path: Path, kept: Path) -> None:
    """Large files lie under their SHA-256 and small ones under a git hash; links lead there."""
    blobs = tmp_path / "hub" / "models--black-forest-labs--FLUX.1-Kontext-dev" / "blobs"
    named = "5" * 64
    weights(blobs / named)
    link = blobs.parent / "snapshots" / "main" / "vae" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(blobs / named, link.parent))
    assert atomic_files.sha256(link) == named
    small = weights(blobs / ("4" * 40))
    assert atomic_files.sha256(small) == truth(small)
    elsewhere = weights(tmp_path / "blobs" / named)
    assert atomic_files.sha256(elsewhere) == truth(elsewhere)


@pytest.mark.parametrize("damage", [b"", b"no hash", b"\xff\xfe", b"1 2 " + b"0" * 63])
def test_a_damaged_cache_is_as_none(damage: bytes, tmp_path: Path, kept: Path) -> None:
    file = weights(tmp_path / "flux.safetensors")
    atomic_files.sha256(file)
    entries = [path for path in kept.rglob("*") if path.is_file()]
    assert len(entries) == 1
    entries[0].write_bytes(damage)
    atomic_files.forget()
    assert atomic_files.sha256(file) == truth(file)


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, kept: Path) -> None:
    kept.write_bytes(b"a file where a folder should be")
    file = weights(tmp_path / "flux.safetensors")
    assert atomic_files.sha256(file) == truth(file)


def test_several_processes_agree(tmp_path: Path) -> None:
    file = weights(tmp_path / "flux.safetensors")
    command = [sys.executable, "-c", HASH, str(file)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate()[0].strip() for process in running} == {truth(file)}


def test_small_files_leave_no_trace(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    atomic_files.sha256(tmp_path / "config.json")
    assert not kept.exists()
