"""The measurement of ICEdit's routing on pairs of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import editkit
from benchmarks import icedit_routing
from methods.icedit.config import ADAPTERS
from tests.pictures import image


def test_pairs_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image(64, 64).save(tmp_path / "a.png")
    row = {"source": "a.png", "answer": "a.png", "instruction": "make the red circle blue"}
    rows = [row | {"kind": "recolour"}, row | {"kind": "recolour"}, row]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    asked = icedit_routing.from_file(str(tmp_path / "pairs.jsonl"), 1)
    assert {kind: len(each) for kind, each in asked.items()} == {"recolour": 1, "edit": 1}
    arguments = ["--backbone", "tiny", "--adapter", ADAPTERS["tiny"]["moe"], "--device", "cpu", "--n", "1"]
    arguments += ["--threads", "1"]  # two on a busy machine take hundreds of times longer
    arguments += ["--data", str(tmp_path / "pairs.jsonl"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["icedit_routing.py", *arguments])
    icedit_routing.main()
    shares = json.loads((tmp_path / "out" / "shares.json").read_text())
    assert shares.keys() == {"recolour", "edit"}
    assert (tmp_path / "out" / "routing.png").exists()
    assert "furthest kind" in capsys.readouterr().out


def test_pairs_without_sources(tmp_path: Path) -> None:
    image(64, 64).save(tmp_path / "a.png")
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"answer": "a.png", "instruction": "a circle"}) + "\n")
    with pytest.raises(editkit.EditkitError, match="has no source"):
        icedit_routing.from_file(str(tmp_path / "pairs.jsonl"), 1)
