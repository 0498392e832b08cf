"""Imports: a light one stays light, and only this checkout's packages are taken."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from editkit import packages
from tests import ROOT
from tests.command_line import one_sentence, python

HEAVY = ("accelerate", "diffusers", "numpy", "peft", "safetensors", "torch", "transformers")


def loaded(script: str) -> tuple[list[str], str]:
    """The heavy ones that a script imports, and what it printed before."""
    run = python("-c", f"{script}\nimport sys; print([name for name in {HEAVY} if name in sys.modules])")
    assert (run.status, run.err) == (0, "")
    *printed, last = run.out.splitlines()
    return ast.literal_eval(last), "\n".join(printed)


@pytest.mark.parametrize(
    "script", ["import editkit; dir(editkit)", "from editkit import EditRequest", "import editkit.cli"]
)
def test_light_imports(script: str) -> None:
    assert loaded(script) == ([], "")


COMMANDS = (
    "--help",
    "edit --help",
    "train --help",
    "eval shapesworld --help",
    "lora inspect --help",
    "backbones",
)


def test_light_commands() -> None:
    """In one process, since none of them may load anything heavy."""
    script = (
        "import sys; from editkit.cli import main\n"
        f"for arguments in {COMMANDS}:\n"
        "    sys.argv = ['editkit', *arguments.split()]\n"
        "    try: main()\n"
        "    except SystemExit as stopped: assert not stopped.code, arguments\n"
    )
    heavy, printed = loaded(script)
    assert heavy == []
    assert printed.count("Usage:") == len(COMMANDS) - 1
    assert "flux1-dev" in printed


def test_heavy_imports_are_seen() -> None:
    assert loaded("import numpy") == (["numpy"], "")


@pytest.mark.parametrize("name", ["methods", "backbones"])
def test_a_foreign_package_is_told(name: str, tmp_path: Path) -> None:
    """Else the registry would be empty without a word."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from editkit import packages\n"
        f"try: packages.own_package({name!r})\n"
        "except ImportError as error: print(error)\n"
    )
    run = python("-c", script)
    assert (run.status, run.err) == (0, "")
    assert str(tmp_path / name) in run.out
    assert str(ROOT / name) in run.out
    one_sentence(run.out)


def test_own_packages_are_found() -> None:
    assert Path(packages.own_package("methods").__path__[0]) == ROOT / "methods"
