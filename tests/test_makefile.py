"""The Makefile in an environment of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests import ROOT


@pytest.mark.skipif(not shutil.which("make"), reason="There is no make here.")
def test_an_activated_environment_without_pip(tmp_path: Path) -> None:
    """Such as .venv itself, after `make demo`: what installs is a Python outside, which has pip."""
    venv.create(tmp_path / ".venv", symlinks=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    folder = tmp_path / ".venv" / "bin"
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["make", "--dry-run", "page"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "VIRTUAL_ENV": str(tmp_path / ".venv")},
        capture_output=True,
        text=True,
        check=True,
    )
    installs = re.findall(r"^(\S+) -m pip --python \.venv/bin/python", run.stdout, re.MULTILINE)
    assert len(installs) == 2
    assert set(installs) == {sys._base_executable}  # type: ignore[attr-defined]
