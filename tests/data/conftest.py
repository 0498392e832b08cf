"""A folder of pictures for training pairs, and the encoding of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from editkit import config, registry
from editkit.data.buckets import Bucket
from editkit.data.datasets import Dataset
from editkit.data.latent_cache import LatentCache
from tests.data.encoded import Encode
from tests.pictures import image

NAMES = ("edit", "target", "mask", "ref")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        image(64 - 16 * (name == "mask"), 64 - 16 * (name == "mask"), number).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def encode(random_flux: Any, tmp_path: Path) -> Encode:
    """A function that gives the buckets of records under a method."""

    def make(
        records: Dataset,
        name: str = "kontext",
        cache: str = "cache",
        share: tuple[int, int] = (0, 1),
        fresh: bool = False,
        **changed: Any,
    ) -> list[Bucket]:
        method = registry.method(name)
        options = config.build(method.config, changed)
        parts = method.conditioner(random_flux, options), method.trainer(random_flux, options)
        key = [name, changed, records.digest()]
        where = {"key": key, "folder": tmp_path / cache, "share": share, "fresh": fresh}
        return LatentCache(records, random_flux, *parts, **where).buckets()

    return make
