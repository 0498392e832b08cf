"""On the same weights and noise, editkit gives what diffusers' own pipelines give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxPipeline,
)
from torch import Tensor

from backbones import packing
from backbones.flux import Flux
from editkit import config, flow, registry
from editkit.types import EditInputs
from tests.parity.pipelines import PROMPT, SIZES, STEPS, assert_equal, assert_fill_is_diffusers, pipeline
from tests.pictures import photo

PROMPTS = (PROMPT, "remove the green square", "add a small star")


@pytest.fixture(scope="module")
def kontext(random_flux: Flux) -> Any:
    return pipeline(FluxKontextPipeline, random_flux)


@torch.no_grad()
def latents(
    flux: Flux,
    prompts: Sequence[str],
    source_BCHW: Tensor | None,
    *,
    guidance: float = 2.5,
    negatives: tuple[str, ...] | None = None,
    size: tuple[int, int] | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Noise, and where editkit's kontext arrives from it."""
    method = registry.method("kontext")
    built = config.build(method.config, {"sizes": "exact", **options})
    inputs = EditInputs(prompts=tuple(prompts), source_BCHW=source_BCHW, negatives=negatives, size=size)
    plan = method.conditioner(flux, built).plan(inputs)
    noise_BLC = flux.noise(plan.canvas, [torch.Generator().manual_seed(7 + n) for n in range(len(prompts))])
    times = flow.schedule(STEPS, noise_BLC.shape[1])
    *_, last_BLC = method.sampler(flux, built).euler_steps(plan, noise_BLC, times, guidance)
    return noise_BLC, last_BLC


def theirs(
    built: Any, noise_BLC: Tensor, prompts: Sequence[str], width: int, height: int, **arguments: Any
) -> Tensor:
    """Where diffusers arrives from the same noise."""
    if "image" in arguments:
        arguments |= {"_auto_resize": False, "max_area": width * height}
    return built(
        prompt=list(prompts),
        width=width,
        height=height,
        num_inference_steps=STEPS,
        latents=noise_BLC,
        max_sequence_length=48,
        output_type="latent",
        **arguments,
    ).images


@torch.no_grad()
def test_every_input_matters_to_the_random_network(random_flux: Flux) -> None:
    """Otherwise parity would hold for a toolkit that forgot one."""
    method = registry.method("kontext")
    conditioner = method.conditioner(random_flux, config.build(method.config, {"sizes": "exact"}))

    def velocity(
        words: str = PROMPT, seed: int = 0, t: float = 0.7, guidance: float = 2.5, **slots: Any
    ) -> Tensor:
        plan = conditioner.plan(EditInputs(prompts=(words,), source_BCHW=photo(96, 128, seed)))
        plan = replace(plan, conditioning=replace(plan.conditioning, **slots))
        noise_BLC = random_flux.noise(plan.canvas, [torch.Generator().manual_seed(0)])
        return random_flux.velocity(noise_BLC, t, plan, guidance)

    base_BLC = velocity()
    assert 0.5 < float(base_BLC.std()) < 2
    others = {
        "words": velocity("remove the green square"),
        "one word": velocity("make the red circle green"),
        "source": velocity(seed=1),
        "time": velocity(t=0.6),
        "guidance": velocity(guidance=3.0),
        "positions": velocity(sequence_ids_S3=random_flux.grid_ids(96, 128)),
    }
    for name, other_BLC in others.items():
        assert float((other_BLC - base_BLC).abs().max()) > 0.02, name


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_kontext_latents(random_flux: Flux, kontext: Any, width: int, height: int) -> None:
    source_BCHW = photo(width, height)
    noise_BLC, mine = latents(random_flux, [PROMPT], source_BCHW)
    assert_equal(
        mine, theirs(kontext, noise_BLC, [PROMPT], width, height, image=source_BCHW, guidance_scale=2.5)
    )


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.5, 30.0])
def test_guidance(random_flux: Flux, kontext: Any, guidance: float) -> None:
    source_BCHW = photo(96, 160, 3)
    noise_BLC, mine = latents(random_flux, [PROMPT], source_BCHW, guidance=guidance)
    other = theirs(kontext, noise_BLC, [PROMPT], 96, 160, image=source_BCHW, guidance_scale=guidance)
    assert_equal(mine, other)


def test_batch_of_three(random_flux: Flux, kontext: Any) -> None:
    source_BCHW = torch.cat([photo(160, 96, seed) for seed in range(3)])
    noise_BLC, mine = latents(random_flux, PROMPTS, source_BCHW)
    assert_equal(mine, theirs(kontext, noise_BLC, PROMPTS, 160, 96, image=source_BCHW, guidance_scale=2.5))


@pytest.mark.parametrize("scale", [1.5, 4.0])
def test_negative_prompt(random_flux: Flux, kontext: Any, scale: float) -> None:
    source_BCHW = torch.cat([photo(96, 96, seed) for seed in range(3)])
    negatives = ("a red square", "", "two stars")
    noise_BLC, mine = latents(random_flux, PROMPTS, source_BCHW, negatives=negatives, true_cfg=scale)
    other = theirs(
        kontext,
        noise_BLC,
        PROMPTS,
        96,
        96,
        image=source_BCHW,
        guidance_scale=2.5,
        negative_prompt=list(negatives),
        true_cfg_scale=scale,
    )
    assert_equal(mine, other)
    _, without = latents(random_flux, PROMPTS, source_BCHW)
    assert float((mine - without).abs().max()) > 0.1


@pytest.mark.parametrize(("width", "height"), SIZES[:2])
@pytest.mark.parametrize("negative", [None, "a red square"])
def test_text_to_image(random_flux: Flux, width: int, height: int, negative: str | None) -> None:
    extra: dict[str, Any] = {"negative_prompt": [negative], "true_cfg_scale": 2.0} if negative else {}
    noise_BLC, mine = latents(
        random_flux, [PROMPT], None, size=(width, height), negatives=(negative,) if negative else None
    )
    built = pipeline(FluxPipeline, random_flux)
    assert_equal(mine, theirs(built, noise_BLC, [PROMPT], width, height, guidance_scale=2.5, **extra))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("guidance", [1.0, 50.0])
def test_fill_latents(random_flux: Flux, width: int, height: int, guidance: float) -> None:
    assert_fill_is_diffusers(
        random_flux, pipeline(FluxFillPipeline, random_flux, "fill"), width, height, guidance
    )


def test_prompt_that_is_cut_off(random_flux: Flux, kontext: Any) -> None:
    long = " ".join([PROMPT] * 20)
    source_BCHW = photo(96, 96)
    noise_BLC, mine = latents(random_flux, [long], source_BCHW)
    assert_equal(mine, theirs(kontext, noise_BLC, [long], 96, 96, image=source_BCHW, guidance_scale=2.5))


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 28, 50])
@pytest.mark.parametrize("tokens", [1, 64, 256, 1000, 4096, 8192])
def test_schedule(random_pipeline: Path, steps: int, tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(random_pipeline, subfolder="scheduler")
    # diffusers' pipelines compute mu and hand it over; its formula is theirs, written out.
    mu = tokens * (1.15 - 0.5) / (4096 - 256) + 0.5 - (1.15 - 0.5) / (4096 - 256) * 256
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    times = flow.schedule(steps, tokens)
    assert times.shape == (steps + 1,)
    assert torch.allclose(times, scheduler.sigmas, atol=1e-6)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_packing(width: int, height: int) -> None:
    rows, columns = height // 8, width // 8
    latents_BChw = torch.randn(2, 16, rows, columns)
    packed_BLC = packing.pack(latents_BChw)
    assert torch.equal(packed_BLC, FluxPipeline._pack_latents(latents_BChw, 2, 16, rows, columns))
    unpacked_BChw = packing.unpack(packed_BLC, width, height)
    assert torch.equal(unpacked_BChw, FluxPipeline._unpack_latents(packed_BLC, height, width, 8))
    ids_L3 = FluxPipeline._prepare_latent_image_ids(2, rows // 2, columns // 2, "cpu", torch.float32)
    assert torch.equal(packing.grid_ids(width, height), ids_L3)
    ids_L3[:, 0] = 1
    assert torch.equal(packing.grid_ids(width, height, image=1), ids_L3)
