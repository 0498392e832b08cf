"""Behaviour of `make demo`."""

from pathlib import Path

from PIL import Image

from tests import ROOT
from tests.command_line import python


def test_it_writes_a_picture_and_says_where(tmp_path: Path) -> None:
    run = python(ROOT / "demos" / "first_edit.py", cwd=tmp_path)
    assert (run.status, run.err) == (0, "")
    (line,) = run.out.splitlines()
    assert line.startswith("out/demo.png: ")
    with Image.open(tmp_path / "out" / "demo.png") as shown:
        assert shown.size == (3 * (2 * 128 + 8), 3 * 128)
