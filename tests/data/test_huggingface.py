"""Training pairs from Hugging Face datasets, each in a small sample of its real form."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editkit import EditkitError
from editkit.data import columns
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from tests.command_line import command
from tests.data.pairs import assert_pair, read


def test_a_folder_of_pictures_with_metadata(tmp_path: Path, folder: Path, monkeypatch: Any) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("edit", "target"):
        shutil.copy(folder / f"{name}.png", pictures)
    row = {"source_file_name": "edit.png", "answer_file_name": "target.png", "instruction": "make it red"}
    (pictures / "metadata.jsonl").write_text(json.dumps(row))
    (record,) = read("huggingface", pictures)
    assert_pair(record, folder)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_single_arrow_file(streaming: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    row = {
        name: Image.open(folder / f"{file}.png") for name, file in (("source", "edit"), ("answer", "target"))
    }
    made = datasets.Dataset.from_list([row | {"instruction": "make it red"}])
    made.save_to_disk(str(folder / "saved"))
    (file,) = (folder / "saved").glob("*.arrow")
    shutil.copy(file, folder / "train.arrow")
    (record,) = read("huggingface", folder / "train.arrow", streaming=streaming)
    assert_pair(record, folder)


@pytest.mark.parametrize("name", ["jsonl", "huggingface"])
def test_the_first_records_alone(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    rows = [{"answer": "target.png", "instruction": words, "kind": words[0]} for words in ("a1", "b1", "b2")]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "train.parquet"))
    path = folder / ("train.jsonl" if name == "jsonl" else "train.parquet")

    def words(**more: Any) -> list[str]:
        return [record.instruction for record in read(name, path, text_to_image=True, **more)]

    assert words() == words(count=9) == ["a1", "b1", "b2"]
    assert words(count=2) == ["a1", "b1"]
    assert words(count=1, types=["b"]) == ["b1"]
    assert len(dataset(DataConfig())) == 10_000


@pytest.mark.parametrize("preset", ["magicbrush", "omniedit", "instructpix2pix", "relighting"])
@pytest.mark.parametrize("form", ["parquet", "disk", "streaming"])
def test_hugging_face(preset: str, form: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    names = columns.COLUMNS[preset]
    several = preset == "omniedit"
    row = {
        names["source"]: Image.open(folder / "edit.png"),
        names["answer"]: Image.open(folder / "target.png"),
        names["instruction"]: ["make it red", "red"] if several else "make it red",
    }
    made = datasets.Dataset.from_list([row, row])
    for name in (names["source"], names["answer"]):
        made = made.cast_column(name, datasets.Image())
    if form == "disk":
        made.save_to_disk(str(folder / "saved"))
        records = read("huggingface", folder / "saved", preset=preset)
    else:
        made.to_parquet(str(folder / "train.parquet"))
        more = {"streaming": True, "count": 1} if form == "streaming" else {}
        records = read("huggingface", folder / "train.parquet", preset=preset, **more)
        assert len(records) == (1 if form == "streaming" else 2)
    assert_pair(records[0], folder)


def test_quiet_hides_the_bars_of_datasets(folder: Path) -> None:
    """In a process of its own, since a bar that is hidden stays so."""
    datasets = pytest.importorskip("datasets")
    row = {"source": "edit.png", "answer": "target.png", "instruction": "make it red"}
    datasets.Dataset.from_list([row]).to_parquet(str(folder / "train.parquet"))
    config = folder / "data.yaml"
    config.write_text(f"data: {{name: huggingface, path: {folder / 'train.parquet'}}}")
    shown = command("--quiet", "data", "check", config, env={"HF_HOME": str(folder / "cache")})
    assert (shown.status, shown.err) == (0, "")


@pytest.mark.parametrize("name", ["huggingface", "webdataset"])
@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_url_whose_package_is_missing(name: str, protocol: str, package: str) -> None:
    pytest.importorskip("datasets")
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed, so that nothing is missing.")
    with pytest.raises(
        EditkitError, match=rf"{protocol}://bucket/.* needs a package \(.*{package}.*\); install"
    ):
        read(name, f"{protocol}://bucket/train.parquet")
