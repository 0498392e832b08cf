"""diffusers' pipelines around the modules of a backbone."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from backbones.flux import Flux
from editkit import config, flow, registry
from editkit.types import EditInputs
from tests.pictures import photo

SIZES = ((128, 128), (96, 160), (160, 96), (64, 192))

PROMPT = "make the red circle blue"

STEPS = 4

TOLERANCE = 1e-4


def pipeline(cls: Any, flux: Flux, role: str = "kontext") -> Any:
    """diffusers' pipeline around the very same modules."""
    built = cls(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
        vae=flux.vae,
        text_encoder=flux.encoders.clip,
        tokenizer=flux.encoders.clip_tokenizer,
        text_encoder_2=flux.encoders.t5,
        tokenizer_2=flux.encoders.t5_tokenizer,
        transformer=flux.transformer(role),
    )
    built.set_progress_bar_config(disable=True)
    return built


def assert_equal(mine: Tensor, other: Tensor) -> None:
    assert mine.shape == other.shape
    assert float(mine.std()) > 0.3
    assert float((mine - other).abs().max()) < TOLERANCE, float((mine - other).abs().max())


def assert_fill_is_diffusers(flux: Flux, built: Any, width: int, height: int, guidance: float) -> None:
    """ICEdit's diptych through FluxFillPipeline: its own encoding, masking, packing and order of draws."""
    method, source_BCHW = registry.method("icedit"), photo(width, height)
    options = config.build(method.config, {"template": "none"})
    mine, generator = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    with torch.no_grad():
        inputs = EditInputs(
            prompts=(PROMPT,), source_BCHW=source_BCHW, size=(width, height), generators=(mine,)
        )
        plan = method.conditioner(flux, options).plan(inputs)
        noise_BLC = flux.noise(plan.canvas, [mine])
        times = flow.schedule(STEPS, noise_BLC.shape[1])
        *_, last_BLC = method.sampler(flux, options).euler_steps(plan, noise_BLC, times, guidance)
    mask_B1HW = torch.zeros(1, 1, height, 2 * width)
    mask_B1HW[..., width:] = 1
    other_BLC = built(
        prompt=PROMPT,
        image=torch.cat((source_BCHW, photo(width, height, 9)), dim=-1),
        mask_image=mask_B1HW,
        width=2 * width,
        height=height,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        generator=generator,
        max_sequence_length=48,
        output_type="latent",
    ).images
    assert_equal(last_BLC, other_BLC)
