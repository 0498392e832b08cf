"""Behaviour: tables on the command line fold to a terminal, and are whole in a pipe."""

from __future__ import annotations

import sys

import pytest

from editkit.cli.tables import columns, text

ROWS = [("first [x]", 1, "word " * 40), ("second", 23456, "a" * 100), ("third",)]


def made() -> str:
    return text(columns("<><", ROWS, ("", "n", "words")))


def test_a_pipe_gets_every_row_in_one_line() -> None:
    lines = made().splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("first [x]      1  word word")
    assert lines[2].endswith("23456  " + "a" * 100)
    assert all(line == line.rstrip() for line in lines)


def test_a_terminal_gets_all_of_it_within_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    found = made()
    assert max(map(len, found.splitlines())) <= 80
    assert found.count("word") == 41  # 40 and the head's "words"
    assert found.count("a" * 10) >= 8
    assert "23456" in found
