"""ACE++'s conditions and latents are those of the released path through diffusers."""

from __future__ import annotations

import itertools

import torch
from diffusers import FluxFillPipeline

from backbones.flux import Flux
from editkit import config, flow
from editkit.types import EditInputs
from methods.aceplus import METHOD
from tests.methods.aceplus.plans import conditioner
from tests.pictures import photo


@torch.no_grad()
def test_latents_are_those_of_the_released_path(random_flux: Flux) -> None:
    """A masked picture and its sample from FluxFillPipeline's own parts, and Euler by its scheduler."""
    from tests.parity.pipelines import pipeline

    built = pipeline(FluxFillPipeline, random_flux, "fill")
    pixels, mask = photo(128, 128), torch.zeros(1, 1, 128, 128)
    mask[..., 40:90, 30:100] = 1
    generator = torch.Generator().manual_seed(3)
    masked = (pixels * 2 - 1) * (1 - 0.5 * mask)
    packed, conditions = built.prepare_mask_latents(
        mask, masked, 1, 16, 1, 128, 128, torch.float32, torch.device("cpu"), generator
    )
    theirs_BLC = torch.cat((conditions, packed), dim=-1)
    mine = torch.Generator().manual_seed(3)
    given = EditInputs(prompts=("make it red",), source_BCHW=pixels, mask_B1HW=mask, generators=(mine,))
    plan = conditioner(random_flux).plan(given)
    assert torch.allclose(plan.conditioning.channel_BLC, theirs_BLC, atol=1e-4)
    noise_BLC = random_flux.noise(plan.canvas, [mine])
    embeds, pooled, text_ids = built.encode_prompt(
        prompt="make it red", prompt_2=None, max_sequence_length=48, device=torch.device("cpu")
    )
    times = flow.schedule(4, 64)
    x_BLC = noise_BLC
    for now, then in itertools.pairwise(times):
        velocity = built.transformer(
            hidden_states=torch.cat((x_BLC, theirs_BLC), dim=-1),
            timestep=now.expand(1),
            guidance=torch.full((1,), 50.0),
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
            txt_ids=text_ids,
            img_ids=random_flux.grid_ids(128, 128),
            return_dict=False,
        )[0]
        x_BLC = x_BLC + (then - now) * velocity
    sampler = METHOD.sampler(random_flux, config.build(METHOD.config, {}))
    *_, last = sampler.euler_steps(plan, noise_BLC, times, 50.0)
    assert torch.allclose(last, x_BLC, atol=1e-4)


@torch.no_grad()
def test_references_are_encoded_as_diffusers_encodes_them(random_flux: Flux) -> None:
    """The released script's canvas, of a reference and a masked picture, through FluxFillPipeline."""
    from tests.parity.pipelines import pipeline

    source, reference, mask = photo(128, 128), photo(64, 128, 1), torch.zeros(1, 1, 128, 128)
    mask[..., 40:90, 30:100] = 1
    edit = (source * 2 - 1) * (1 - mask)
    theirs, mine = (torch.Generator().manual_seed(3) for _ in range(2))
    packed, latents = pipeline(FluxFillPipeline, random_flux, "fill").prepare_mask_latents(
        torch.cat((torch.zeros(1, 1, 128, 64), mask), dim=-1),
        torch.cat((reference * 2 - 1, edit), dim=-1),
        *(1, 16, 1, 128, 192, torch.float32, torch.device("cpu"), theirs),
    )
    given = EditInputs(
        prompts=("make it red",),
        source_BCHW=source,
        mask_B1HW=mask,
        references=(reference,),
        generators=(mine,),
    )
    plan = conditioner(random_flux).plan(given)
    assert torch.allclose(plan.conditioning.channel_BLC, torch.cat((latents, packed), dim=-1), atol=1e-4)
