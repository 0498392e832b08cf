"""Paired differences of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from editkit.errors import EditkitError
from editkit.evaluation.comparison import compare, regressions
from tests.command_line import Cli
from tests.evaluation.finished import scored


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compared")
    return tuple(scored(folder, "jsonl", {"m": change}, ["pixels"]).path for change in (3, 30))  # type: ignore[return-value]


def test_a_worse_run_is_found(runs: tuple[Path, Path]) -> None:
    found = {each.column: each for each in compare(*runs)}
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(found, "worse")
    l1 = found["l1"]
    assert l1.change.mean == pytest.approx(l1.second - l1.first)
    assert l1.change.n == 4
    assert l1.enough
    assert len(regressions(list(found.values()))) == len(found)
    assert not regressions([l1], tolerance=100)


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
