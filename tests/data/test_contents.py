"""The hash of a dataset's content: the same for a copy, another one after a change."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from editkit.data.datasets import Dataset, dataset
from editkit.data.records import DataConfig
from tests.pictures import image

ROW = {"source": "before.png", "answer": "after.png", "instruction": "make it red"}


def made(name: str, folder: Path, words: str = "make it red", side: int = 32) -> Path:
    """A dataset of one pair in a folder of its own; returns its path."""
    home = folder / "data"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    image(32, 32, 1).save(home / "before.png")
    image(side, side, 2).save(home / "after.png")
    row: dict[str, Any] = ROW | {"instruction": words}
    if name == "jsonl":
        (home / "t.jsonl").write_text(json.dumps(row))
        return home / "t.jsonl"
    if name == "folders":
        for part, file in (("source", "before.png"), ("answer", "after.png")):
            (home / part).mkdir()
            (home / file).rename(home / part / "1.png")
        (home / "answer" / "1.txt").write_text(words)
        return home
    if name == "webdataset":
        (home / "row.json").write_text(json.dumps(row | {"more": words * side * 999}))
        with tarfile.open(home / "0.tar", "w") as archive:
            archive.add(home / "row.json", "0.json")
        return home / "0.tar"
    import datasets

    pictures = {part: {"bytes": (home / row[part]).read_bytes()} for part in ("source", "answer")}
    features = datasets.Features(
        {part: datasets.Image() for part in pictures} | {"instruction": datasets.Value("string")}
    )
    rows = datasets.Dataset.from_list([row | pictures], features=features)
    rows.to_parquet(str(home / "t.parquet"))
    return home / "t.parquet"


def read(name: str, path: Path, **more: Any) -> Dataset:
    return dataset(DataConfig(name=name, path=str(path), **more))


@pytest.mark.parametrize("name", ["jsonl", "folders", "webdataset", "huggingface", "huggingface streaming"])
def test_a_copy_has_the_same_content_and_a_change_another(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("huggingface"):
        pytest.importorskip("datasets")
        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    name, _, streaming = name.partition(" ")
    more = {"streaming": True} if streaming else {}
    first = read(name, made(name, tmp_path / "one"), **more).content()
    assert first
    copy = made(name, tmp_path / "two")
    for path in (copy, *copy.parent.rglob("*")):
        os.utime(path, (1, 1))
    assert read(name, copy, **more).content() == first
    changed = {
        read(name, made(name, tmp_path / "three", words="make it big"), **more).content(),
        read(name, made(name, tmp_path / "four", side=48), **more).content(),
    }
    if name == "webdataset":  # told apart by size
        changed.remove(first)
        assert len(changed) == 1
    else:
        assert len(changed | {first}) == 3


def test_pictures_in_lists_are_hashed_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of one run must find the same hash, or each waits for what another encodes."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    image(32, 32, 1).save(tmp_path / "a.png")
    file = str(tmp_path / "a.png")
    features = datasets.Features(
        {
            "source": datasets.List(datasets.Image()),
            "answer": datasets.Image(),
            "instruction": datasets.Value("string"),
        }
    )
    rows = [{"source": [file, file], "answer": file, "instruction": "x"}]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "t.parquet"))
    found = [read("huggingface", tmp_path / "t.parquet", streaming=True) for _ in range(2)]
    assert found[0].digest() == found[1].digest()
    (reference,) = found[0][0].references
    assert reference.shape == (32, 32, 3)
