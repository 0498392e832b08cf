"""Manifests of every kind name the same edits; what is wrong with one is a sentence."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from editkit import EditkitError
from editkit.serving.jobs import manifest, plan
from tests.command_line import one_sentence
from tests.pictures import image

ROWS = [
    {"id": f"item-{place}", "image": f"p{place % 3}.png", "instruction": f"words {place % 2}", "seed": place}
    for place in range(6)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, size in enumerate(((24, 24), (40, 30), (24, 24))):
        image(*size, place).save(tmp_path / f"p{place}.png")
    return tmp_path


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, shared: dict[str, Any] | None = None, **more: Any) -> list[manifest.Item]:
    return manifest.read_manifest(path, shared or {}, more.get("named", {}), more.get("preset"))


def test_every_kind_names_the_same_edits(folder: Path) -> None:
    import datasets

    kinds = [written(folder / "m.jsonl", ROWS), folder / "m.csv", folder / "m.parquet", folder / "disk"]
    with kinds[1].open("w", newline="") as file:
        table = csv.DictWriter(file, list(ROWS[0]))
        table.writeheader()
        table.writerows(ROWS)
    found = datasets.Dataset.from_list(ROWS)
    found.to_parquet(str(kinds[2]))
    found.map(lambda row: {"image": str(folder / row["image"])}).save_to_disk(str(kinds[3]))
    for kind in kinds:
        items = read(kind, {"steps": 2})
        assert [item.name for item in items] == [row["id"] for row in ROWS]
        for item, row in zip(items, ROWS, strict=True):
            request = item.request()
            assert Path(str(request.image)) == folder / str(row["image"])
            assert (request.instruction, request.seed, request.steps) == (row["instruction"], row["seed"], 2)


def test_pictures_in_a_dataset(folder: Path) -> None:
    import datasets

    paths = [str(folder / "p0.png")]
    rows = {"source_img": paths, "instruction": ["a"], "target_img": paths}
    picture = datasets.Image()
    features = {"source_img": picture, "instruction": datasets.Value("string"), "target_img": picture}
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).save_to_disk(str(folder / "disk"))
    (item,) = read(folder / "disk", preset="magicbrush")
    assert item.request().image.size == (24, 24)  # type: ignore[union-attr]
    with pytest.raises(EditkitError, match=r"no column called 'source_img'.*--preset"):
        read(folder / "disk")


def test_a_folder_with_one_instruction(folder: Path) -> None:
    items = read(folder, {"instruction": "make it blue"})
    assert [(item.name, item.request().instruction) for item in items] == [
        (f"p{place}", "make it blue") for place in range(3)
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"image": "p0.png", "instruction": "a", "stepz": 2}], "no column called 'stepz'.*'steps'"),
        ([{"id": "../a", "instruction": "a"}], "no file name"),
        ([{"id": ".a", "instruction": "a"}], "no file name"),
        ([], "no items"),
        ([["a"]], "Line 1"),
        ([{"id": "a"}], "no instruction and no image"),
    ],
)
def test_wrong_manifests(folder: Path, rows: list[Any], told: str) -> None:
    with pytest.raises(EditkitError, match=told) as error:
        read(written(folder / "m.jsonl", rows))
    one_sentence(str(error.value))


def test_columns_that_are_named_must_be_there(folder: Path) -> None:
    """Else the field is left out in silence, and a row without a picture is drawn from its words."""
    source = written(folder / "m.jsonl", [{"src": "p0.png", "words": "a"}, {"src": "p1.png", "more": 3}])
    named = {"image": "src", "instruction": "words"}
    assert [item.row for item in read(source, named=named)] == [
        {"image": "p0.png", "instruction": "a"},
        {"image": "p1.png"},
    ]
    with pytest.raises(EditkitError, match="no column called 'scr'; there are src, words; did you") as error:
        read(source, named={**named, "image": "scr"})
    one_sentence(str(error.value))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"image": "p0.png"}, "no instruction"),
        ({"image": "p0.png", "instruction": "a", "steps": "many"}, "whole"),
        ({"image": 5, "instruction": "a"}, "image=5 is not allowed; give the path"),
        ({"image": ["p0.png"], "instruction": "a"}, "image=.* is not allowed"),
        ({"image": "p0.png", "references": [5], "instruction": "a"}, "references=5 is not allowed"),
        ({"image": "p0.png", "instruction": 5}, "instruction=5 is not allowed; give text"),
    ],
)
def test_items_that_fail_alone(folder: Path, row: dict[str, Any], told: str) -> None:
    (item,) = read(written(folder / "m.jsonl", [row]))
    with pytest.raises(EditkitError, match=told) as error:
        item.request()
    one_sentence(str(error.value))
    assert [batch[0].name for batch in plan.batches([item], 3)] == ["000000"]


def test_rows_that_are_wrong_are_items_that_fail(folder: Path) -> None:
    rows = [{**ROWS[0], "id": name} for name in ("a", "A", "../b", "000001")]
    source = written(folder / "m.jsonl", rows)
    source.write_text(source.read_text() + "no JSON\n\n" + json.dumps({**ROWS[0], "id": "c"}) + "\n")
    items = read(source)
    assert [item.name for item in items] == ["a", "000001-2", "000002", "000001", "000004", "c"]
    problems = [item.problem or "" for item in items]
    for problem, told in zip(problems, ("", "called A", "no file name", "", "Line 5 ", ""), strict=True):
        assert told in problem
        assert bool(problem) == bool(told)
    assert len({item.digest() for item in items if item.problem}) == 3
    with pytest.raises(EditkitError, match="Two items are called A"):
        items[1].request()
    assert items[-1].request().instruction == "words 0"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"c,p0.png,red,9", "Line 3 of .* has 4 cells, and its first row has 3"),
        (b"c,p0.png", "Line 3 of .* has 2 cells"),
        (b"c,p0.png,\xe9", "Line 3 of .* is not UTF-8 text; save the file as UTF-8"),
        (b'c,"p0.png"x,red', "Line 3 of .* is not a row"),
    ],
)
def test_wrong_rows_of_a_table_fail_alone(folder: Path, line: bytes, told: str) -> None:
    source = folder / "m.csv"
    rows = [b"id,image,instruction", b'a,p0.png,"red, not\nblue"', b"d,p0.png,red", b""]
    source.write_bytes(b"\n".join([*rows[:1], b"a,p0.png,blue", line, *rows[1:]]))
    items = read(source)
    assert [item.name for item in items] == ["a", "000001", "000002", "d"]  # a is taken
    assert re.search(told, str(items[1].problem))
    one_sentence(str(items[1].problem))
    assert "Two items are called a" in str(items[2].problem)
    assert items[3].request().instruction == "red"


def test_a_line_that_is_not_utf8_fails_alone(folder: Path) -> None:
    source = written(folder / "m.jsonl", ROWS[:3])
    lines = source.read_bytes().splitlines()
    source.write_bytes(b"\n".join([lines[0], lines[1].replace(b"words", b"\xe9"), lines[2]]))
    problems = [item.problem for item in read(source)]
    assert problems == [None, f"Line 2 of {source} is not UTF-8 text; save the file as UTF-8.", None]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("data", ["id,image\na,p0.png\n".encode("utf-16"), b"\x89PNG\r\n\xff\xd8"])
def test_a_file_of_other_bytes_is_refused(folder: Path, suffix: str, data: bytes) -> None:
    (folder / f"m.{suffix}").write_bytes(data)
    with pytest.raises(EditkitError, match="is not UTF-8 text") as error:
        read(folder / f"m.{suffix}")
    one_sentence(str(error.value))


def test_open_quotes_are_refused_as_they_hide_rows(folder: Path) -> None:
    (folder / "m.csv").write_text('id,image,instruction\na,p0.png,"red\nb,p0.png,blue\nc,p0.png,green\n')
    with pytest.raises(EditkitError, match=r"Line 2 of .* is not a row .*; check its quotes") as error:
        read(folder / "m.csv")
    one_sentence(str(error.value))


def test_pictures_of_one_name_keep_their_suffixes(folder: Path) -> None:
    for name in ("p0.jpg", "a b.png", "a-b.png", "A.png"):
        image(24, 24).convert("RGB").save(folder / name)
    found = {item.row["image"]: item.name for item in read(folder, {"instruction": "make it blue"})}
    assert found == {
        "A.png": "A",
        "a b.png": "a-b.png",
        "a-b.png": "a-b.png-2",
        "p0.jpg": "p0.jpg",
        "p0.png": "p0.png",
        "p1.png": "p1",
        "p2.png": "p2",
    }


def test_a_long_instruction_is_no_file(folder: Path) -> None:
    (item,) = read(written(folder / "m.jsonl", [{"image": "p0.png", "instruction": "words " * 100}]))
    assert len(item.digest()) == 64


def test_batches_hold_one_size_and_neighbours_share_encodings(folder: Path) -> None:
    items = read(written(folder / "m.jsonl", ROWS * 1))
    batches = plan.batches(items, 3)
    assert sorted(item.name for batch in batches for item in batch) == [row["id"] for row in ROWS]
    for batch in batches:
        assert len({item.row["image"] == "p1.png" for item in batch}) == 1
        assert len(batch) <= 3
    words = [item.row["instruction"] for batch in batches for item in batch if item.row["image"] != "p1.png"]
    assert words == sorted(words)
    assert plan.batches(list(reversed(items)), 3) == batches


def test_digests_tell_what_changed(folder: Path) -> None:
    (before,) = read(written(folder / "m.jsonl", ROWS[:1]))
    digest = before.digest()
    (same,) = read(folder / "m.jsonl")
    assert same.digest() == digest
    assert read(folder / "m.jsonl", {"steps": 2})[0].digest() != digest
    source = folder / "p0.png"
    data = source.read_bytes()
    source.write_bytes(data[:-20] + bytes(20))
    os.utime(source, (0, 0))
    assert same.digest() != digest  # another picture of as many bytes
    source.write_bytes(data)
    assert same.digest() == digest
