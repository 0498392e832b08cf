"""Readers of published layouts, on samples in exactly those layouts."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import BENCHMARKS, described, open_benchmark
from editkit.evaluation.metrics import METRICS
from editkit.evaluation.records import Item
from tests.command_line import Cli
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
