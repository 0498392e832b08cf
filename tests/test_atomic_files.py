"""Files and folders that appear whole or not at all, and hashes of files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editkit import atomic_files
from editkit.errors import EditkitError


def put(place: Path, kind: str, words: str) -> None:
    """A file or a folder beside a place, which then moves there; "half" of one ends in an error."""
    with atomic_files.beside(place) as partial:
        if kind == "folder":
            partial.mkdir()
            partial /= "inside"
        partial.write_text(words)
        if words == "half":
            raise OSError("full")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_written_beside_appears_whole_or_not_at_all(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "above" / "place"
    for words in ("first", "second"):
        put(place, kind, words)
        with pytest.raises(OSError, match="full"):
            put(place, kind, "half")
        assert [*place.parent.iterdir()] == [place]
        assert (place / "inside" if kind == "folder" else place).read_text() == words


def test_a_folder_outlives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    put(tmp_path / "place", "folder", "kept")
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path / "place", "folder", "new")
    assert [*tmp_path.iterdir()] == [tmp_path / "place"]
    assert (tmp_path / "place" / "inside").read_text() == "kept"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_takes_the_place_of_what_is_none(kind: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    if kind == "file":
        (tmp_path / "place").write_text("before")
    else:
        (tmp_path / "place").symlink_to(tmp_path / "other", target_is_directory=True)
    put(tmp_path / "place", "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "place"]
    assert (tmp_path / "place" / "inside").read_text() == "new"


@pytest.mark.parametrize("name", ["weights.safetensors", "folder/weights.safetensors"])
def test_weights_are_readable_for_others_where_other_files_are(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("words")
    with atomic_files.beside(tmp_path / "place") as partial:
        file = partial / name if "/" in name else partial
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"one_D": torch.ones(2)}, file)
    written = tmp_path / "place" / name if "/" in name else tmp_path / "place"
    assert written.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_a_killed_process_left_is_cleaned_up(tmp_path: Path) -> None:
    for name in (".0123456789abcdef.part", ".own.part", "best"):
        (tmp_path / "export" / name).mkdir(parents=True)
    atomic_files.clean(tmp_path)
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [".own.part", "best"]


def test_a_file_takes_no_folders_place(tmp_path: Path) -> None:
    put(tmp_path / "place", "folder", "kept")
    with pytest.raises(OSError, match="directory"):
        put(tmp_path / "place", "file", "new")
    assert [*tmp_path.iterdir()] == [tmp_path / "place"]
    assert (tmp_path / "place" / "inside").read_text() == "kept"


def test_sha256_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"abc")
    first = atomic_files.sha256(path)
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert atomic_files.sha256(str(path)) == first
    path.write_bytes(b"abcd")
    assert atomic_files.sha256(path) != first
    with pytest.raises(EditkitError, match="weights"):
        atomic_files.sha256(tmp_path / "none")
