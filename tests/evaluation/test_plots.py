"""The plots of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from editkit.evaluation.report import files, frame, plots
from editkit.evaluation.run_folder import RunFolder
from tests.evaluation.finished import scored


def timed(folder: RunFolder, seconds: float) -> RunFolder:
    """The run with times, as a run that edits logs them."""
    path = folder.path / "logs" / "scores-0.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["scores"]["cost"] = {"values": {"seconds": seconds + number % 3}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = json.loads((folder.path / "run.json").read_text())
    column = {"name": "seconds", "better": "lower", "meaning": "time", "unit": "s", "failed": None}
    settings["metrics"]["cost"] = {"columns": [column], "depends on": {}}
    (folder.path / "run.json").write_text(json.dumps(settings))
    return folder


def words(svg: str) -> str:
    return " ".join("".join(each.itertext()).strip() for each in ElementTree.fromstring(svg).iter())


def test_cost_against_quality(tmp_path: Path) -> None:
    folder = timed(scored(tmp_path, "jsonl", {"near $x$": 2, "far": 40}, ["pixels", "preservation"]), 2)
    (plot,) = plots.plots(frame.read_frame(folder))
    assert plot.title == "Cost and quality"
    told = words(plot.svg)
    assert "near $x$" in told
    assert "far" in told
    assert "seconds an edit" in told
    assert "outside, lower is better" in told


def test_methods_without_times_are_named_and_not_drawn(tmp_path: Path) -> None:
    folder = scored(tmp_path, "jsonl", {"near": 2, "far": 40}, ["pixels"])
    assert plots.plots(frame.read_frame(folder)) == []
    found = frame.read_frame(timed(folder, 2))
    for row in found.of("far"):
        row.values.pop("seconds")
    (plot,) = plots.plots(found)
    assert "not drawn: far." in plot.caption
    assert "far" not in words(plot.svg)


def test_turns_on_true_answers_do_not_drift(tmp_path: Path) -> None:
    folder = scored(tmp_path, "magicbrush", {"near": 2, "far": 40}, ["pixels"])
    assert frame.read_frame(folder).turns
    assert plots.plots(frame.read_frame(folder)) == []


def test_drift_by_turn(tmp_path: Path) -> None:
    folder = scored(tmp_path, "magicbrush-multi", {"near": 2, "far": 40}, ["pixels", "preservation"])
    (plot,) = plots.plots(frame.read_frame(folder))
    assert plot.title == "Drift by turn"
    told = words(plot.svg)
    assert "l1, lower is better" in told
    assert "outside, lower is better" in told
    assert "l1: mean absolute error to the true answer" in plot.caption
    # Every mark lies within the axes, also of `outside`, which only the last turn has.
    drawing = ElementTree.fromstring(plot.svg)
    frames = [each.find("{*}rect").attrib for each in drawing.iter("{http://www.w3.org/2000/svg}clipPath")]
    left, width = ({float(each[name]) for each in frames} for name in ("x", "width"))
    clipped = [each for each in drawing.iter("{http://www.w3.org/2000/svg}g") if each.get("clip-path")]
    marks = [
        float(use.attrib["x"]) for each in clipped for use in each.iter("{http://www.w3.org/2000/svg}use")
    ]
    assert len(marks) >= 2 * 3 + 2
    assert min(marks) > max(left) + 5
    assert max(marks) < min(left) + min(width) - 5


def test_the_page_holds_them_in_its_own_colours(tmp_path: Path) -> None:
    folder = timed(scored(tmp_path, "magicbrush-multi", {"near": 2, "<b>&": 9}, ["pixels"]), 1)
    files.write(folder.path)
    first = (folder.path / "report.html").read_text()
    assert first.count("<svg ") == 2
    assert "currentColor" in first
    assert plots.INK not in first
    assert "<b>" not in first
    ids = re.findall(r' id="([^"]+)"', first)
    assert len(ids) == len(set(ids)), "two plots share an id"
    files.write(folder.path)
    assert (folder.path / "report.html").read_text() == first
