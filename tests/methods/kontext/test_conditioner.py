"""Kontext's context: where source and references stand, by layout, and at which size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.flux import Flux
from backbones.meta_init import MetaFlux
from editkit import config
from editkit.types import EditInputs, Plan
from methods.kontext import METHOD
from tests.pictures import photo


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


def arranged(flux: Flux, **options: Any) -> Plan:
    """A source of 64x128 and references of 32x64 and 64x32 pixels, each at its own size."""
    made = METHOD.conditioner(flux, config.build(METHOD.config, {"sizes": "exact"} | options))
    references = (photo(32, 64, 1), photo(64, 32, 2))
    inputs = EditInputs(prompts=("",), source_BCHW=photo(64, 128), references=references)
    return made.plan_without_text(inputs)


def pictures(plan: Plan) -> list[Tensor]:
    """Position ids of the source and of both references."""
    ids_S3 = plan.conditioning.sequence_ids_S3
    assert ids_S3 is not None
    return list(ids_S3.split([32, 8, 8]))


def test_by_index_each_picture_is_a_plane_of_its_own(random_flux: Flux) -> None:
    for number, ids_S3 in enumerate(pictures(arranged(random_flux)), start=1):
        assert ids_S3[:, 0].unique().tolist() == [number]
        assert ids_S3[:, 1:].amin(0).tolist() == [0, 0]


def test_by_offset_pictures_stand_beside_each_other(random_flux: Flux) -> None:
    """On one plane, where the box around them stays closest to a square."""
    source, first, second = pictures(arranged(random_flux, layout="offset"))
    boxes = [(ids_S3[:, 1:].amin(0).tolist(), ids_S3[:, 1:].amax(0).tolist()) for ids_S3 in (source, first)]
    assert boxes == [([0, 0], [7, 3]), ([0, 4], [3, 5])]  # rows and columns: right of the source
    assert second[:, 1:].amin(0).tolist() == [8, 0]  # below it
    assert torch.cat((source, first, second))[:, 0].unique().tolist() == [1]


def test_the_weights_decide_on_the_layout() -> None:
    """FLUX.1's released weights have seen one offset; the embedded ones were trained as the paper says."""
    found = {
        name: METHOD.conditioner(MetaFlux(name), METHOD.config()).layout for name in ("flux1-dev", "tiny")
    }
    assert found == {"flux1-dev": "offset", "tiny": "index"}
    chosen = METHOD.conditioner(MetaFlux("flux1-dev"), METHOD.config(layout="stitch"))
    assert chosen.layout == "stitch"


def test_stitched_pictures_are_one(random_flux: Flux) -> None:
    """Scaled to the source's height and encoded together."""
    plan = arranged(random_flux, layout="stitch")
    assert plan.conditioning.sequence_BSC.shape == (1, (64 + 64 + 256) * 128 // 256, 64)
    assert torch.equal(plan.conditioning.sequence_ids_S3, random_flux.grid_ids(384, 128, image=1))


def test_the_source_comes_first_and_is_the_canvas(random_flux: Flux) -> None:
    plan = arranged(random_flux)
    assert (plan.canvas.width, plan.canvas.height) == (64, 128)
    assert torch.equal(plan.conditioning.sequence_BSC[:, :32], random_flux.encode(photo(64, 128)))
    assert torch.equal(plan.conditioning.sequence_BSC[:, 32:40], random_flux.encode(photo(32, 64, 1)))
