"""The plan of a run, before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit.errors import EditkitError
from editkit.evaluation import planning
from editkit.evaluation.benchmarks import open_benchmark
from editkit.evaluation.settings import RunConfig
from tests.command_line import Cli, refused
from tests.evaluation import samples


def test_passes_and_hours(tmp_path: Path) -> None:
    data = samples.magicbrush(tmp_path)
    config = RunConfig(benchmark="magicbrush-multi", data=str(data), methods=["kontext"], steps=3, out="x")
    (found,) = planning.estimate_methods(config, open_benchmark("magicbrush-multi", data), "h100-80g")
    assert (found.items, found.passes) == (4, 12)
    assert found.flops is not None
    assert found.hours == pytest.approx(found.flops / (989e12 * 0.35) / 3600)
    (twice,) = planning.estimate_methods(
        RunConfig(benchmark="magicbrush-multi", data=str(data), methods=["kontext"], steps=6, out="x"),
        open_benchmark("magicbrush-multi", data),
    )
    assert twice.flops == pytest.approx(2 * found.flops)
    assert twice.hours is None
    with pytest.raises(EditkitError, match="no device called"):
        planning.estimate_methods(config, open_benchmark("magicbrush-multi", data), "h1000")


def test_dry_run_says_it_all_and_writes_nothing(tmp_path: Path, cli: Cli) -> None:
    data, out = samples.kontext(tmp_path / "data"), tmp_path / "run"
    told = cli(
        "eval", "run", "kontext-bench", "--data", data, "-m", "kontext", "-o", out, "--dry-run", "--on",
        "a100-80g", "--metrics", "preservation,cost",
    )  # fmt: skip
    assert (told.status, told.err) == (0, "")
    assert "kontext-bench: 3 items" in told.out
    assert "Text Editing: 1" in told.out
    assert "hours on a100-80g" in told.out
    assert "not planned" not in told.out
    assert not out.exists()


def test_a_plan_tells_of_items_whose_pictures_cannot_be_read(tmp_path: Path, cli: Cli) -> None:
    data = samples.kontext(tmp_path / "data")
    (data / "test" / "images" / "0001.jpg").unlink()
    plan = ("eval", "run", "kontext-bench", "--data", data, "-m", "kontext", "--metrics", "cost", "--dry-run")
    assert "\n1 items are not planned, as their pictures cannot be read\n" in cli(*plan).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["kontext-bnch", "-m", "kontext"], "did you mean 'kontext-bench'"),
        (["kontext-bench", "-m", "kontext"], "needs --data"),
        (["shapesworld", "-m", "kontext", "--data", "."], "leave --data out"),
        (["shapesworld"], "methods or results must name"),
        (["shapesworld", "-m", "kontext", "--metrics", "pixel"], "did you mean 'pixels'"),
        (["shapesworld", "-m", "kontext", "--limit", "0"], "limit must be at least 1"),
        (["shapesworld", "-m", "kontext", "--steps", "0"], "steps must be at least 1"),
        (["shapesworld", "-m", "kontext", "--results", "nowhere"], "no folder of results"),
        (["shapesworld", "-m", "kontext", "--shard", "2/2"], "give K/N"),
        (["shapesworld", "-m", "kontext,kontext"], "comes twice"),
        (["shapesworld", "-m", "kontext", "--on", "h100-80g"], "--on is for --dry-run"),
        (
            ["shapesworld", "-m", "kontext", "--dry-run", "--device", "nonsense"],
            "device 'nonsense' is unknown",
        ),
        (["shapesworld", "-m", "kontext", "--dry-run", "--device", "h100-80g"], "a GPU to plan for"),
        (["shapesworld", "-m", "kontext", "--dry-run", "--dtype", "float31"], "dtype 'float31' is unknown"),
        (["shapesworld", "-m", "kontext", "--metric-option", "lpips.net=alex"], "not among the metrics"),
    ],
)
def test_refusals(arguments: list[str], words: str, tmp_path: Path, cli: Cli) -> None:
    refused(cli("eval", "run", *arguments, "-o", tmp_path / "run"), words)


def test_a_run_as_yaml(tmp_path: Path, cli: Cli) -> None:
    data = samples.jsonl(tmp_path / "data")
    results = samples.copied_results(open_benchmark("jsonl", data), tmp_path / "theirs")
    path = tmp_path / "run.yaml"
    path.write_text(
        f"benchmark: jsonl\ndata: {data}\nresults: {{theirs: {results}}}\nmetrics: [pixels]\n"
        f"out: {tmp_path / 'run'}\n"
    )
    told = cli("eval", "run", path, "--limit", 3)
    assert (told.status, told.err) == (0, "")
    assert "theirs  3       0  l1" in told.out
    assert (tmp_path / "run" / "report.html").is_file()
    path.write_text(path.read_text() + "limt: 3\n")
    refused(cli("eval", "run", path), "did you mean 'limit'")


def test_a_plan_may_be_for_a_device_of_another_machine(tmp_path: Path, cli: Cli) -> None:
    plan = ("eval", "run", "shapesworld", "-m", "kontext", "--limit", 1, "--metrics", "pixels", "--dry-run")
    told = cli(*plan, "--device", "cuda:7", "--dtype", "bf16")
    assert (told.status, told.err) == (0, "")
