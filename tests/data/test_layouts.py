"""Training pairs from files: each layout in a small sample of its real form, and bad files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit import EditkitError
from editkit.data.datasets import dataset
from editkit.data.records import FILES, DataConfig
from tests.data.pairs import assert_pair, read, shown
from tests.pictures import image


def test_json_lines(folder: Path) -> None:
    rows = [
        {"source": "edit.png", "mask": "mask.png", "answer": "target.png", "instruction": "make it red"},
        {
            "references": ["ref.png", "edit.png"],
            "answer": "target.png",
            "instruction": "",
            "task": "portrait",
        },
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second = read("jsonl", folder / "train.jsonl")
    assert_pair(first, folder)
    assert first.mask.shape == (64, 64)  # drawn at another size
    assert (second.source, second.mask, second.task) == (None, None, "portrait")
    assert [
        np.array_equal(r, shown(n, folder)) for r, n in zip(second.references, ("ref", "edit"), strict=True)
    ]


def test_released_csv(folder: Path) -> None:
    lines = [
        "edit.png#;#mask.png#;##;#target.png#;#{image} make it red#;#local",
        "#;##;#ref.png#;#target.png#;#a red circle#;#subject",
    ]
    (folder / "train.csv").write_text("\n".join(lines) + "\n\n")
    first, second = read("csv", folder / "train.csv", tasks={"local": "local_editing"})
    assert_pair(first, folder, "{image} make it red")
    assert (first.task, first.kind, first.references) == ("local_editing", "local", ())
    assert (second.source, second.mask, second.task) == (None, None, None)
    assert np.array_equal(second.references[0], shown("ref", folder))
    (only,) = read("csv", folder / "train.csv", types=["^sub"])
    assert only.kind == "subject"
    (folder / "turned.csv").write_text("a red circle#;#target.png")
    (turned,) = read("csv", folder / "turned.csv", fields=["prompt", "target_image"], text_to_image=True)
    assert turned.instruction == "a red circle"


def test_diffsynth_table(folder: Path) -> None:
    text = "image,prompt,kontext_images\ntarget.png,make it red,edit.png\n"
    text += 'target.png,both,"[""edit.png"", ""ref.png""]"\n'
    (folder / "metadata.csv").write_text(text)
    one, two = read("table", folder / "metadata.csv", preset="diffsynth")
    assert_pair(one, folder)
    assert np.array_equal(two.references[0], shown("ref", folder))


def test_own_columns(folder: Path) -> None:
    (folder / "pairs.tsv").write_text("before\tafter\twords\nedit.png\ttarget.png\tmake it red\n")
    columns = {"source": "before", "answer": "after", "instruction": "words"}
    (record,) = read("table", folder / "pairs.tsv", columns=columns)
    assert_pair(record, folder)
    with pytest.raises(EditkitError, match=r"no field of a record called 'sources'.*'source'"):
        read("table", folder / "pairs.tsv", columns={"sources": "before"})
    with pytest.raises(EditkitError, match="no preset of columns called 'magicbrsh'"):
        read("table", folder / "pairs.tsv", preset="magicbrsh")


@pytest.mark.parametrize(("name", "sign"), [("t.TSV", "\t"), ("t.csv", ";"), ("t.csv", ","), ("t.txt", "\t")])
@pytest.mark.parametrize("words", ["make it red", "red, please; now"])
def test_signs_between_cells(folder: Path, name: str, sign: str, words: str) -> None:
    """Spreadsheets write semicolons where numbers have commas."""
    cells = ["edit.png", "target.png", f'"{words}"']
    (folder / name).write_text(f"source{sign}answer{sign}instruction\n{sign.join(cells)}\n")
    (record,) = read("table", folder / name)
    assert_pair(record, folder, words)


def test_magicbrush_cuts_the_place_of_the_edit_out(folder: Path) -> None:
    """Its masks are the source, clear where the edit lies; for other presets it is the opposite."""
    source = Image.open(folder / "edit.png").convert("RGB")
    opacity = Image.new("L", source.size, 255)
    opacity.paste(0, (8, 8, 24, 40))
    source.putalpha(opacity)
    source.save(folder / "cut.png")
    row = {"source_img": "edit.png", "mask_img": "cut.png", "target_img": "target.png", "instruction": "x"}
    (folder / "pairs.jsonl").write_text(json.dumps(row))
    (record,) = read("jsonl", folder / "pairs.jsonl", preset="magicbrush")
    wanted = np.zeros((source.height, source.width), np.uint8)
    wanted[8:40, 8:24] = 255
    assert np.array_equal(record.mask, wanted)
    (unmasked,) = read("jsonl", folder / "pairs.jsonl", preset="magicbrush", columns={"mask": ""})
    assert unmasked.mask is None
    row = {"source": "edit.png", "mask": "cut.png", "answer": "target.png", "instruction": "x"}
    (folder / "pairs.jsonl").write_text(json.dumps(row))
    (record,) = read("jsonl", folder / "pairs.jsonl")
    assert np.array_equal(record.mask, 255 - wanted)


def test_control_folders(folder: Path) -> None:
    """ai-toolkit's and musubi's: captions beside targets, control pictures of the same stem, or numbered."""
    for name in ("targets", "control"):
        (folder / name).mkdir()
    image(64, 64, 1).save(folder / "targets" / "a.png")
    image(64, 64, 1).save(folder / "targets" / "b.png")
    (folder / "targets" / "a.txt").write_text("make it red\n")
    (folder / "targets" / "b.txt").write_text("both")
    image(64, 64, 0).save(folder / "control" / "a.png")
    image(64, 64, 0).save(folder / "control" / "b_0.png")
    image(64, 64, 3).save(folder / "control" / "b_1.png")
    first, second = read("folders", folder, folders={"answer": "targets", "source": "control"})
    assert_pair(first, folder)
    assert_pair(second, folder, "both")
    assert np.array_equal(second.references[0], shown("ref", folder))
    with pytest.raises(EditkitError, match=r"answers is missing; name it in data\.folders"):
        read("folders", folder)


def test_numbered_answers_keep_their_sources(folder: Path) -> None:
    for name in ("answer", "source"):
        (folder / name).mkdir()
    image(64, 64, 1).save(folder / "answer" / "img_001.png")
    (folder / "answer" / "img_001.txt").write_text("make it red")
    image(64, 64, 0).save(folder / "source" / "img_001.png")
    (record,) = read("folders", folder)
    assert_pair(record, folder)
    assert record.references == ()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("csv", "a.png#;#b.png", "Line 1 of .* has 2 fields"),
        ("csv", "edit.png#;##;##;##;#words#;#x", "record 0 of .* has no answer under 'target_image'"),
        ("jsonl", "{", "Line 1 of .* is not JSON"),
        ("jsonl", "[]", "Line 1 of .* is not an object"),
        ("jsonl", '{"reply": "a.png"}', "any of the keys answer"),
        ("jsonl", '{"answer": "edit.png"}', "no instruction under 'instruction'"),
        ("jsonl", '{"source": "edit.png", "answer": "absent.png", "instruction": "x"}', r"absent\.png"),
        ("jsonl", "", "no records in .*; give a file"),
        ("table", "", "no records"),
        ("webdataset", "no tar", "The shard .* cannot be read"),
    ],
)
def test_bad_records(folder: Path, name: str, text: str, words: str) -> None:
    (folder / "records").write_text(text)
    with pytest.raises(EditkitError, match=words):
        read(name, folder / "records")


@pytest.mark.parametrize("name", FILES)
def test_records_that_are_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"needs data\.path"):
        dataset(DataConfig(name=name))
    with pytest.raises(EditkitError) as error:
        read(name, tmp_path / "absent.jsonl")
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"There are no records at .*absent\.jsonl"):
        read("jsonl", tmp_path / "absent.jsonl")


def test_a_changed_file_is_another_dataset(folder: Path) -> None:
    row = {"source": "edit.png", "answer": "target.png", "instruction": "make it red"}
    path = folder / "train.jsonl"
    path.write_text(json.dumps(row))
    settings = DataConfig(name="jsonl", path=str(path))
    before = dataset(settings).digest()
    assert dataset(settings).digest() == before
    os.utime(folder / "target.png", ns=(1, 1))
    touched = dataset(settings).digest()
    assert touched != before
    path.write_text(path.read_text() + "\n" + path.read_text())
    assert dataset(settings).digest() not in (before, touched)
