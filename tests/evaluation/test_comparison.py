"""Paired differences of runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from editkit.backbone import Backbone
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.evaluation.comparison import compare, regressions
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests.command_line import Cli, refused
from tests.evaluation import samples
from tests.evaluation.finished import done, scored


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compared")
    samples.jsonl(folder / "data", 8)
    return tuple(scored(folder, "jsonl", {"m": change}, ["pixels"]).path for change in (3, 30))  # type: ignore[return-value]


def test_a_worse_run_is_found(runs: tuple[Path, Path]) -> None:
    found = {each.column: each for each in compare(*runs)}
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(found, "worse")
    l1 = found["l1"]
    assert l1.change.mean == pytest.approx(l1.second - l1.first)
    assert l1.change.n == 8
    assert l1.enough
    assert len(regressions(list(found.values()))) == len(found)
    assert not regressions([l1], tolerance=100)


@pytest.mark.parametrize("turns", [1, 2])
def test_fewer_than_six_items_or_sessions_are_unclear(turns: int, tmp_path: Path, cli: Cli) -> None:
    """Though all four are worse: so few are all worse by chance too often."""
    data = samples.jsonl(tmp_path / "data", 4 * turns)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["session"] = str(number // turns)
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    first, second = (scored(tmp_path, "jsonl", {"m": change}, ["pixels"]).path for change in (3, 30))
    found = compare(first, second)
    assert {each.verdict for each in found} == {"unclear"}
    assert not any(each.enough for each in found)
    told = cli("eval", "compare", first, second, "--columns", "l1")
    assert told.status == 0
    assert f"needs about {6 * turns}" in told.out


def test_the_other_way_round_it_is_better(runs: tuple[Path, Path]) -> None:
    found = compare(*reversed(runs))
    assert {each.verdict for each in found} == {"better"}
    assert not regressions(found)


def test_a_run_does_not_differ_from_itself(runs: tuple[Path, Path]) -> None:
    (found,) = compare(runs[0], runs[0], columns=["l1"])
    assert found.verdict == "unclear"
    assert not found.enough


def test_what_is_not_shared_is_refused(runs: tuple[Path, Path]) -> None:
    with pytest.raises(EditkitError, match="Not both runs have the column 'lpips'; they share l1"):
        compare(*runs, columns=["lpips"])
    with pytest.raises(EditkitError, match="There is no method 'x' in the run; it has m"):
        compare(*runs, methods=["m=x"])


def test_exit_status_is_a_gate(runs: tuple[Path, Path], cli: Cli) -> None:
    worse = cli("eval", "compare", *runs)
    assert (worse.status, worse.err) == (1, "")
    assert "worse: l1 of m" in worse.out
    assert cli("eval", "compare", *runs, "--tolerance", "100").status == 0
    same = cli("eval", "compare", runs[0], runs[0])
    assert same.status == 0
    assert "no figure is surely worse" in same.out
    assert cli("eval", "compare", runs[0], runs[0].parent).status == 2


def shapes(out: Path, limit: int) -> RunConfig:
    return RunConfig(
        benchmark="shapesworld", methods=["kontext"], limit=limit, steps=1, metrics=["pixels", "cost"],
        out=str(out),
    )  # fmt: skip


def test_a_repeated_run_is_not_worse_by_its_costs(tmp_path: Path, tiny: Backbone, cli: Cli) -> None:
    """The same edits took more time and memory: both are surely worse, and only judged where asked for."""
    first = done(shapes(tmp_path / "first", 6), lambda: Editor(tiny)).path
    second = Path(shutil.copytree(first, tmp_path / "second"))
    log = second / "logs" / "scores-0.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        line["scores"]["cost"]["values"] |= {"seconds": 900.0, "peak_gb": 900.0}
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    told = cli("eval", "compare", first, second)
    assert told.status == 0, told
    assert "no figure is surely worse; costs (seconds, steps, tokens, tflops, peak_gb) are judged" in told.out
    assert "worse (cost)" in told.out
    asked = cli("eval", "compare", first, second, "--columns", "l1,seconds")
    assert asked.status == 1
    assert asked.out.endswith("worse: seconds of kontext\n")
    found = {each["column"]: each for each in json.loads(cli("eval", "compare", first, second, "--json").out)}
    assert (found["seconds"]["verdict"], found["seconds"]["judged"]) == ("worse", False)
    assert not found["seconds"]["regression"]
    assert found["l1"]["judged"]


def test_other_items_fail_the_gate(runs: tuple[Path, Path], tmp_path: Path, cli: Cli) -> None:
    config = {**RunFolder(runs[0]).settings["config"], "out": str(tmp_path / "seven"), "limit": 7}
    fewer = done(RunConfig(**config)).path
    for pair in ((runs[0], fewer), (fewer, runs[0])):
        told = cli("eval", "compare", *pair, "--quiet")
        assert told.status == 1
        assert "no figure is surely worse" in told.out
        assert told.err == (
            f"editkit: The run in {fewer} lacks 1 of the 8 items of {runs[0]}, such as 'item 7'; "
            "run both on the same items, or give --shared-items.\n"
        )
    allowed = cli("eval", "compare", runs[0], fewer, "--shared-items")
    assert (allowed.status, allowed.err) == (0, "")


def measured_otherwise(run: Path, out: Path, key: str, value: str) -> Path:
    """A copy of a run whose metric pixels depends on something else."""
    shutil.copytree(run, out)
    settings = RunFolder(out).settings
    settings["metrics"]["pixels"]["depends on"][key] = value
    (out / "run.json").write_text(json.dumps(settings))
    return out


def test_figures_of_one_name_must_be_measured_alike(
    runs: tuple[Path, Path], tmp_path: Path, cli: Cli
) -> None:
    other = measured_otherwise(runs[0], tmp_path / "other", "resize", "by nearest pixels")
    refused(
        cli("eval", "compare", runs[0], other),
        "l1, l2, psnr, ssim cannot be compared, since pixels has another resize: .* by nearest pixels in ",
    )
    refused(
        cli("eval", "compare", runs[0], other, "--columns", "l1", "--shared-items"), "l1 cannot be compared"
    )
    assert cli("eval", "compare", runs[0], other, "--columns", "failed").status == 0


def test_two_versions_of_a_library_are_told(runs: tuple[Path, Path], tmp_path: Path, cli: Cli) -> None:
    other = measured_otherwise(runs[0], tmp_path / "other", "library", "torchmetrics 0.1")
    told = cli("eval", "compare", runs[0], other)
    assert told.status == 0
    assert re.fullmatch(
        r"note: l1, l2, psnr, ssim come from two versions: torchmetrics \S+ and torchmetrics 0.1\n", told.err
    )


def test_what_is_named_twice_is_compared_once(runs: tuple[Path, Path]) -> None:
    assert len(compare(*runs, methods=["m", "m=m"], columns=["l1", "l1"])) == 1


def test_failures_are_compared_too(tmp_path: Path, cli: Cli) -> None:
    """A run whose results are missing is worse, though the figures of the others are the same."""
    samples.jsonl(tmp_path / "good" / "data", 8)
    good = scored(tmp_path / "good", "jsonl", {"m": 3}, ["pixels"]).path
    results = Path(RunFolder(good).settings["results"]["m"])
    for each in sorted(results.glob("*.png"))[1:]:
        each.unlink()
    config = {**RunFolder(good).settings["config"], "out": str(tmp_path / "bad")}
    bad = done(RunConfig(**config)).path
    found = {each.column: each for each in compare(good, bad, columns=["l1"])}
    assert found["l1"].verdict == "unclear"
    assert (found["failed"].first, found["failed"].second) == (0, 7 / 8)
    assert found["failed"].verdict == "worse"
    assert compare(good, bad, columns=["failed"]) == [found["failed"]]
    told = cli("eval", "compare", good, bad)
    assert told.status == 1
    assert "worse: failed of m" in told.out
    assert "failed" not in cli("eval", "compare", good, good).out


def test_runs_without_most_pictures_are_not_comparable(tmp_path: Path, cli: Cli) -> None:
    """Both lack the same ones, so that the share of failures is no worse."""
    first = scored(tmp_path / "first", "jsonl", {"m": 3}, ["pixels"]).path
    results = Path(RunFolder(first).settings["results"]["m"])
    for each in sorted(results.glob("*.png"))[1:]:
        each.unlink()
    config = {**RunFolder(first).settings["config"], "out": str(tmp_path / "few")}
    few = done(RunConfig(**config)).path
    told = cli("eval", "compare", few, few)
    assert told.status == 1
    assert (
        "l1 of m rests on 1 of 4 items, since 3 lack a score in one run or both; run again what failed"
        in told.err
    )


def test_failures_can_be_asked_for_alone(runs: tuple[Path, Path]) -> None:
    (found,) = compare(*runs, columns=["failed"])
    assert (found.column, found.first, found.second, found.change.n) == ("failed", 0, 0, 8)
    assert found.verdict == "unclear"


@pytest.mark.parametrize(
    ("log", "lines", "there"),
    [
        ("edits", 2, "2 of 8 results"),
        ("scores", 2, "2 of 8 scores of pixels"),
        ("scores", 0, "0 of 8 scores"),
    ],
)
def test_half_a_run_is_not_compared(
    log: str, lines: int, there: str, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    half = Path(shutil.copytree(runs[0], tmp_path / "half"))
    path = half / "logs" / f"{log}-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    for pair in ((runs[0], half), (half, runs[0])):
        with pytest.raises(EditkitError, match=f"half is not finished: m has {there}"):
            compare(*pair)
