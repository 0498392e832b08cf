"""Runs that a judge scores: kept replies, counted problems, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from editkit.errors import EditkitError
from editkit.evaluation import planning, runner
from editkit.evaluation.comparison import compare
from editkit.evaluation.report import files, frame
from editkit.evaluation.run_folder import RunFolder
from tests.command_line import Cli
from tests.evaluation import samples
from tests.evaluation.finished import done
from tests.evaluation.judged import config, good
from tests.judges.rubric_endpoint import Served, options


def test_a_judge_scores_beside_the_metrics(tmp_path: Path, served: Served) -> None:
    folder = done(config(tmp_path, served))
    found = frame.read_frame(folder)
    for row in found.rows:
        assert (row.values["sc"], row.values["pq"]) == (4, 9)
        assert row.values["overall"] == pytest.approx(6)
        assert "source_l1" in row.values
        said = row.notes["viescore judge"]["said"]
        assert said[0] == "sc, 4: blue"
        assert row.notes["viescore judge"]["reply"] == '{"reason": "blue", "success": 8, "restraint": 4}'
    assert len(list((folder.path / "judge").glob("*.json"))) == len(served.asked) == 8
    told = found.settings["metrics"]["viescore judge"]["depends on"]
    assert (told["model"], told["passes"]) == ("eyes", 1)
    assert told["rubric"] == "viescore"
    assert len(told["rubric digest"]) == 16


def test_secrets_of_the_address_are_not_written(tmp_path: Path, served: Served) -> None:
    secret = served.url.replace("//", "//me:pw123@") + "?key=pw456"
    folder = done(config(tmp_path, served, options=options(served, url=secret)))
    for path in folder.path.rglob("*.json*"):
        assert "pw123" not in path.read_text()
        assert "pw456" not in path.read_text()
    assert folder.settings["config"]["judge"]["options"]["url"] == served.url


def test_its_words_stand_in_the_report(tmp_path: Path, served: Served) -> None:
    folder = done(config(tmp_path, served))
    files.write(folder.path)
    page = (folder.path / "report.html").read_text()
    assert "sc, 4: blue" in page
    assert "pq, 9: clean &lt;b&gt;" in page
    assert "<b>" not in page


def test_problems_are_counted_by_kind(tmp_path: Path, served: Served) -> None:
    def uneven(text: str, number: int) -> str | int:
        return 429 if "edit 1" in text else "I would rather not." if "edit 2" in text else good(text, number)

    served.answer = uneven
    asked = config(tmp_path, served)
    folder = done(asked)
    files.write(folder.path)
    text = (folder.path / "report.md").read_text()
    assert "theirs: viescore judge gave no score for 2; item 1: The judge's endpoint answers with" in text
    assert "questions of viescore judge without a usable answer: 1 rate limit, 1 unreadable reply" in text
    assert "overall" not in frame.read_frame(folder).rows[1].values
    served.answer, before = good, len(served.asked)
    found = frame.read_frame(done(asked))  # what was out of reach is asked again, and rubbish is not
    assert len(served.asked) == before + 1
    assert found.rows[1].values["overall"] == pytest.approx(6)
    assert "overall" not in found.rows[2].values
    assert found.rows[1].notes["viescore judge"].get("problems") is None


def test_a_failure_counts_the_lowest_score(tmp_path: Path, served: Served) -> None:
    """Of the only method, too: no other one has to have a figure of the item."""
    asked = config(tmp_path, served)
    next(Path(asked.results["theirs"]).glob("*.png")).unlink()
    found = frame.read_frame(done(asked))
    (failed,) = (row for row in found.rows if row.error)
    assert {name: failed.values.get(name) for name in ("sc", "pq", "overall", "source_l1")} == {
        "sc": 0, "pq": 0, "overall": 0, "source_l1": None,
    }  # fmt: skip
    assert frame.mean(found.rows, "pq").mean == pytest.approx(9 * 3 / 4)


def test_a_judge_that_answers_nothing_has_no_mean(tmp_path: Path, cli: Cli) -> None:
    """A failed item counts 0, and must not be all that a mean is made of."""
    data = samples.jsonl(tmp_path / "data", 2)
    results = samples.copied_results(runner.open_benchmark("jsonl", data), tmp_path / "theirs", 9)
    (tmp_path / "data" / "source" / "0.png").write_bytes(b"x")
    run = cli(
        *("eval", "run", "jsonl", "--data", data, "--results", results, "--metrics", "source-pixels"),
        *("--judge", "openai", "--judge-option", "url=http://127.0.0.1:9", "--judge-option", "model=eyes"),
        *("--judge-option", "retries=1", "-o", tmp_path / "run"),
    )
    assert run.status == 0, run
    assert not {"sc", "pq", "overall"} & frame.read_frame(RunFolder(tmp_path / "run")).columns.keys()
    assert "source_l1" in run.out
    assert "theirs: viescore judge gave no score for 1 and so has no mean; item 1: " in run.err
    answered = Path(shutil.copytree(tmp_path / "run", tmp_path / "answered"))
    line = {"method": "theirs", "item": "item 1", "scores": {"viescore judge": {"values": {"sc": 4.0}}}}
    with (answered / "logs" / "scores-0.jsonl").open("a") as file:
        file.write(f"{json.dumps(line)}\n")
    with pytest.raises(EditkitError, match="run has no score of viescore judge for any result of theirs"):
        compare(answered, tmp_path / "run")
    with pytest.raises(EditkitError, match="has no score of viescore judge"):
        compare(answered, tmp_path / "run", columns=["sc"])
    assert compare(answered, tmp_path / "run", columns=["source_l1"])


def test_a_failure_counts_no_question_that_was_not_asked(tmp_path: Path, served: Served) -> None:
    """No item asks for words, so that the failed one has no lowest score of them."""
    served.answer = lambda text, number: "\n".join(
        f"{name}: 6" for name in ("Prompt following", "Aesthetics", "Realism") if f"{name}:" in text
    )
    asked = config(tmp_path, served, rubric="text-to-image")
    next(Path(asked.results["theirs"]).glob("*.png")).unlink()
    found = frame.read_frame(done(asked))
    (failed,) = (row for row in found.rows if row.error)
    assert failed.values == {"prompt_following": 0, "aesthetic": 0, "realism": 0}
    assert "typography" not in found.columns


def test_a_failure_counts_a_question_that_its_item_asks(tmp_path: Path, served: Served) -> None:
    """One method alone, so that no other one has the figure: the item itself says that it wants words."""
    names = ("Prompt following", "Aesthetics", "Realism", "Typography")
    served.answer = lambda text, number: "\n".join(f"{name}: 6" for name in names if f"{name}:" in text)
    asked = config(tmp_path, served, rubric="text-to-image")
    data = Path(str(asked.data))
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    for line in lines[:2]:
        line["words"] = ["open"]
    data.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    missing = Path(asked.results["theirs"]) / "item 0.png"
    whole = missing.read_bytes()
    missing.unlink()
    (Path(asked.results["theirs"]) / "item 2.png").unlink()
    for _ in range(2):  # the second call tries failures again, and logs nothing new
        folder = done(asked)
        found = frame.read_frame(folder)
        asks = [row.values.get("typography") for row in found.rows]
        assert asks == [0, pytest.approx(6), None, None]
        assert len(list(folder.scores())) == 3
    missing.write_bytes(whole)
    assert [row.values.get("typography") for row in frame.read_frame(done(asked)).rows][:2] == [6, 6]


def test_a_rubric_that_asks_every_item_logs_nothing_of_words(tmp_path: Path, served: Served) -> None:
    asked = config(tmp_path, served)
    data = Path(str(asked.data))
    data.write_text(data.read_text().replace("edit 0", "write 'open'"))
    (Path(asked.results["theirs"]) / "item 0.png").unlink()
    assert [line["item"] for line in done(asked).scores()] == ["item 1", "item 2", "item 3"]


def test_an_unreadable_result_counts_a_question_that_its_item_asks(tmp_path: Path, served: Served) -> None:
    names = ("Prompt following", "Aesthetics", "Realism")
    served.answer = lambda text, number: "\n".join(f"{name}: 6" for name in names if f"{name}:" in text)
    asked = config(tmp_path, served, rubric="text-to-image")
    data = Path(str(asked.data))
    data.write_text(data.read_text().replace("edit 0", "write 'open'"))
    (Path(asked.results["theirs"]) / "item 0.png").write_bytes(b"x")
    assert frame.read_frame(done(asked)).rows[0].values["typography"] == 0


def test_another_judge_or_rubric_does_not_go_on(tmp_path: Path, served: Served) -> None:
    asked = config(tmp_path, served)
    done(asked)
    other = {**asked.judge, "options": options(served, model="ears")}
    with pytest.raises(EditkitError, match="was scored by viescore judge with another model"):
        done(replace(asked, judge=other))
    with pytest.raises(EditkitError, match="viescore judge and gedit judge both give sc"):
        done(replace(asked, judge={**asked.judge, "rubric": "gedit"}))
    found = frame.read_frame(done(replace(asked, judge={**asked.judge, "rubric": "imgedit"})))
    assert {"imgedit", "overall"} <= found.rows[0].values.keys()


def test_a_plan_counts_questions_and_asks_none(tmp_path: Path, served: Served) -> None:
    asked = config(tmp_path, served, passes=3, options=options(served, temperature=0.7))
    prepared = runner.prepare(asked)
    assert planning.judge_calls(4, prepared.metrics) == {"viescore judge": 4 * 2 * 3}
    assert not served.asked


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        ({"name": "tiny"}, "'tiny' only compares pairs and cannot score under a rubric"),
        ({"name": "preserve"}, "'preserve' only compares pairs"),
        ({"name": "nobody"}, "There is no judge 'nobody'"),
        ({"name": ""}, "needs a judge"),
        ({"rubric": "beauty"}, "There is no rubric called 'beauty'"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"passes": 2}, "2 passes would give one reply"),
        ({"temper": 1}, "Unknown key 'temper'"),
        ({"options": {"modle": "x"}}, "did you mean 'model'"),
    ],
)
def test_judges_are_refused_before_anything_runs(
    tmp_path: Path, served: Served, judge: dict[str, Any], why: str
) -> None:
    with pytest.raises(EditkitError, match=why):
        done(config(tmp_path, served, **judge))
    assert not (tmp_path / "run").exists()
