"""In bfloat16 and float16 every step is diffusers', where a rounding of time would show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline
from PIL import Image
from torch import Tensor

import editkit
from backbones.flux import Flux
from editkit import EditRequest
from editkit.inference.inputs import prepare
from editkit.inference.pipeline import Pipeline, denoise, plan_batch
from tests.parity.pipelines import PROMPT, pipeline
from tests.pictures import image

SIDE, STEPS = 96, 8
BOUND = 1e-4
"""Largest relative RMS."""


@torch.no_grad()
def _mine(editor: editkit.Editor, request: EditRequest) -> tuple[Tensor, Tensor]:
    """An edit's noise and its last latents."""
    planned = plan_batch(Pipeline(editor.backbone, *editor.method(request.method)), [prepare(request)])
    return planned.start.x_BLC, denoise(planned.velocity, planned.start, planned.times).x_BLC


def _theirs(built: Any, noise_BLC: Tensor, picture: Image.Image, **arguments: Any) -> Tensor:
    made: Tensor = built(
        prompt=PROMPT, image=picture, width=picture.width, height=picture.height, num_inference_steps=STEPS,
        latents=noise_BLC, max_sequence_length=48, output_type="latent", **arguments,
    ).images  # fmt: skip
    return made


def _assert_same(mine: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    assert mine.dtype == theirs.dtype == dtype
    apart = (mine - theirs).float().square().mean().sqrt() / theirs.float().square().mean().sqrt()
    assert float(theirs.float().std()) > 0.3
    assert float(apart) < BOUND


@pytest.mark.parametrize("negative", [None, "blue circle"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kontext(random_pipeline: Path, dtype: torch.dtype, negative: str | None) -> None:
    options = {"sizes": "exact", "true_cfg": 3.0}
    editor = editkit.load(str(random_pipeline), "cpu", dtype).configured({"kontext": options})
    picture = image(SIDE, SIDE)
    asked = EditRequest(
        image=picture, instruction=PROMPT, seed=5, steps=STEPS, guidance=2.5, negative=negative
    )
    noise_BLC, mine = _mine(editor, asked)
    arguments = {} if negative is None else {"negative_prompt": negative, "true_cfg_scale": 3.0}
    built = pipeline(FluxKontextPipeline, editor.backbone)
    other = _theirs(
        built, noise_BLC, picture, guidance_scale=2.5, _auto_resize=False, max_area=SIDE * SIDE, **arguments
    )
    _assert_same(mine, other, dtype)


def test_fill(random_flux: Flux, tmp_path: Path) -> None:
    random_flux.save("fill", tmp_path / "fill")
    editor = editkit.load(str(tmp_path / "fill"), "cpu", "bfloat16")
    side = 128
    picture, hole = image(side, side), Image.new("L", (side, side))
    hole.paste(255, (side // 4, side // 4, side // 2, side // 2))
    asked = EditRequest(
        image=picture, mask=hole, instruction=PROMPT, method="aceplus", task="repainting",
        seed=5, steps=STEPS, guidance=30.0,
    )  # fmt: skip
    options = {"max_tokens": side * side // 256, "adapter": None}
    noise_BLC, mine = _mine(editor.configured({"aceplus": options}), asked)
    built = pipeline(FluxFillPipeline, editor.backbone, "fill")
    generator = torch.Generator().manual_seed(5)
    other = _theirs(built, noise_BLC, picture, mask_image=hole, guidance_scale=30.0, generator=generator)
    _assert_same(mine, other, torch.bfloat16)
