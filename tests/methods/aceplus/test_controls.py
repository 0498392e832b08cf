"""Control pictures: gray, mosaic, edges, lines, depth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from editkit import EditkitError, shapesworld
from methods.aceplus import controls
from tests.pictures import photo


def test_annotators() -> None:
    pixels = torch.from_numpy(shapesworld.render(shapesworld.example(3).answer)).permute(2, 0, 1)[None] / 255
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., :64] = 1
    for name in ("gray", "mosaic", "canny", "contour"):
        made = controls.annotated(pixels, mask, name)
        assert torch.equal(made[..., 64:], pixels[..., 64:])
        assert not torch.equal(made, pixels)
        assert made.min() >= 0
        assert made.max() <= 1
    gray = controls.gray(pixels)
    assert torch.equal(gray[:, 0], gray[:, 2])
    blocks = controls.mosaic(torch.rand(1, 3, 1024, 768))
    assert torch.equal(blocks[..., :64, :64], blocks[..., :1, :1].expand(1, 3, 64, 64))
    edges = controls.canny(pixels)
    assert set(edges.unique().tolist()) <= {0.0, 1.0}
    assert 0 < edges.mean() < 0.2
    assert controls.contour(torch.full((1, 3, 32, 32), 0.2)).min() > 0.99


@pytest.mark.parametrize("control", ["canny", "contour", "mosaic", "gray"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (300, 3), (4, 40)])
def test_controls_take_any_size(control: str, width: int, height: int) -> None:
    made = controls.CONTROLS[control](photo(width, height))
    assert made.shape == (1, 3, height, width)
    assert made.isfinite().all()


def test_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with random weights: near is 1 somewhere, far is 0."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

    torch.manual_seed(0)
    small = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        initializer_range=0.2,
    )
    network = DPTForDepthEstimation(small)
    network.head.head[-2].bias.data += 100  # above what its last ReLU cuts off
    network.save_pretrained(tmp_path)
    DPTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    monkeypatch.setattr(controls, "DEPTH", str(tmp_path))
    controls._depth.cache_clear()
    pixels = photo(60, 44)
    found = controls.depth(pixels)
    controls._depth.cache_clear()
    assert found.shape == pixels.shape
    assert torch.equal(found[:, 0], found[:, 1])
    assert found.amin() == 0
    assert found.amax() == 1


def test_depth_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    controls._depth.cache_clear()
    with pytest.raises(EditkitError, match=r"hf download Intel/dpt-hybrid-midas"):
        controls.depth(photo(64, 64))
