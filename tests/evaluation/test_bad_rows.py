"""Rows and files that are no benchmark: counted, named, or refused."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import BenchmarkConfig, open_benchmark, table
from editkit.evaluation.records import Item
from tests.command_line import one_sentence
from tests.evaluation import samples


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    """Unreadable lines, empty fields, and ids that come twice are problems; good rows stay."""
    path = samples.jsonl(tmp_path)
    good = path.read_text().splitlines()
    bad = [
        "no json",
        "[1]",
        json.dumps({"id": "x", "source": "", "instruction": "y"}),
        json.dumps({"id": "x", "source": "a.png", "instruction": " "}),
        json.dumps({"source": "a.png", "instruction": "y"}),
        json.dumps({"id": "../x", "source": "a.png", "instruction": "y"}),
        json.dumps({"id": "x\ud800", "source": "a.png", "instruction": "y"}),
        good[0],
    ]
    path.write_text("\n".join([*good[:2], *bad, *good[2:]]) + "\n")
    items, problems = samples.split(open_benchmark("jsonl", path))
    assert [item.id for item in items] == [f"item {n}" for n in range(4)]
    assert [problem.kind for problem in problems] == [
        *["unreadable row"] * 2,
        *["empty field"] * 4,
        "unreadable row",
        "duplicate id",
    ]
    for problem in problems:
        one_sentence(problem.sentence)
    assert problems[6].sentence == "The id 'x' holds characters that are not Unicode; remove them."
    found = open_benchmark("jsonl", path).contents()
    assert found.problems == {"unreadable row": 3, "empty field": 4, "duplicate id": 1}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("turn", "9" * 5000, "no whole number from 1 to 1,000,000"),
        ("turn", 10**25, "no whole number from 1 to 1,000,000"),
        ("turn", 0, "no whole number"),
        ("words", {"open": 1}, "words of row 1 .* is no text"),
        ("words", [["open"]], "no list of texts"),
    ],
)
def test_cells_of_a_wrong_kind_are_counted(field: str, value: Any, words: str, tmp_path: Path) -> None:
    path = samples.jsonl(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1] |= {"session": "s", field: value}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    items, (problem,) = samples.split(open_benchmark("jsonl", path))
    assert [item.id for item in items] == ["item 0", "item 2", "item 3"]
    assert problem.kind == "empty field"
    one_sentence(problem.sentence)
    assert re.search(words, problem.sentence)


@pytest.mark.parametrize("session", ["../139", "a/b", "", ".."])
def test_sessions_that_name_no_folder_are_counted(session: str, tmp_path: Path) -> None:
    data = samples.magicbrush(tmp_path)
    told = json.loads((data / "edit_sessions.json").read_text())
    (data / "edit_sessions.json").write_text(json.dumps({"30": told["30"], session: told["139"]}))
    items, (problem,) = samples.split(open_benchmark("magicbrush", data))
    assert [item.id for item in items] == ["30-1"]
    assert "has a name that no folder can have" in problem.sentence


def test_a_mask_that_is_no_name_is_counted(tmp_path: Path) -> None:
    data = samples.magicbrush(tmp_path)
    told = json.loads((data / "edit_sessions.json").read_text())
    told["139"][1]["mask"] = 5
    (data / "edit_sessions.json").write_text(json.dumps(told))
    items, (problem,) = samples.split(open_benchmark("magicbrush", data))
    assert [item.id for item in items] == ["30-1", "139-1", "139-3"]
    assert problem.sentence.startswith("The turn 2 of session 139 of ")
    assert problem.sentence.endswith("has no mask.")


def test_words_may_be_a_number(tmp_path: Path) -> None:
    path = samples.jsonl(tmp_path, 3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line, words in zip(lines, (7, ["open", 24], None), strict=True):
        line["words"] = words
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    items, _ = samples.split(open_benchmark("jsonl", path))
    assert [item.words for item in items] == [("7",), ("open", "24"), ()]


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        ("jsonl", {"items.jsonl": '{"id": "a", "picture": "b"}\n'}, "has no column 'source'"),
        ("jsonl", {"items.jsonl": ""}, "has no items"),
        ("jsonl", {"items.jsonl": "x\n"}, "1 rows are bad; the first: Line 1"),
        ("kontext-bench", {"other.txt": ""}, "none of test/metadata.jsonl"),
        ("magicbrush", {"edit_sessions.json": "[]"}, "no JSON object"),
        ("magicbrush", {}, "There is no .*edit_sessions.json"),
        ("magicbrush", {"edit_sessions.json": '{"1": [{"input": "a"}]}'}, "has no output"),
        ("imgedit", {"basic_edit.json": "{"}, "is not JSON"),
        ("imgedit", {"basic_edit.json": '{"1": {"id": "a", "prompt": "b"}}'}, "has no edit_type"),
        ("imgedit-multi", {"a.json": '{"1": {"id": "a", "turn2": "b"}}'}, "no turns from turn1 on"),
        ("imgedit-multi", {}, "no JSON files"),
    ],
)
def test_data_that_are_no_benchmark_are_refused(
    name: str, files: dict[str, str], words: str, tmp_path: Path
) -> None:
    for path, text in files.items():
        (tmp_path / path).write_text(text)
    data = tmp_path / next(iter(files)) if name == "jsonl" else tmp_path
    with pytest.raises(EditkitError, match=words) as told:
        open_benchmark(name, data).contents()
    one_sentence(str(told.value))


def test_a_wrong_row_of_a_table_is_counted(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(
        b"id,source,instruction\na,a.png,x\nb,b.png\nc,c.png,\xe9\nd,d.png,x\n"
    )
    (tmp_path / "own.yaml").write_text("name: own\nreader: table\noptions: {layout: table, id: '{id}'}\n")
    items, problems = samples.split(open_benchmark(str(tmp_path / "own.yaml"), tmp_path / "own.csv"))
    assert [item.id for item in items] == ["a", "d"]
    assert ["2 cells" in problems[0].sentence, "UTF-8" in problems[1].sentence] == [True, True]


def test_members_of_a_shard_are_text_whatever_they_end_in(tmp_path: Path) -> None:
    picture = samples.saved(tmp_path / "source.png", 3).read_bytes()
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for part, data in (("source.png", picture), ("prompt", b"edit it"), ("cls", b"3\n")):
            member = tarfile.TarInfo(f"0.{part}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    columns = {"source": "source.png", "instruction": "prompt", "category": "cls"}
    config = BenchmarkConfig(
        name="mine", reader="table", options={"layout": "webdataset", "columns": columns}
    )
    (item,) = table.items(config, tmp_path / "0.tar")
    assert isinstance(item, Item)
    assert (item.instruction, item.category) == ("edit it", "3")
