"""Read training pairs from files, and compare them with the pictures they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from editkit import config
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig, Record


def shown(name: str, folder: Path) -> Any:
    return np.asarray(Image.open(folder / f"{name}.png"))


def read(name: str, path: Path | str, **more: Any) -> list[Record]:
    found = dataset(config.build(DataConfig, {"name": name, "path": str(path)} | more))
    return [found[place] for place in range(len(found))]


def assert_pair(record: Record, folder: Path, words: str = "make it red") -> None:
    assert record.instruction == words
    assert np.array_equal(record.source, shown("edit", folder))
    assert np.array_equal(record.answer, shown("target", folder))
