"""The notebook of the docs: its cells run, and show what they promise."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def cells() -> Iterator[str]:
    """The code of each cell."""
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), "outputs are not kept, since nothing renews them"
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


def shown(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does; return the value of its last expression, which the notebook shows."""
    *before, last = ast.parse(cell).body
    exec(compile(ast.Module(before, []), str(NOTEBOOK), "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
    exec(compile(ast.Module([last], []), str(NOTEBOOK), "exec"), names)
    return None


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_steps: None) -> None:
    (tmp_path / "demos").symlink_to(ROOT / "demos")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    editor, result, again, recipe, _ = [shown(cell, names) for cell in cells()]
    assert re.match(r"Editor\('tiny', device='\w+", repr(editor))
    for each in (result, again):
        assert "data:image/png;base64," in each._repr_html_()
    assert recipe["instruction"] == "make the red circle blue"
    with Image.open("edited.png") as kept:
        assert kept.size == result.image.size
