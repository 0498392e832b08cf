"""Failures of a run: each named and counted, and tried again by the next call."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.evaluation import runner
from editkit.evaluation.report import frame
from editkit.evaluation.settings import RunConfig
from tests.command_line import Cli
from tests.evaluation import samples
from tests.evaluation.finished import done, table


def test_missing_results_are_failures_of_their_method(existing: RunConfig) -> None:
    missing = Path(existing.results["theirs"]) / "item 3.png"
    missing.rename(missing.with_suffix(".webp"))  # another format of the same name is found
    (Path(existing.results["theirs"]) / "item 5.png").unlink()
    (Path(existing.results["theirs"]) / "item 7.png").write_bytes(b"damaged")
    found = frame.read_frame(done(existing))
    assert {row.item["id"]: row.error for row in found.rows if row.error} == {
        "item 5": "There is no result at item 5.png.",
        "item 7": pytest.approx(found.rows[7].error),
    }
    assert "item 7" in str(found.rows[7].error)
    assert found.failures("theirs") == 2


def test_unreadable_pictures_of_the_benchmark_are_named(existing: RunConfig) -> None:
    (Path(str(existing.data)).parent / "answer" / "2.png").write_bytes(b"x")
    found = frame.read_frame(done(existing))
    assert [row.item["id"] for row in found.rows if row.error] == ["item 2"]
    assert "answer of row 2" in str(found.rows[2].error)


def test_a_method_without_any_score_stands_in_the_table(existing: RunConfig, cli: Cli) -> None:
    for each in (Path(str(existing.data)).parent / "source").iterdir():
        each.unlink()
    told = cli("eval", "report", done(existing).path, "--quiet")
    assert (told.status, told.err) == (0, "")
    assert re.search(r"^theirs +40 +40 +–$", told.out, re.MULTILINE)  # noqa: RUF001


def test_a_name_too_long_for_a_file_is_a_missing_result(existing: RunConfig) -> None:
    data = Path(str(existing.data))
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    lines[1]["id"] = "x" * 400
    data.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = frame.read_frame(done(existing))
    assert [row.item["id"] for row in found.rows if row.error] == ["x" * 400]


def test_failures_of_edits_are_logged(random_flux, tmp_path: Path) -> None:
    data = samples.magicbrush(tmp_path / "mb")
    (data / "images" / "139" / "139-input.png").write_bytes(b"x")
    config = RunConfig(
        benchmark="magicbrush-multi", data=str(data), methods=["kontext"], steps=1, metrics=["pixels"],
        out=str(tmp_path / "run"),
    )  # fmt: skip
    found = frame.read_frame(done(config, lambda: Editor(random_flux)))
    errors = {row.item["id"]: row.error for row in found.rows}
    assert errors["30-1"] is None
    assert "source of turn 1" in str(errors["139-1"])
    assert errors["139-2"] == errors["139-3"] == "The turn before has no picture to go on from."


def test_failures_are_tried_again(existing: RunConfig) -> None:
    """A result that was missing, and an answer that could not be read; the same failure is logged once."""
    whole = table(done(replace(existing, out=f"{existing.out}-whole")))
    theirs, answers = Path(existing.results["theirs"]), Path(str(existing.data)).parent / "answer"
    kept = {path: path.read_bytes() for path in (theirs / "item 5.png", answers / "2.png")}
    (theirs / "item 5.png").unlink()
    (answers / "2.png").write_bytes(b"x")
    assert runner.failed(existing) == 0
    folder = done(existing)
    assert runner.failed(existing) == 2
    assert table(done(existing)) == table(folder)
    assert sum(edit.error is not None for edit in folder.edits().values()) == 1
    assert len((folder.path / "logs" / "edits-0.jsonl").read_text().splitlines()) == 40
    for path, data in kept.items():
        path.write_bytes(data)
    assert table(done(existing)) == whole
    assert runner.failed(existing) == 0


def test_a_result_that_was_scored_must_not_change(existing: RunConfig) -> None:
    """Its old figures would stand for the new picture. One that could not be read has none."""
    theirs = Path(existing.results["theirs"])
    damaged, other = theirs / "item 2.png", theirs / "item 5.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"x")
    folder = done(existing)
    before, log = table(folder), folder.path / "logs" / "edits-0.jsonl"
    log.rename(log.with_name("edits-1.jsonl"))  # of another process, which is read last
    damaged.write_bytes(whole)
    folder = done(existing)
    assert table(done(existing)) == table(folder)
    assert frame.read_frame(folder).failures("theirs") == 0
    assert table(folder) != before
    other.write_bytes(whole)
    with pytest.raises(EditkitError, match=r"result of item 5 .* has changed since .* choose another --out"):
        done(existing)
    other.unlink()
    assert table(done(existing)) == table(folder)


def test_failed_edits_are_tried_again(random_flux, tmp_path: Path) -> None:
    """The failed ones alone, and the turns that had nothing to go on from."""
    data = samples.magicbrush(tmp_path / "mb")
    source = data / "images" / "139" / "139-input.png"
    whole = source.read_bytes()
    source.write_bytes(b"x")
    config = RunConfig(
        benchmark="magicbrush-multi", data=str(data), methods=["kontext"], steps=1, metrics=["pixels"],
        out=str(tmp_path / "run"),
    )  # fmt: skip
    folder = done(config, lambda: Editor(random_flux))
    first = (folder.path / folder.edits()["kontext", "30-1"].picture).stat().st_mtime_ns
    assert runner.failed(config) == 3
    source.write_bytes(whole)
    found = frame.read_frame(done(config, lambda: Editor(random_flux)))
    assert [row.error for row in found.rows] == [None] * 4
    assert all("l1" in row.values for row in found.rows)
    assert (folder.path / folder.edits()["kontext", "30-1"].picture).stat().st_mtime_ns == first


def test_a_failed_drawing_is_tried_again_on_its_own(random_flux, tmp_path: Path) -> None:
    """It has no source, and gets none of the pictures that are there."""
    data = tmp_path / "own.jsonl"
    data.write_text("".join(f"{json.dumps({'id': name, 'instruction': name})}\n" for name in "abc"))
    config = RunConfig(
        benchmark="text-to-image", data=str(data), methods=["kontext"], steps=1, batch_size=3,
        metrics=["source-pixels", "cost"], out=str(tmp_path / "run"),
    )  # fmt: skip
    folder = done(config, lambda: Editor(random_flux))
    picture = folder.path / folder.edits()["kontext", "b"].picture
    picture.unlink()
    log = folder.path / "logs" / "edits-0.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1] |= {"error": "There is too little memory.", "picture": "", "cost": {}}
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert runner.failed(config) == 1
    found = frame.read_frame(done(config, lambda: Editor(random_flux)))
    assert [row.error for row in found.rows] == [None] * 3
    recipe = json.loads(Image.open(picture).text["editkit"])
    assert recipe["source_sha256"] is None


@pytest.mark.parametrize("lost", ["30-1", "139-2"])
def test_lost_pictures_are_made_again(lost: str, random_flux, tmp_path: Path) -> None:
    """Of a single turn, and of one in the middle of a session; scores stay, since the picture is the same."""
    config = RunConfig(
        benchmark="magicbrush-multi", data=str(samples.magicbrush(tmp_path / "mb")), methods=["kontext"],
        steps=1, metrics=["pixels"], out=str(tmp_path / "run"),
    )  # fmt: skip
    folder = done(config, lambda: Editor(random_flux))
    before = table(folder)
    picture = folder.path / folder.edits()["kontext", lost].picture
    data = picture.read_bytes()
    picture.unlink()
    assert table(done(config, lambda: Editor(random_flux))) == before
    assert picture.read_bytes() == data
    assert runner.failed(config) == 0


def test_a_run_whose_method_has_failures_alone_is_an_error(tmp_path: Path, cli: Cli) -> None:
    """Its report is written first; one result that is there is enough for status 0. A shard has no report."""
    data = samples.jsonl(tmp_path / "data", 2)
    results = samples.copied_results(runner.open_benchmark("jsonl", data), tmp_path / "theirs", 9)
    run = ("eval", "run", "jsonl", "--data", data, "--results", results, "--metrics", "pixels", "-o")
    kept = {path: path.read_bytes() for path in results.glob("*.png")}
    for path in kept:
        path.write_bytes(b"damaged")
    told = cli(*run, tmp_path / "run")
    assert told.status == 2
    assert "editkit: All results of theirs failed (item 0: " in told.err
    assert (tmp_path / "run" / "report.html").is_file()
    told = cli(*run, tmp_path / "shards", "--shard", "0/2")
    assert told.status == 2
    assert "editkit: All results of theirs failed (item 0: " in told.err
    path, whole = next(iter(kept.items()))
    path.write_bytes(whole)
    assert cli(*run, tmp_path / "run").status == 0
