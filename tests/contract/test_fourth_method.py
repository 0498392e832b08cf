"""A further method is one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.contract.asked import FILES, WORDS

BLOCK = re.compile(r'^```\w+ title="methods/compact/(\S+)"\n(.*?)^```', re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_a_fourth_method_is_one_folder(tmp_path: Path) -> None:
    """A copy of the tree with the method that docs/add-a-method.md writes: everything finds it."""
    for name in ("editkit", "methods", "backbones", "configs", "tests", "demos"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    written = dict(BLOCK.findall((ROOT / "docs" / "add-a-method.md").read_text()))
    assert written.keys() == FILES
    folder = tmp_path / "methods" / "compact"
    folder.mkdir()
    for name, text in written.items():
        (folder / name).write_text(text)
    surroundings = os.environ | {"PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=surroundings, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "compact" in run("-m", "editkit", "methods")
    words = ("demos/samples/red_circle.png", WORDS[0], "-m", "compact", "--steps", "1", "-o", "out.png")
    run("-m", "editkit", "edit", *words)
    assert (tmp_path / "out.png").is_file()
    code = "import editkit; print([record.name for record in editkit.methods()])"
    assert "compact" in run("-c", code)
    run("-m", "ruff", "check", "methods/compact")
    run("-m", "ruff", "format", "--check", "methods/compact")
    told = run("-m", "pytest", "tests/contract", "-k", "compact", "-p", "no:cacheprovider")
    assert int(re.search(r"(\d+) passed", told)[1]) > 15
