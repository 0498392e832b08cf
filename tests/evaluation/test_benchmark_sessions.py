"""Sessions in files of rows, and turns that are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editkit.evaluation.benchmarks import described, open_benchmark
from tests.command_line import one_sentence
from tests.evaluation import samples


def own_lines(folder: Path, rows: list[dict[str, object]]) -> Path:
    samples.saved(folder / "a.png", 1)
    path = folder / "own.jsonl"
    path.write_text("".join(f"{json.dumps({'instruction': 'x', **row})}\n" for row in rows))
    return path


def test_sessions_of_ones_own(tmp_path: Path) -> None:
    """A later turn needs no source; where there is no column turn, rows of a session are counted."""
    rows: list[dict[str, object]] = [
        {"id": "a1", "source": "a.png", "session": "a", "turn": 1},
        {"id": "a2", "session": "a", "turn": "2"},
        {"id": "b1", "source": "a.png", "session": "b"},
        {"id": "b2", "session": "b"},
        {"id": "b3", "session": "b"},
        {"id": "c", "source": "a.png"},
    ]
    items, problems = samples.split(open_benchmark("jsonl", own_lines(tmp_path, rows)))
    assert not problems
    assert [(item.id, item.session, item.turn, item.last, item.source is None) for item in items] == [
        ("a1", "a", 1, False, False),
        ("a2", "a", 2, True, True),
        ("b1", "b", 1, False, False),
        ("b2", "b", 2, False, True),
        ("b3", "b", 3, True, True),
        ("c", "", 1, True, False),
    ]


def test_turns_that_go_on_from_nothing_are_problems(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a1", "source": "a.png", "session": "a", "turn": 1},
        {"id": "a3", "session": "a", "turn": 3},
        {"id": "b2", "session": "b", "turn": 2},
        {"id": "c1", "session": "c", "turn": 1},
        {"id": "d", "source": "a.png", "session": "d", "turn": 0},
        {"id": "e", "source": "a.png", "session": "e", "turn": "two"},
    ]
    items, problems = samples.split(open_benchmark("jsonl", own_lines(tmp_path, rows)))
    assert [item.id for item in items] == ["a1"]
    words = ["is not turn 2 of", "no source picture.", "the turn 0", "the turn 'two'", "is not turn 1 of"]
    for problem, told in zip(problems, words, strict=True):
        assert problem.kind == "empty field"
        assert told in problem.sentence
        one_sentence(problem.sentence)


@pytest.mark.parametrize("broken", ['{"id": "a2", "session": "a", "instruction": " "}', "no json"])
def test_no_turn_edits_an_older_one_than_the_turn_before(broken: str, tmp_path: Path) -> None:
    """Where a row is broken, the rest of its session is bad; a turn with a source stays."""
    rows: list[dict[str, object]] = [
        {"id": "a1", "source": "a.png", "session": "a"},
        {"id": "a2", "session": "a"},
        {"id": "a3", "session": "a"},
        {"id": "a4", "session": "a"},
        {"id": "a5", "source": "a.png", "session": "a"},
        {"id": "b1", "source": "a.png", "session": "b"},
        {"id": "b2", "session": "b"},
    ]
    path = own_lines(tmp_path, rows)
    lines = path.read_text().splitlines()
    lines[1] = broken
    path.write_text("\n".join(lines))
    items, problems = samples.split(open_benchmark("jsonl", path))
    assert [(item.id, item.turn) for item in items] == [("a1", 1), ("a5", 5), ("b1", 1), ("b2", 2)]
    assert len(problems) == 3
    for problem, turn in zip(problems[1:], (2, 3), strict=True):
        assert f"the item before it is not turn {turn} of its session" in problem.sentence
        one_sentence(problem.sentence)


def test_a_broken_first_turn_makes_no_later_one_text_to_image(tmp_path: Path) -> None:
    path = own_lines(
        tmp_path, [{"id": "a1", "session": "a", "instruction": " "}, {"id": "a2", "session": "a"}]
    )
    items, problems = samples.split(open_benchmark("text-to-image", path))
    assert (items, len(problems)) == ([], 2)


def test_a_turn_whose_id_comes_twice_ends_its_session(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a1", "source": "a.png", "session": "a"},
        {"id": "a1", "session": "a"},
        {"id": "a3", "session": "a"},
    ]
    items, problems = samples.split(open_benchmark("jsonl", own_lines(tmp_path, rows)))
    assert [item.id for item in items] == ["a1"]
    assert [problem.kind for problem in problems] == ["duplicate id", "empty field"]


def test_each_turn_behind_a_broken_one_is_a_problem(tmp_path: Path) -> None:
    data = samples.magicbrush(tmp_path)
    path = data / "edit_sessions.json"
    sessions = json.loads(path.read_text())
    sessions["139"][1]["instruction"] = ""
    path.write_text(json.dumps(sessions))
    items, problems = samples.split(open_benchmark("magicbrush-multi", data))
    assert [item.id for item in items] == ["30-1", "139-1"]
    assert "turn 2" in problems[0].sentence
    assert "'139-3' has no source picture, and the item before it is not turn 2" in problems[1].sentence


def test_text_to_image_needs_no_source(tmp_path: Path) -> None:
    path = own_lines(tmp_path, [{"id": "a"}, {"id": "b", "category": "c"}])
    items, problems = samples.split(open_benchmark("text-to-image", path))
    assert not problems
    assert [(item.id, item.source, item.turn, item.answer_caption) for item in items] == [
        ("a", None, 1, "x"),
        ("b", None, 1, "x"),
    ]
    assert described("text-to-image").rubric == "text-to-image"
