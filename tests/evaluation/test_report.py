"""Reports from a run's folder alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest

from editkit.errors import EditkitError
from editkit.evaluation.report import files, frame, tables
from editkit.evaluation.report.frame import Frame, Row
from editkit.evaluation.run_folder import RunFolder
from tests.evaluation.finished import scored


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two methods, of which one is nearer; its data are gone."""
    folder = tmp_path_factory.mktemp("report")
    found = scored(folder, "jsonl", {"near": 2, "far": 40}, ["pixels", "preservation"])
    items = folder / "data" / "items.jsonl"
    assert items.exists()
    shutil.rmtree(folder / "data")
    for name in ("near-2", "far-40"):
        shutil.rmtree(folder / name)
    files.write(found.path)
    return found


def test_all_files_are_written(run: RunFolder) -> None:
    names = {"report.html", "report.md", "report.json", "scores.csv", "scores.json", "scores.parquet"}
    assert names <= {path.name for path in run.path.iterdir()}


def test_parquet_csv_and_json_hold_the_same_figures(run: RunFolder) -> None:
    rows = pyarrow.parquet.read_table(run.path / "scores.parquet").to_pylist()
    told = json.loads((run.path / "scores.json").read_text())
    csv_lines = (run.path / "scores.csv").read_text().splitlines()
    assert len(rows) == len(told) == len(csv_lines) - 1 == 8
    for row, other in zip(rows, told, strict=True):
        assert (row["method"], row["item"], row["category"]) == (
            other["method"],
            other["item"],
            other["category"],
        )
        assert row["l1"] == other["values"]["l1"]
    assert csv_lines[0].startswith("method,item,category,session,turn,last,instruction,error,l1,l2")


def test_means_are_by_method_and_category(run: RunFolder) -> None:
    found = frame.read_frame(run)
    lines = {(line.part, line.method): line for line in tables.lines(found)}
    assert set(lines) == {
        (part, method) for part in ("all", "category even", "category odd") for method in ("near", "far")
    }
    near, far = lines["all", "near"], lines["all", "far"]
    assert near.cells["l1"].mean < far.cells["l1"].mean
    values = [row.values["l1"] for row in found.of("near")]
    assert near.cells["l1"].mean == pytest.approx(sum(values) / 4)
    assert near.cells["l1"].low <= near.cells["l1"].mean <= near.cells["l1"].high
    halves = [lines[f"category {name}", "near"].cells["l1"].mean for name in ("even", "odd")]
    assert near.balanced["l1"] == pytest.approx(sum(halves) / 2)


def test_the_mean_of_categories_is_of_those_in_the_table() -> None:
    metric = {"columns": [{"name": "l1", "better": "lower", "meaning": "error"}], "depends on": {}}
    rows = [
        Row(
            method="m",
            item={"id": str(value), "category": category, "session": "", "turn": 1, "last": True},
            values={"l1": value},
        )
        for category, value in (("add", 1.0), ("remove", 3.0), ("", 8.0))
    ]
    found = Frame(settings={"methods": ["m"], "metrics": {"pixels": metric}}, rows=rows, problems=[])
    parts = {line.part: line for line in tables.lines(found)}
    assert parts.keys() == {"all", "category add", "category remove"}
    assert parts["all"].balanced == {"l1": 2.0}
    assert parts["all"].cells["l1"].mean == 4.0


def test_markdown_says_what_was_run(run: RunFolder) -> None:
    text = (run.path / "report.md").read_text()
    assert "4 items, seed 0" in text
    assert "| method | n | failed | l1 ↓ | l2 ↓ | psnr ↑ | ssim ↑ |" in text
    assert "## Category even" in text
    assert "bicubic" in text
    assert "torchmetrics" in text


def test_html_is_one_file_with_its_pictures(run: RunFolder) -> None:
    text = (run.path / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert text.count("data:image/jpeg;base64,") >= 2 * 4 * 3  # source, mask, result, answer of each
    assert "near: worst by outside" in text
    rows = json.loads(re.search(r'<script id="rows"[^>]*>(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert len(rows) == 8


def test_words_of_data_cannot_become_markup(tmp_path: Path) -> None:
    found = scored(tmp_path, "jsonl", {"near": 2}, ["pixels"])
    lines = (found.path / "items.jsonl").read_text().replace("edit 0", "</script><b>|bad")
    (found.path / "items.jsonl").write_text(lines)
    files.write(found.path)
    assert "<b>" not in (found.path / "report.html").read_text()


def test_best_and_worst_are_those_of_the_column(run: RunFolder) -> None:
    index = json.loads((run.path / "gallery.json").read_text())
    rows = {(row.method, row.item["id"]): row.values[index["column"]] for row in frame.read_frame(run).rows}
    for method, entries in index["methods"].items():
        worst = [rows[method, each["item"]] for each in entries if each["which"] == "worst"]
        best = [rows[method, each["item"]] for each in entries if each["which"] == "best"]
        assert len({each["item"] for each in entries}) == len(entries) == 4
        assert worst == sorted(worst, reverse=True)
        assert max(best) <= min(worst)


def test_failures_are_told(tmp_path: Path) -> None:
    found = scored(tmp_path, "jsonl", {"near": 2}, ["pixels"])
    log = found.path / "logs" / "edits-0.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[1] |= {"error": "It broke.", "picture": ""}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found.path / "logs" / "scores-0.jsonl").unlink()
    (found.path / "problems.jsonl").write_text(
        json.dumps({"kind": "duplicate id", "where": "a", "sentence": "The id 'a' comes twice."}) + "\n"
    )
    files.write(found.path)
    text = (found.path / "report.md").read_text()
    assert "near: 1 of 4 failed; item 1: It broke." in text
    assert "1 bad row of the benchmark (duplicate id); the first: The id 'a' comes twice." in text


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="is no run's folder"):
        files.write(tmp_path)
