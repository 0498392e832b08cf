"""Behaviour: tables are read strictly, and what is wrong is told by its line or record."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit import EditkitError
from editkit.cli.data import findings_table
from editkit.data import check
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig

HEAD = "image,prompt,kontext_images\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a0", "a1", "s0", "s1"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / f"{name}.png")
    return tmp_path


def read(name: str, path: Path, **more: Any) -> Any:
    return dataset(DataConfig(name=name, path=str(path), **more))


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ('a0.png,red,s0.png\na1.png,"open,s1.png\na1.png,fine,s1.png\n', "Line 3 "),
        ('a0.png,red,s0.png\na1.png,"open,s1.png\n' + "a1.png,on and on,s1.png\n" * 8000, "Line 3 "),
        ('a0.png,"red" and blue,s0.png\n', "Line 2 "),
        ("a0.png,red,s0.png\na1.png,red\n", "Line 3 .* 2 cells, .* 3"),
        ("a0.png,red,s0.png\n\na1.png,red,s1.png,more\n", "Line 4 .* 4 cells, .* 3"),
    ],
    ids=["open quote", "long open quote", "after a quote", "short row", "long row"],
)
def test_bad_rows_are_told_by_line(folder: Path, rows: str, told: str) -> None:
    (folder / "t.csv").write_text(HEAD + rows)
    with pytest.raises(EditkitError, match=told) as error:
        read("table", folder / "t.csv", preset="diffsynth")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_cells_of_several_lines_are_one_row(folder: Path) -> None:
    (folder / "t.csv").write_text(HEAD + 'a0.png,"red\nand ""blue""",s0.png\n')
    assert read("table", folder / "t.csv", preset="diffsynth")[0].instruction == 'red\nand "blue"'


@pytest.mark.parametrize("name", ["jsonl", "table", "csv", "webdataset", "huggingface"])
def test_a_record_without_a_source_is_not_learnt_from_words_in_silence(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source of the first record stands under a name that nobody gave, as after a typing mistake."""
    wrong = {"answer": "a0.png", "before": "s0.png", "source": "", "instruction": "x"}
    rows: list[dict[str, Any]] = [wrong, wrong | {"source": "s0.png"}, wrong | {"references": ["s1.png"]}]
    path, more = folder / "t", dict[str, Any]()
    if name == "jsonl":
        written(path, *rows)
    elif name == "table":
        path.write_text(
            "answer,source,references,instruction\na0.png,,,x\na0.png,s0.png,,x\na0.png,,s1.png,x\n"
        )
    elif name == "csv":
        more = {"fields": ["target_image", "edit_image", "ref_image", "prompt"]}
        path.write_text("a0.png#;##;##;#x\na0.png#;#s0.png#;##;#x\na0.png#;##;#s1.png#;#x\n")
    elif name == "webdataset":
        with tarfile.open(path, "w") as archive:
            for number, row in enumerate(rows):
                (folder / "row.json").write_text(json.dumps(row))
                archive.add(folder / "row.json", f"{number}.json")
    else:
        datasets = pytest.importorskip("datasets")
        monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        path = folder / "t.parquet"
        plain: list[dict[str, Any]] = [{"references": None} | row for row in rows]
        datasets.Dataset.from_list(plain).to_parquet(str(path))
    found = read(name, path, **more)
    column = "edit_image" if name == "csv" else "source"
    told = rf"record 0 of {path} has no source under '{column}'; .*data\.text_to_image=true"
    with pytest.raises(EditkitError, match=told):
        found[0]
    assert found[1].source is not None
    assert len(found[2].references) == 1
    assert read(name, path, text_to_image=True, **more)[0].source is None
    assert read(name, path, columns={"source": ""}, **more)[0].source is None


def test_names_that_come_twice_are_refused(folder: Path) -> None:
    (folder / "t.csv").write_text("image,prompt,prompt\na0.png,red,blue\n")
    with pytest.raises(EditkitError, match="'prompt' twice"):
        read("table", folder / "t.csv", preset="diffsynth")
    (folder / "t.jsonl").write_text('{"answer": "a0.png", "instruction": "x", "instruction": "y"}')
    with pytest.raises(EditkitError, match=r"Line 1 of .* 'instruction' twice"):
        read("jsonl", folder / "t.jsonl")


@pytest.mark.parametrize("name", ["jsonl", "table", "huggingface"])
def test_a_column_that_is_named_must_be_there(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / {"jsonl": "t.jsonl", "table": "t.csv", "huggingface": "t.parquet"}[name]
    if name == "jsonl":
        written(path, {"answer": "a0.png", "instruction": "x"})
    elif name == "table":
        path.write_text("answer,instruction\na0.png,x\n")
    else:
        datasets = pytest.importorskip("datasets")
        monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        datasets.Dataset.from_list([{"answer": "a0.png", "instruction": "x"}]).to_parquet(str(path))
    with pytest.raises(EditkitError, match=r"data\.columns\.source names 'before'"):
        read(name, path, columns={"source": "before"})


def test_words_that_are_no_text_are_unreadable_records(folder: Path) -> None:
    fine = {"answer": "a0.png", "source": "s0.png", "instruction": "x"}
    bad = [fine | {field: "bad \ud83d"} for field in ("instruction", "kind", "task", "source")]
    found = read("jsonl", written(folder / "t.jsonl", fine, *bad))
    told = check.check_dataset(found)
    assert [each.index for each in told.findings if each.problem == "unreadable"] == [1, 2, 3, 4]
    findings_table(told).encode()
    json.dumps(told.summary()).encode()
    found.digest()


def test_kinds_may_be_numbers(folder: Path) -> None:
    fine = {"answer": "a0.png", "source": "s0.png", "instruction": "x"}
    rows: list[dict[str, Any]] = [fine | {"kind": kind} for kind in (0, 1, None, "")]
    found = read("jsonl", written(folder / "t.jsonl", *rows))
    assert [each.kind for each in found] == ["0", "1", "", ""]
    assert len(read("jsonl", folder / "t.jsonl", types=["^0$"])) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_class_labels_are_kinds_by_name(
    streaming: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    fine = {"answer": "a0.png", "source": "s0.png", "instruction": "x"}
    rows = [fine | {"kind": kind} for kind in (0, 1, None)]
    made = datasets.Dataset.from_list(rows)
    made.cast_column("kind", datasets.ClassLabel(names=["local", "global"])).to_parquet(
        str(folder / "t.parquet")
    )
    found = read("huggingface", folder / "t.parquet", streaming=streaming)
    assert [each.kind for each in found] == ["local", "global", ""]
    assert len(read("huggingface", folder / "t.parquet", streaming=streaming, types=["global"])) == 1
    assert found.digest() == read("huggingface", folder / "t.parquet", streaming=streaming).digest()


def test_several_pictures_have_no_gaps(folder: Path) -> None:
    row = {"answer": "a0.png", "instruction": "x", "source": ["", "s0.png"]}
    with pytest.raises(EditkitError, match=r"source of record 0 .* is empty"):
        read("jsonl", written(folder / "t.jsonl", row))[0]


@pytest.mark.parametrize("field", ["answer", "source", "references"])
def test_what_is_clear_is_white_and_counted(folder: Path, field: str) -> None:
    pixels = np.full((32, 32, 4), 255, np.uint8)
    pixels[:8] = 0
    Image.fromarray(pixels).save(folder / "clear.png")
    row = {"answer": "a0.png", "source": "s0.png", "instruction": "x"} | {field: "clear.png"}
    found = read("jsonl", written(folder / "t.jsonl", row))
    record = found[0]
    picture = record.references[0] if field == "references" else getattr(record, field)
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert record.transparent == 8 * 32
    told = check.check_dataset(found)
    assert told.problems()["transparent"] == 1
    assert not told.failed or field == "answer"


def test_what_was_decided_on_a_picture_is_told(folder: Path) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    row = {"answer": "moving.gif", "instruction": "x"}
    found = read("jsonl", written(folder / "t.jsonl", row), text_to_image=True)
    (finding,) = check.check_dataset(found).findings
    assert (finding.problem, "only the first of 2 frames" in finding.detail) == ("picture", True)


def test_an_absent_column_is_told_with_those_that_are_there(folder: Path) -> None:
    """As under names in capitals, or with a space before them."""
    (folder / "t.csv").write_text("source,Answer, instruction\ns0.png,a0.png,make it red\n")
    with pytest.raises(EditkitError, match=r"data\.columns\.instruction, such as 'Answer', ' instruction'"):
        read("table", folder / "t.csv")[0]
    columns = {"answer": "Answer", "instruction": " instruction"}
    assert read("table", folder / "t.csv", columns=columns)[0].instruction == "make it red"
    with pytest.raises(EditkitError, match=r"has no instruction under ''"):
        read("table", folder / "t.csv", columns={"answer": "Answer", "instruction": ""})[0]
