"""Runs: the same table however they are stopped and shared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.backbone import Backbone
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.evaluation import planning, runner
from editkit.evaluation.chunks import Share
from editkit.evaluation.metrics.base import NEITHER, Column
from editkit.evaluation.records import Case, Scores
from editkit.evaluation.report import frame
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig, Variant
from tests.command_line import copied
from tests.evaluation import samples
from tests.evaluation.finished import PIXELS, done, quiet, table, unused


class StoppedError(Exception):
    pass


def test_results_made_elsewhere(existing: RunConfig) -> None:
    folder = done(existing)
    found = frame.read_frame(folder)
    assert len(found.rows) == 40
    for row in found.rows:
        assert row.error is None
        assert 0 < row.values["l1"] <= 9 / 255 + 1e-6
    assert not (folder.path / "pictures").exists()


def test_a_stopped_run_goes_on(existing: RunConfig, tmp_path: Path) -> None:
    """StoppedError after each chunk of each phase in turn; nothing is scored twice, nothing is lost."""
    whole = table(done(existing))
    broken = replace(existing, out=str(tmp_path / "broken"))
    for _ in range(3):
        left = [1]

        def phase(label: str, total: int, left: list[int] = left) -> Callable[[int], None]:
            def count(more: int) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise StoppedError

            return count

        with pytest.raises(StoppedError):
            done(broken, phase=phase)
    folder = done(broken)
    assert table(folder) == whole
    lines = [(line["method"], line["item"]) for line in folder.scores()]
    assert len(lines) == len(set(lines)) == 40


def test_half_a_line_does_not_count(existing: RunConfig) -> None:
    folder = done(existing)
    whole = table(folder)
    log = folder.path / "logs" / "scores-0.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert len(list(folder.scores())) == 39
    assert table(done(existing)) == whole
    assert len(log.read_text().splitlines()) == 40


@pytest.fixture
def damaged(finished: RunConfig, tmp_path: Path) -> RunConfig:
    """A copy of it that a test damages."""
    return replace(finished, out=str(copied(Path(finished.out), tmp_path / "damaged")))


@pytest.mark.parametrize("damage", ["{x", "3", '{"method": 3}', '{"id": "a", "category": "", "session": ""}'])
@pytest.mark.parametrize("name", ["logs/edits-0", "logs/scores-0", "items"])
def test_a_damaged_line_is_named(name: str, damage: str, damaged: RunConfig) -> None:
    path = Path(damaged.out) / f"{name}.jsonl"
    path.write_text(f"{path.read_text()}{damage}\n")
    with pytest.raises(EditkitError, match=f"Line 41 of .*{name}.jsonl is damaged; delete this line"):
        frame.read_frame(RunFolder(damaged.out))


@pytest.mark.parametrize("written", ["[]", "{}", '{"methods": []}', "metrics", "contents"])
def test_settings_that_no_run_wrote_are_named(written: str, damaged: RunConfig) -> None:
    path = Path(damaged.out) / "run.json"
    if written in ("metrics", "contents"):
        written = json.dumps({**json.loads(path.read_text()), written: []})
    path.write_text(written)
    for act in (lambda: frame.read_frame(RunFolder(damaged.out)), lambda: done(damaged)):
        with pytest.raises(EditkitError, match=r"run\.json is not as a run writes it"):
            act()


def test_shares_give_the_table_of_one_process(existing: RunConfig, tmp_path: Path) -> None:
    whole = table(done(existing))
    shared = replace(existing, out=str(tmp_path / "shared"))
    for rank in range(3):
        folder = done(shared, share=Share(rank=rank, world=3))
    assert table(folder) == whole
    assert len(list((folder.path / "logs").glob("scores-*.jsonl"))) == 3


def test_metrics_can_be_added_later(existing: RunConfig) -> None:
    done(existing)
    folder = done(replace(existing, metrics=[*PIXELS, "source-pixels"]))
    found = frame.read_frame(folder)
    assert all({"l1", "source_l1", "outside"} <= row.values.keys() for row in found.rows)
    lines = list(folder.scores())
    assert [set(line["scores"]) for line in lines[40:]] == [{"source-pixels"}] * 40


def test_memory_does_not_grow_with_the_items(tmp_path: Path) -> None:
    """Pictures are dropped after their chunk: what stays is some hundred bytes an item."""
    import tracemalloc

    peaks = []
    for count in (20, 120):
        data = samples.jsonl(tmp_path / str(count), count)
        results = samples.copied_results(runner.open_benchmark("jsonl", data), tmp_path / f"r{count}")
        config = RunConfig(
            benchmark="jsonl", data=str(data), results={"r": str(results)}, metrics=["pixels"],
            out=str(tmp_path / f"run{count}"),
        )  # fmt: skip
        prepared = runner.prepare(config)
        tracemalloc.start()
        runner.run(prepared, unused, quiet)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 100 * 8_000


class FromTheStart:
    """How far results are from the picture that their session began with."""

    name, parallel = "from the start", True
    columns = (Column(name="from_start", better=NEITHER, meaning="mean difference of levels"),)

    def describe(self) -> dict[str, str]:
        return {}

    def score(self, case: Case) -> Scores:
        assert case.first is not None
        return Scores(values={"from_start": float(np.abs(case.result.astype(int) - case.first).mean())})


@pytest.mark.parametrize("name", ["magicbrush", "magicbrush-multi"])
def test_every_turn_is_compared_with_the_start_of_its_session(name: str, tmp_path: Path) -> None:
    """A turn that has a source of its own, too, as all have in MagicBrush's single turns."""
    data = samples.magicbrush(tmp_path / "mb")
    items, _ = samples.split(benchmark := runner.open_benchmark(name, data))
    results = samples.copied_results(benchmark, tmp_path / "theirs")
    for item in items:  # of every turn, what its session began with
        shutil.copy(data / "images" / item.session / f"{item.session}-input.png", results / item.published)
    config = RunConfig(
        benchmark=name, data=str(data), results={"theirs": str(results)}, metrics=["pixels"],
        out=str(tmp_path / "run"),
    )  # fmt: skip
    found = runner.run(replace(runner.prepare(config), metrics=[FromTheStart()]), unused, quiet)
    assert [row.values["from_start"] for row in frame.read_frame(found).rows] == [0] * 4


def test_metrics_that_are_absent_are_left_out(existing: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = runner.prepare(
        replace(existing, metrics=["pixels", "clip"], metric_options={"clip": {"model": "nobody/nothing"}})
    )
    assert [metric.name for metric in prepared.metrics] == ["pixels"]
    assert "nobody/nothing is not on this machine" in prepared.left_out["clip"]
    with pytest.raises(EditkitError, match="None of the metrics can be used"):
        runner.prepare(
            replace(existing, metrics=["clip"], metric_options={"clip": {"model": "nobody/nothing"}})
        )


def test_methods_edit_with_a_seed_of_the_item(random_flux, tmp_path: Path) -> None:
    """Pictures, costs and turns: a later turn starts from the result before it."""
    data = samples.magicbrush(tmp_path / "mb")
    config = RunConfig(
        benchmark="magicbrush-multi", data=str(data), methods=["kontext"], steps=1, batch_size=2,
        metrics=["pixels", "preservation", "cost"], out=str(tmp_path / "run"),
    )  # fmt: skip
    folder = done(config, lambda: Editor(random_flux))
    found = frame.read_frame(folder)
    assert [row.error for row in found.rows] == [None] * 4
    second = next(row for row in found.rows if row.item["id"] == "139-2")
    recipe = json.loads(Image.open(folder.path / second.picture).text["editkit"])
    items, _ = samples.split(runner.open_benchmark("magicbrush-multi", data))
    assert recipe["seed"] == items[2].seed()
    assert second.values["steps"] == 1
    assert second.values["seconds"] > 0
    again = done(replace(config, out=str(tmp_path / "again")), lambda: Editor(random_flux))
    for row in found.rows:
        np.testing.assert_array_equal(
            np.asarray(Image.open(folder.path / row.picture)),
            np.asarray(Image.open(again.path / row.picture)),
        )


def test_text_to_image_and_sessions_of_ones_own(tmp_path: Path, random_flux: Backbone) -> None:
    """A row without a source is drawn from its words, and a later turn edits what was drawn."""
    data = tmp_path / "own.jsonl"
    rows = [
        {"id": "a", "instruction": "a red square"},
        {"id": "b1", "instruction": "a blue square", "session": "b"},
        {"id": "b2", "instruction": "make it green", "session": "b"},
    ]
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = RunConfig(
        benchmark="text-to-image", data=str(data), methods=["kontext"], steps=1, backbone="tiny",
        metrics=["source-pixels", "cost"], out=str(tmp_path / "run"),
    )  # fmt: skip
    (needs,) = planning.estimate_methods(config, runner.open_benchmark("text-to-image", data))
    assert (needs.items, needs.passes) == (3, None)
    folder = done(config, lambda: Editor(random_flux))
    found = frame.read_frame(folder)
    assert [row.error for row in found.rows] == [None] * 3
    assert ["source_l1" in row.values for row in found.rows] == [False, False, True]
    drawn = folder.edits()["kontext", "a"]
    recipe = json.loads(Image.open(folder.path / drawn.picture).text["editkit"])
    assert recipe["source_sha256"] is None


def test_variants_have_fields_of_requests(tmp_path: Path, random_flux: Backbone) -> None:
    config = RunConfig(
        benchmark="shapesworld", limit=2, methods=["kontext", "fast"], steps=2, metrics=["cost"],
        variants={"fast": Variant(method="kontext", request={"speed": "full_steps=1,region=false"})},
        request={"align": True, "guidance": 2.0}, out=str(tmp_path / "run"),
    )  # fmt: skip
    folder = done(config, lambda: Editor(random_flux))
    recipes = {
        method: json.loads(Image.open(folder.path / edit.picture).text["editkit"])
        for (method, _), edit in folder.edits().items()
    }
    assert {name: (each["align"], each["guidance"]) for name, each in recipes.items()} == {
        "kontext": (True, 2.0), "fast": (True, 2.0),
    }  # fmt: skip
    assert recipes["kontext"]["speed"] == "exact"
    assert recipes["fast"]["speed"].startswith("full_steps=1,")
    counted = {row.method: "tflops" in row.values for row in frame.read_frame(folder).rows}
    assert counted == {"kontext": True, "fast": False}
