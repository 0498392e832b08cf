"""Pairs that are cut to the shape of a canvas: alike, and so that next to nothing is padded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.specs import KONTEXT_SIZES
from editkit import EditkitError
from editkit.data.cropping import CroppedDataset, cropped
from editkit.data.datasets import Dataset, dataset
from editkit.data.records import DataConfig
from editkit.imaging import canvas
from tests.pictures import image


def pair(folder: Path, size: tuple[int, int], **more: Any) -> Dataset:
    """One record whose source is the answer twice as large."""
    picture = image(*size, 3)
    picture.resize((2 * size[0], 2 * size[1]), 0).save(folder / "source.png")
    picture.save(folder / "answer.png")
    picture.convert("L").resize((2 * size[0], 2 * size[1]), 0).save(folder / "mask.png")
    row = {"source": "source.png", "answer": "answer.png", "mask": "mask.png", "references": ["answer.png"]}
    (folder / "train.jsonl").write_text(json.dumps(row | {"instruction": "x"} | more))
    return dataset(DataConfig(name="jsonl", path=str(folder / "train.jsonl")))


def test_pairs_are_cut_alike(tmp_path: Path) -> None:
    records = pair(tmp_path, (60, 40))
    whole, cut = records[0], CroppedDataset(records, [(128, 128)])[0]
    assert np.array_equal(cut.answer, whole.answer[:, 10:50])
    assert np.array_equal(cut.source, whole.source[:, 20:100])
    assert np.array_equal(cut.mask, whole.mask[:, 20:100])
    assert np.array_equal(cut.references[0], whole.references[0])
    caption = pair(tmp_path, (60, 40), source=None, mask=None)
    assert CroppedDataset(caption, [(128, 128)])[0].answer.shape == (40, 60, 3)


@pytest.mark.parametrize("size", [(500, 311), (311, 500), (64, 64), (400, 90), (333, 250)])
def test_next_to_nothing_is_padded(size: tuple[int, int], tmp_path: Path) -> None:
    cut = CroppedDataset(pair(tmp_path, size), KONTEXT_SIZES)[0]
    height, width = cut.source.shape[:2]
    panel = canvas.fit((width, height), preferred=KONTEXT_SIZES)
    # A side of the cut picture is off by half a pixel of its own.
    scale = panel.content.width / width
    assert panel.width - panel.content.width <= scale + 1
    assert panel.height - panel.content.height <= scale + 1
    assert height == 2 * size[1] or width == 2 * size[0]


def test_networks_without_sizes_are_told(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"data\.crop=centre is for networks with sizes"):
        CroppedDataset(pair(tmp_path, (60, 40)), ())
    with pytest.raises(ValueError, match=r"data\.crop must be none or centre"):
        DataConfig(crop="left")


def test_a_run_cuts_what_it_is_told_to(random_pipeline: Path, tmp_path: Path) -> None:
    from editkit import config
    from editkit.train.finetune import EditJob
    from editkit.train.settings import EditTrainConfig

    def learnt(crop: str) -> Any:
        pair(tmp_path, (60, 40))
        data = {"name": "jsonl", "path": str(tmp_path / "train.jsonl"), "crop": crop}
        values = {"backbone": str(random_pipeline), "cache": str(tmp_path / "cache"), "data": data}
        values["fit"] = {"output": str(tmp_path / "run"), "device": "cpu", "precision": "fp32", "batch": 1}
        job = EditJob(config.build(EditTrainConfig, values))
        (bucket,) = job.sampler.samplers[0].buckets
        return bucket.plan.canvas.content

    padded, cut = learnt("none"), learnt("centre")
    assert padded.height < padded.width
    assert cut.height == cut.width


def test_pairs_are_stretched_alike_after_their_bottom_is_cut(tmp_path: Path) -> None:
    """As ICEdit's released training does with MagicBrush: a 32nd off the bottom, then squares."""
    records = pair(tmp_path, (60, 64))
    config = DataConfig(cut_bottom=1 / 32, stretch=(32, 32))
    record = cropped(records, config, ())[0]
    assert record.source.shape == record.answer.shape == (32, 32, 3)
    assert record.mask.shape == (32, 32)
    cut = cropped(records, DataConfig(cut_bottom=1 / 32), ())[0]
    assert np.array_equal(cut.answer, records[0].answer[:62])
    assert np.array_equal(cut.source, records[0].source[:124])
    assert cropped(records, config, ()).digest() != records.digest()
    with pytest.raises(ValueError, match=r"data\.stretch must be a width and a height, without crop"):
        DataConfig(stretch=(32, 32), crop="centre")
