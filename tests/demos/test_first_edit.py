"""Behaviour of `make demo`."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import ROOT
from tests.command_line import python

DEMO = ROOT / "demos" / "first_edit.py"


def written(printed: str, folder: Path) -> None:
    (line,) = printed.splitlines()
    assert line.startswith("out/demo.png: ")
    with Image.open(folder / "out" / "demo.png") as shown:
        assert shown.size == (3 * (2 * 128 + 8), 3 * 128)


def test_it_writes_a_picture_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(DEMO)])
    runpy.run_path(str(DEMO), run_name="__main__")
    out, err = capfd.readouterr()
    assert err == ""
    written(out, tmp_path)


@pytest.mark.slow
def test_nothing_is_said_at_import(tmp_path: Path) -> None:
    run = python(DEMO, cwd=tmp_path)
    assert (run.status, run.err) == (0, "")
    written(run.out, tmp_path)
