"""Readers of published layouts, on samples in exactly those layouts."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import BENCHMARKS, described, open_benchmark
from editkit.evaluation.metrics import METRICS
from editkit.evaluation.records import Item
from tests.command_line import Cli, one_sentence
from tests.evaluation import samples

EXPECTED = {
    "kontext-bench": (["key0", "key1", "key2"], "key1.png", "Text Editing"),
    "emu-edit": (["text_0", "color_1", "color_2"], "color_1.png", "color"),
    "gedit": (["en0", "en1", "en2"], "fullset/motion_change/en/en1.png", "motion_change"),
    "gedit-cn": (["cn0", "cn1", "cn2"], "fullset/motion_change/cn/cn1.png", "motion_change"),
    "gedit-v2": (["k0", "k1", "k2"], "k1.png", "oref"),
    "magicbrush": (["30-1", "139-1", "139-2", "139-3"], "139/139_1.png", ""),
    "magicbrush-multi": (["30-1", "139-1", "139-2", "139-3"], "139/139_1.png", ""),
    "imgedit": (["1000", "1001", "1002"], "1001.png", "background"),
    "imgedit-multi": (
        [f"content_memory-1-{n}" for n in (1, 2, 3)] + [f"version_backtracking-1-{n}" for n in (1, 2)],
        "content_memory/1_turn2.png",
        "content_memory",
    ),
}


@pytest.fixture(autouse=True)
def _hub_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("name", EXPECTED)
def test_published_layouts(name: str, tmp_path: Path) -> None:
    """Every item has its id, words, readable pictures and published name."""
    ids, published, category = EXPECTED[name]
    items, problems = samples.split(samples.opened(name, tmp_path))
    assert not problems
    assert [item.id for item in items] == ids
    assert items[1].published == published
    assert items[1].category == category
    assert all(item.instruction for item in items)
    for item in items:
        if item.source is not None:
            assert item.source.rgb().shape == (32, 48, 3)


def test_every_benchmark_names_known_metrics() -> None:
    for name in BENCHMARKS:
        assert set(described(name).metrics) <= METRICS.keys(), name


def test_kontext_source_is_the_picture_of_its_row(tmp_path: Path) -> None:
    items, _ = samples.split(samples.opened("kontext-bench", tmp_path))
    assert items[2].source is not None
    near = np.abs(items[2].source.rgb().astype(int) - np.asarray(samples.picture(2)).astype(int))
    assert near.mean() < 12  # a JPEG


def test_gedit_edits_the_raw_picture(tmp_path: Path) -> None:
    items, _ = samples.split(samples.opened("gedit", tmp_path))
    assert items[1].source is not None
    np.testing.assert_array_equal(items[1].source.rgb(), np.asarray(samples.picture(11)))
    assert items[1].fields["Intersection_exist"] is True


def test_emu_has_captions(tmp_path: Path) -> None:
    items, _ = samples.split(samples.opened("emu-edit", tmp_path))
    assert (items[1].source_caption, items[1].answer_caption) == ("a cat 1", "a dog 1")


def test_magicbrush_single_turns_start_from_true_answers(tmp_path: Path) -> None:
    items, _ = samples.split(samples.opened("magicbrush", tmp_path))
    third = items[3]
    assert third.published == "139/139_inde_3.png"
    assert third.source is not None
    assert third.answer is not None
    np.testing.assert_array_equal(third.source.rgb(), np.asarray(samples.picture(141)))
    np.testing.assert_array_equal(third.answer.rgb(), np.asarray(samples.picture(142)))
    assert (third.source_caption, third.answer_caption) == ("a room after 2", "a room after 3")
    inside = third.mask_HW(samples.SIZE)
    assert inside is not None
    assert inside.sum() == 8 * 16  # what its mask has erased
    assert inside[8:16, 8:24].all()


def test_magicbrush_multi_turns_go_on_from_results(tmp_path: Path) -> None:
    items, _ = samples.split(samples.opened("magicbrush-multi", tmp_path))
    assert [item.source is None for item in items] == [False, False, True, True]
    assert [item.last for item in items] == [True, False, False, True]
    assert items[3].published == "139/139_iter_3.png"
    assert items[0].published == "30/30_1.png"


def test_imgedit_multi_turns_are_sessions(tmp_path: Path) -> None:
    items, _ = samples.split(samples.opened("imgedit-multi", tmp_path))
    assert [item.turn for item in items] == [1, 2, 3, 1, 2]
    assert {item.session for item in items} == {"content_memory-1", "version_backtracking-1"}


def test_own_jsonl(tmp_path: Path) -> None:
    items, problems = samples.split(open_benchmark("jsonl", samples.jsonl(tmp_path)))
    assert not problems
    assert items[0].id == "item 0"
    assert items[0].stem.startswith("item_0-")
    inside = items[0].mask_HW(samples.SIZE)
    assert inside is not None
    assert inside.sum() == 16 * 26


def test_own_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        samples.saved(tmp_path / "answer" / f"{name}.png", 1)
        samples.saved(tmp_path / "source" / f"{name}.png", 2)
        (tmp_path / "answer" / f"{name}.txt").write_text(f"edit {name}")
    items, problems = samples.split(open_benchmark("folder", tmp_path))
    assert not problems
    assert [(item.id, item.instruction) for item in items] == [("a", "edit a"), ("b", "edit b")]
    assert items[0].answer is not None


def test_shapesworld_is_drawn() -> None:
    found = [item for item in open_benchmark("shapesworld").items(3) if isinstance(item, Item)]
    assert [item.id for item in found] == ["00000", "00001", "00002"]
    assert all(item.source and item.answer and item.source.rgb().shape == (128, 128, 3) for item in found)
    with pytest.raises(EditkitError, match="reads no data; leave --data out"):
        open_benchmark("shapesworld", ".")


def test_seeds_are_of_the_item_alone() -> None:
    first, second = Item(id="a", instruction="x"), Item(id="b", instruction="x")
    assert first.seed() == Item(id="a", instruction="y", category="z").seed()
    assert first.seed() != second.seed()
    assert first.seed(1) != first.seed()
    assert 0 <= first.seed() < 2**31


def test_contents_count_without_decoding(tmp_path: Path) -> None:
    path = samples.jsonl(tmp_path)
    for each in (tmp_path / "source").iterdir():
        each.write_bytes(b"no picture")
    found = open_benchmark("jsonl", path).contents()
    assert found.count == 4
    assert found.categories == {"even": 2, "odd": 2}
    assert found.digest != open_benchmark("jsonl", path).contents(3).digest


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
    assert "has a name that is no name of a folder" in problem.sentence


def test_a_mask_that_is_no_name_is_counted(tmp_path: Path) -> None:
    data = samples.magicbrush(tmp_path)
    told = json.loads((data / "edit_sessions.json").read_text())
    told["139"][1]["mask"] = 5
    (data / "edit_sessions.json").write_text(json.dumps(told))
    items, (problem,) = samples.split(open_benchmark("magicbrush", data))
    assert [item.id for item in items] == ["30-1", "139-1", "139-3"]
    assert problem.sentence.startswith("The turn 2 of session 139 of ")
    assert problem.sentence.endswith("has no mask.")


def test_datasets_draw_no_bars_without_a_terminal(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = importlib.import_module("datasets.utils.tqdm")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "0")  # the command sets it for good
    monkeypatch.setattr(bars, "HF_DATASETS_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setattr(bars, "_hf_datasets_progress_bars_disabled", False)
    data = samples.emu(tmp_path / "emu")
    plan = ("eval", "run", "emu-edit", "--data", data, "-m", "kontext", "--metrics", "cost", "--dry-run")
    told = cli(*plan)
    assert (told.status, told.err) == (0, "")


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


def test_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    samples.kontext(tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nreader: table\n"
        "options: {files: [test/metadata.jsonl], columns: {source: file_name}, id: '{key}'}\n"
    )
    items, _ = samples.split(open_benchmark(str(path), tmp_path))
    assert [item.id for item in items] == ["key0", "key1", "key2"]
    path.write_text("name: own\nreader: tabel\n")
    with pytest.raises(EditkitError, match="did you mean 'table'"):
        open_benchmark(str(path), tmp_path)


def test_a_wrong_row_of_a_table_is_counted(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(
        b"id,source,instruction\na,a.png,x\nb,b.png\nc,c.png,\xe9\nd,d.png,x\n"
    )
    (tmp_path / "own.yaml").write_text("name: own\nreader: table\noptions: {layout: table, id: '{id}'}\n")
    items, problems = samples.split(open_benchmark(str(tmp_path / "own.yaml"), tmp_path / "own.csv"))
    assert [item.id for item in items] == ["a", "d"]
    assert ["2 cells" in problems[0].sentence, "UTF-8" in problems[1].sentence] == [True, True]
