"""A judge's figures in reports: exports, means that say what they rest on, comparisons."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from editkit.evaluation import exports
from editkit.evaluation.chunks import Share
from editkit.evaluation.report import frame
from editkit.evaluation.run_folder import RunFolder
from tests.command_line import Cli
from tests.evaluation.finished import done
from tests.evaluation.judged import config, good
from tests.judges.rubric_endpoint import Served


def test_gedit_exports_its_own_csv(tmp_path: Path, served: Served) -> None:
    folder = done(config(tmp_path, served, "gedit"))
    assert exports.export(folder.path, tmp_path / "own") == []
    path = tmp_path / "own" / "theirs_background_change_en_vie_score.csv"
    (row,) = csv.DictReader(path.open())
    assert (float(row["sementics_score"]), float(row["quality_score"])) == (4, 9)


def test_imgedit_exports_its_own_json(tmp_path: Path, served: Served) -> None:
    folder = done(config(tmp_path, served, "imgedit"))
    assert exports.export(folder.path, tmp_path / "own") == []
    averages = json.loads((tmp_path / "own" / "theirs" / "average_score.json").read_text())
    assert averages == {"1000": 4, "1001": 4, "1002": 2}
    replies = json.loads((tmp_path / "own" / "theirs" / "result.json").read_text())
    assert replies["1002"].startswith("Brief reasoning: no.\nStyle Fidelity: 2")


def answering(folder: Path, served: Served, items: list[int], name: str) -> RunFolder:
    """A run of four items whose judge answers on some."""
    served.answer = lambda text, number: (
        good(text, number) if any(f"edit {item}" in text for item in items) else "I would rather not."
    )
    return done(replace(config(folder, served, rubric="imgedit"), out=str(folder / name)))


def test_a_mean_tells_how_many_results_it_rests_on(tmp_path: Path, served: Served, cli: Cli) -> None:
    folder = answering(tmp_path, served, [1], "run")
    shown = cli("eval", "report", folder.path)
    assert re.search(r"theirs +4 +0 +imgedit +\S+ \[.*\] \(1 of 4\)", shown.out), shown.out
    assert re.search(r"source_l1 +\S+ \[[^]]*\]$", shown.out, re.MULTILINE), shown.out
    assert " (1 of 4) |" in (folder.path / "report.md").read_text()
    assert '<small class="bad">1 of 4</small>' in (folder.path / "report.html").read_text()


@pytest.mark.parametrize("second", [[0, 1, 2, 3], [1], [2]])
def test_runs_with_few_answers_are_not_comparable(
    second: list[int], tmp_path: Path, served: Served, cli: Cli
) -> None:
    """Not with a whole run, nor with one that lacks the same answers, nor with one that lacks others."""
    first = answering(tmp_path, served, [1], "first").path
    other = answering(tmp_path, served, second, "second").path
    rest = 0 if second == [2] else 1
    told = cli("eval", "compare", first, other)
    assert told.status == 1, told
    sentence = (
        f"imgedit of theirs rests on {rest} of 4 items, since {4 - rest} lack a score in one run or both"
    )
    assert sentence in told.err
    if rest:
        assert re.search(r"imgedit +1 of 4 ", told.out), told.out
    assert cli("eval", "compare", first, other, "--columns", "source_l1").status == 0
    allowed = cli("eval", "compare", first, other, "--shared-items")
    assert (allowed.status, allowed.err) == (0, "")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"error": {"message": "The model is overloaded", "code": 502}}, "no choices"),
        ({"choices": []}, "no choices"),
        ({"choices": [{"finish_reason": "length", "message": {"content": None}}]}, "finish_reason length"),
        ({"choices": [{"finish_reason": "stop", "message": {"content": " "}}]}, "finish_reason stop"),
    ],
)
def test_what_is_no_answer_is_asked_again(
    body: dict[str, Any], why: str, tmp_path: Path, served: Served
) -> None:
    """A gateway out of service, and a model whose thoughts used all tokens up, both with status 200."""
    asked = config(tmp_path, served)
    served.answer = lambda text, number: body
    row = frame.read_frame(done(asked)).rows[0]
    assert row.notes["viescore judge"]["problems"] == {"refusal": 2}
    assert f"answers without words ({why})" in row.notes["viescore judge"]["error"]
    served.answer = good
    assert all(row.values["overall"] == pytest.approx(6) for row in frame.read_frame(done(asked)).rows)


def test_answers_of_a_later_call_count_in_whichever_log(tmp_path: Path, served: Served) -> None:
    """Two processes find the judge out of reach, and one of them asks again for both."""
    asked = replace(config(tmp_path, served), batch_size=1)
    served.answer = lambda text, number: 429
    for rank in (0, 1):
        done(asked, share=Share(rank=rank, world=2))
    served.answer = good
    for row in frame.read_frame(done(asked)).rows:
        assert row.values["overall"] == pytest.approx(6)
        assert not {"error", "problems", "again"} & row.notes["viescore judge"].keys()
