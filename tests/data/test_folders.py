"""Behaviour: folders of pictures give every pair that is in them, in order, or say which they leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editkit import EditkitError
from editkit.data import check
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.errors import EditkitWarning


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """Writes a picture of one level, or a caption, below the folder."""

    def write(*names: str, level: int = 9) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            if path.suffix == ".txt":
                path.write_text("make it red")
            else:
                Image.new("RGB", (32, 32), (level, 0, 0)).save(
                    path, format="JPEG" if path.suffix == ".jfif" else None
                )
        return tmp_path

    return write


def read(path: Path, **more: Any) -> Any:
    return dataset(DataConfig(name="folders", path=str(path), **more))


def unreadable(path: Path) -> list[str]:
    return [each.detail for each in check.check_dataset(read(path)).findings if each.problem == "unreadable"]


def test_numbered_sources_come_in_their_order(made: Any) -> None:
    for number in range(12):
        folder = made("answer/x.png", "answer/x.txt")
        made(f"source/x_{number}.png", level=number * 10)
    (record,) = [read(folder)[0]]
    assert [int(each[0, 0, 0]) for each in (record.source, *record.references)] == [n * 10 for n in range(12)]


def test_numbered_answers_come_in_their_order(made: Any) -> None:
    for number in (10, 2, 1):
        folder = made(f"answer/{number}.png", level=number * 10)
        made(f"answer/{number}.txt")
    assert [int(each.answer[0, 0, 0]) for each in read(folder, text_to_image=True)] == [10, 20, 100]


def test_every_format_is_read_that_pictures_have(made: Any) -> None:
    suffixes = ("png", "jpg", "JPEG", "tif", "tiff", "avif", "gif", "jfif", "webp", "bmp")
    for number, suffix in enumerate(suffixes):
        folder = made(
            f"answer/p{number}.{suffix}", f"answer/p{number}.txt", f"source/p{number}.{suffix}", level=90
        )
    found = read(folder)
    assert len(found) == len(suffixes)
    assert all(found[place].source is not None for place in range(len(suffixes)))


def test_a_pair_in_no_known_format_is_named(made: Any) -> None:
    folder = made("answer/a.png", "answer/a.txt", "source/a.png", "answer/b.txt", "source/b.png")
    (folder / "answer" / "b.heic").write_bytes(b"no picture")
    (told,) = unreadable(folder)
    assert "b.heic is in no known picture format" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["answer/b.png", "answer/b.txt", "source/b_edit.png"], ["answer/b.png has no", "source/b_edit.png"]),
        (["answer/b.png", "answer/b.txt"], ["answer/b.png has no source"]),
        (["answer/b.txt"], ["answer/b.txt"]),
        (["mask/b.png"], ["mask/b.png"]),
        (["source/b_1.png"], ["source/b_1.png"]),
        (["answer/a.jpg"], ["answer/a.png"]),
        (["source/a.jpg"], ["source/a.png"]),
        (["answer/b.png", "source/b.png"], ["has no caption"]),
    ],
)
def test_what_belongs_to_nothing_is_named(made: Any, more: list[str], told: list[str]) -> None:
    folder = made("answer/a.png", "answer/a.txt", "source/a.png", *more)
    found = unreadable(folder)
    assert len(found) == len(told)
    for name in told:
        assert any(name in each for each in found), found


def test_text_to_image_is_asked_for(made: Any) -> None:
    folder = made("answer/a.png", "answer/a.txt", "answer/b.png", "answer/b.txt", "sources/a.png")
    (folder / "answer" / "notes.md").write_text("not of a pair")
    assert all("has no source" in told for told in unreadable(folder))
    assert [each.source for each in read(folder, text_to_image=True)] == [None, None]
    made("source/a.png")
    assert [each.source is None for each in read(folder, text_to_image=True)] == [False, True]


def test_a_folder_that_is_named_must_be_there(made: Any) -> None:
    folder = made("answer/a.png", "answer/a.txt")
    with pytest.raises(EditkitError, match="before of sources is missing"):
        read(folder, folders={"source": "before"})
    with pytest.raises(EditkitError, match="no field of folders called 'sources'"):
        read(folder, folders={"sources": "before"})


def test_pictures_further_below_are_told(made: Any) -> None:
    made("answer/0.png", "answer/0.txt", "source/0.png")
    (made() / "answer" / "more").mkdir()
    (made() / "answer" / "without pictures").mkdir()
    folder = made("answer/more/1.png")
    with pytest.warns(EditkitWarning, match="The pictures in .*/answer/more are not read") as told:
        assert len(read(folder)) == 1
    assert len(told) == 1
