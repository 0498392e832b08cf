"""Behaviour: pairs that visitors bring are found, checked and divided, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from demos import own_data
from editkit.errors import EditkitError
from tests.demos import pairs


def test_an_archive_becomes_trained_and_held_out_pairs(tmp_path: Path) -> None:
    archive = pairs.packed(pairs.written(tmp_path / "mine"))
    own = own_data.unpacked(archive, "mine.zip", tmp_path / "unpacked")
    assert not own.check().failed
    settings, words = own.divided(tmp_path / "run")
    assert words == "9 pairs train, 1 is held out and shown while it trains"
    trained, held = (
        [json.loads(line) for line in Path(settings[key]).read_text().splitlines()]
        for key in ("data.path", "validation.data.path")
    )
    assert len(trained) == 9
    assert len(held) == 1
    assert held[0] not in trained
    assert all(Path(path).is_file() for row in (*trained, *held) for path in (row["answer"], *row["source"]))
    assert trained[0]["instruction"] == "make the red square blue"


def test_a_spoilt_pair_is_found(tmp_path: Path) -> None:
    found = own_data.at(str(pairs.written(tmp_path / "mine", spoilt=True))).check()
    assert found.failed
    assert found.sheet() is not None


def test_a_list_names_pairs_relative_to_itself(tmp_path: Path) -> None:
    folder = pairs.written(tmp_path / "mine")
    row = {"source": "source/00.png", "answer": "answer/00.png", "instruction": "make it blue"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row | {"source": "mine/source/00.png"}) + "\n")
    (folder / "list.jsonl").write_text(json.dumps(row) + "\n")
    settings, words = own_data.at(str(folder / "list.jsonl")).divided(tmp_path / "run")
    assert words == "1 pairs train; of fewer than 10 none is held out"
    assert settings["fit.validate_every"] == 0
    (line,) = Path(settings["data.path"]).read_text().splitlines()
    assert json.loads(line)["source"] == str(folder / "source" / "00.png")


def test_what_holds_no_pairs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, said in ((tmp_path / "empty", "empty holds no pairs"), (tmp_path / "gone", "There is nothing")):
        with pytest.raises(EditkitError, match=said):
            own_data.at(str(path))
    (tmp_path / "no.zip").write_bytes(b"no archive")
    with pytest.raises(EditkitError, match=r"no\.zip is no zip archive"):
        own_data.unpacked(tmp_path / "no.zip", "no.zip", tmp_path / "unpacked")


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt"])
def test_no_archive_writes_outside_its_folder(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as made:
        made.writestr(name, "x")
    with pytest.raises(EditkitError, match="names a file outside its folder"):
        own_data.unpacked(tmp_path / "bad.zip", "bad.zip", tmp_path / "in" / "unpacked")
    assert not (tmp_path / "in" / "outside.txt").exists()
    assert not (tmp_path / "in" / "unpacked").exists()


@pytest.mark.parametrize("field", ["source", "answer", "mask", "references"])
@pytest.mark.parametrize("way", [str, lambda path: [path], lambda path: {"path": path}])
def test_no_archive_names_pictures_outside_its_folder(field: str, way: Any, tmp_path: Path) -> None:
    pairs.written(tmp_path / "private")
    private = tmp_path / "private" / "source" / "00.png"
    row = {"source": "source/00.png", "answer": "answer/00.png", "instruction": "make it blue"}
    for path in (str(private), "../../../private/source/00.png"):
        mine = pairs.written(tmp_path / "mine")
        (mine / "list.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {field: way(path)}) + "\n")
        (mine / "answer").rename(mine / "inner")  # so that the list counts
        with pytest.raises(EditkitError, match="a picture outside its folder"):
            own_data.unpacked(pairs.packed(mine), "mine.zip", tmp_path / "in" / "unpacked")
        assert not (tmp_path / "in" / "unpacked").exists()
        shutil.rmtree(mine)


def test_an_archive_s_list_names_pictures_in_its_folder(tmp_path: Path) -> None:
    mine = pairs.written(tmp_path / "mine")
    (mine / "answer").rename(mine / "after")
    row = {"source": ["../mine/source/00.png"], "answer": "after/00.png", "instruction": "make it blue"}
    (mine / "list.jsonl").write_text(json.dumps(row) + "\n")
    own = own_data.unpacked(pairs.packed(mine), "mine.zip", tmp_path / "unpacked")
    assert not own.check().failed
    assert own.first() is not None


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_refused(kind: int, tmp_path: Path) -> None:
    """Its list of files is whole, and what is packed is not."""
    name, archive = "answer/a.txt", tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive, "w", kind) as opened:
        opened.writestr(name, "make the red circle blue " * 2000)
    packed = bytearray(archive.read_bytes())
    start = packed.index(name.encode()) + len(name)
    packed[start + 4 : start + 16] = b"\xff" * 12
    archive.write_bytes(packed)
    with pytest.raises(EditkitError, match=r"mine\.zip is no zip archive that can be read"):
        own_data.unpacked(archive, "mine.zip", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()
