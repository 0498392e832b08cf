"""Stamps of files are those of their real paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit.data.file_stamps import FileStamps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "real" / "below" / "a.png").write_bytes(b"abc")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "b.png").symlink_to(tmp_path / "real" / "below" / "a.png")
    (tmp_path / "real" / "gone.png").symlink_to(tmp_path / "nowhere")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["below/a.png", "b.png", "./below/../b.png", "below/./a.png", "../linked/below/a.png", "below", "below/"],
)
@pytest.mark.parametrize("top", ["real", "linked"])
def test_files_links_and_folders(folder: Path, top: str, name: str) -> None:
    path = folder / top / name
    status = path.stat()
    stamps = FileStamps(folder / top)
    for _ in range(2):
        assert stamps(name) == (str(path.resolve()), status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("name", ["none.png", "gone.png", "below/a.png/b", "a\0b", "none/.//c.png"])
def test_what_is_absent(folder: Path, name: str) -> None:
    assert FileStamps(folder / "real")(name) == (str(folder / "real" / name), 0, 0)


def test_absolute_names(folder: Path) -> None:
    name = str(folder / "linked" / "below" / "a.png")
    assert FileStamps(folder)(name)[:2] == (str(folder.resolve() / "real" / "below" / "a.png"), 3)
