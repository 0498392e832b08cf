"""Looking at a dataset before training: each flaw is found, and what is sound passes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit.data import check as checks
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig, Record
from editkit.imaging import contact_sheet
from tests.pictures import image


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """Records of which each but the first and the last has a flaw of its own."""
    source = np.asarray(image(160, 160, 5))
    answer = source.copy()
    answer[40:80, 50:90] = (255, 0, 0)
    rows: list[dict[str, Any]] = []

    def add(name: str, source: Any, answer: Any, mask: Any = None, words: str | None = None) -> None:
        row = {"instruction": name if words is None else words, "kind": "flawed"}
        pictures = {"source": source, "answer": answer, "mask": mask}
        for field, picture in pictures.items():
            if picture is not None:
                Image.fromarray(picture).save(tmp_path / f"{name}-{field}.png")
                row[field] = f"{name}-{field}.png"
        rows.append(row)

    changed = (np.abs(source.astype(int) - answer) > 32).any(-1)
    add("sound", source, answer, (changed * 255).astype(np.uint8))
    add("shifted", source, np.roll(answer, (3, -2), (0, 1)))
    larger = np.asarray(Image.fromarray(answer).resize((168, 168)))[4:-4, 4:-4]
    add("scaled", source, larger)
    add("nothing", source, source)
    add("outside", source, answer, ((~changed) * 255).astype(np.uint8))
    add("speechless", source, answer, words=" ")
    add("wide", source, np.concatenate((answer, answer), axis=1))
    rows.append(rows[0])
    rows.append({"answer": "absent.png", "instruction": "x"})
    add("a pixel larger", source, np.asarray(Image.fromarray(answer).resize((162, 162)))[1:-1, 1:-1])
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "train.jsonl"


def test_what_is_wrong_is_found(flawed: Path) -> None:
    found = checks.check_dataset(dataset(DataConfig(name="jsonl", path=str(flawed))))
    told = {each.index: each.problem for each in found.findings}
    assert told == {
        1: "shifted",
        2: "scaled",
        3: "nothing changes",
        4: "change outside the mask",
        5: "no caption",
        6: "sizes differ",
        7: "twice",
        8: "unreadable",
    }
    (shifted,) = (each for each in found.findings if each.problem == "shifted")
    assert shifted.detail == "by -2.0, +3.0 pixels"
    assert found.sizes == {(160, 160): 8, (320, 160): 1}
    assert found.failed
    assert found.sheet().width > 600


def test_a_source_that_only_some_records_lack_is_told(tmp_path: Path) -> None:
    for name in ("answer", "source"):
        image(64, 64, len(name)).save(tmp_path / f"{name}.png")
    alone = {"answer": "answer.png", "instruction": "a picture"}
    pair = {"answer": "answer.png", "source": "source.png", "instruction": "make it red"}
    path, told = tmp_path / "train.jsonl", []
    for rows in ([pair, alone | {"source": ""}], [pair, alone | {"references": ["source.png"]}], [alone]):
        path.write_text("\n".join(map(json.dumps, rows)))
        found = checks.check_dataset(dataset(DataConfig(name="jsonl", path=str(path), text_to_image=True)))
        told.append([each.index for each in found.findings if each.problem == "no source"])
    assert told == [[1], [], []]


@pytest.mark.parametrize(
    ("words", "fine"),
    [
        ("make it red\nand blue", True),
        ("make it\u00a0red\u3000now", True),
        ("\t\n", False),
        ("make it \0", False),
        ("make it \x1b[31mred", False),
    ],
)
def test_captions_may_hold_any_white_space(words: str, fine: bool) -> None:
    told = checks.problems(Record(answer=np.asarray(image(64, 64, 1)), instruction=words))
    assert [problem for problem, _, _ in told] == ([] if fine else ["no caption"])


def test_shapesworld_is_sound() -> None:
    for name in ("shapesworld", "shapesworld masked"):
        found = checks.check_dataset(dataset(DataConfig(name=name, count=60)))
        assert not found.failed, found.findings
        assert "nothing changes" not in found.problems()


def test_a_sheet_shows_small_and_missing_pictures_and_cuts_long_titles() -> None:
    dot = Image.new("RGB", (16, 16), "red")
    made = contact_sheet.groups([("dot", [dot, dot]), ("no source", [None, dot])], ("source", "answer"))
    long = contact_sheet.groups([("word " * 200, [dot, dot])] * 2, ("source", "answer"))
    assert made is not None
    assert long is not None
    # Frames lie over no picture, and an empty one is as large as a picture.
    assert made.tobytes().count(b"\xff\0\0") == 3 * contact_sheet.SIDE**2
    assert long.size == (made.width, made.height + (contact_sheet.LINES - 1) * contact_sheet.LINE)


def test_small_pictures_are_enlarged_without_smoothing() -> None:
    small = image(100, 60)
    twice = small.resize((200, 120), Image.Resampling.NEAREST)
    for made, top in (
        (contact_sheet.groups([("small", [small])], ("source",)), contact_sheet.GAP + 2 * contact_sheet.LINE),
        (contact_sheet.strip([("small", small)]), contact_sheet.GAP),
    ):
        assert made is not None
        shown = made.crop((contact_sheet.GAP, top, contact_sheet.GAP + twice.width, top + twice.height))
        assert shown.tobytes() == twice.tobytes()
    assert contact_sheet.enlarged(image(129, 60)).size == (129, 60)


def test_each_wording_is_checked(folder: Path) -> None:
    row = {"source": "edit.png", "answer": "target.png", "instruction": ["make it red", " "]}
    (folder / "train.jsonl").write_text(json.dumps(row))
    found = checks.check_dataset(dataset(DataConfig(name="jsonl", path=str(folder / "train.jsonl"))))
    assert found.problems() == {"no caption": 1}


def test_check_command(flawed: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.command_line import in_process

    cli = in_process(capfd, monkeypatch)
    config_file = tmp_path / "data.yaml"
    config_file.write_text(f"data: {{name: jsonl, path: {flawed}}}\n")
    run = cli("data", "check", config_file, "-o", tmp_path / "sheet.png")
    assert run.status == 2
    assert "error    shifted" in run.out
    assert "warning  twice" in run.out
    assert "The data have errors: 1 unreadable, 1 sizes differ" in run.err
    assert (tmp_path / "sheet.png").is_file()
    assert cli("data", "check", config_file, "--limit", "1").out.startswith("1 record, 1 size, 1 kind\n")
    run = cli("data", "check", config_file, "--limit", "1", "--json")
    assert (run.status, run.err) == (0, "")
    assert json.loads(run.out)["problems"] == {}
    named = cli("data", "check", config_file, "--limit", "1", "data.columns={mask: '', kind: ''}")
    assert (named.status, len(named.err.splitlines())) == (0, 1)
    assert re.search(r"^note: Nothing is read from these columns of .*: 'kind', 'mask'; ", named.err)
    more = tmp_path / "more.yaml"
    more.write_text("data: {count: 2}\n")
    assert json.loads(cli("data", "check", config_file, more, "--json").out)["records"] == 2
    held_out = f"validation.data={{name: jsonl, path: {flawed}, count: 1}}"
    told = json.loads(cli("data", "check", config_file, more, held_out, "--json").out)
    assert told["records"] == 3
    assert told["findings"][-1] == {"index": 2, "problem": "twice", "detail": "the same as record 0"}
