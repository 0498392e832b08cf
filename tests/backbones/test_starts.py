"""The start of the embedded backbone: a linear autoencoder, and heads that copy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor

from backbones import autoencoder, linear_encoder, packing
from backbones.copying import COPYING_HEADS, look_left, start_by_copying
from editkit import shapesworld as world
from editkit.shapesworld import linear_autoencoder
from tests.random_weights import transformer_config

SIDE = 128
TOKENS = (SIDE // 16) ** 2


def pictures(count: int) -> Tensor:
    """Answers of training seeds, BCHW in [-1, 1]."""
    levels = [world.render(world.example(world.TRAINING_START + seed).answer) for seed in range(count)]
    return torch.from_numpy(np.stack(levels)).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture(scope="module")
def linear() -> AutoencoderKL:
    vae = autoencoder.create(linear_autoencoder.MODEL).requires_grad_(False)
    autoencoder.make_linear(vae, pictures(200), 0.5)
    return vae


def latents(vae: AutoencoderKL, pixels_BCHW: Tensor) -> Tensor:
    return vae.encode(pixels_BCHW).latent_dist.mean


def test_the_encoder_is_linear_in_pixels(linear: AutoencoderKL) -> None:
    one, other = pictures(20).chunk(2)
    between = latents(linear, 0.3 * one + 0.7 * other)
    mixed = 0.3 * latents(linear, one) + 0.7 * latents(linear, other)
    assert (between - mixed).square().mean().sqrt() < 0.03 * mixed.std()


def test_latents_tell_every_cell(linear: AutoencoderKL) -> None:
    """Least squares over some pictures brings the cells of others back."""
    pixels_BCHW = pictures(60)
    cells = (
        torch.nn.functional.pixel_unshuffle(pixels_BCHW[..., ::4, ::4], 2).permute(0, 2, 3, 1).reshape(-1, 12)
    )
    seen = latents(linear, pixels_BCHW).permute(0, 2, 3, 1).reshape(-1, 16)
    seen = torch.cat((seen, torch.ones(len(seen), 1)), dim=1)
    half = len(seen) // 2
    back = seen[half:] @ torch.linalg.lstsq(seen[:half], cells[:half], driver="gelsd").solution
    assert (back - cells[half:]).abs().mean() < 0.01


def test_the_decoder_is_the_encoders_inverse(linear: AutoencoderKL) -> None:
    """Stripes too, whose latents are alike over many cells, and weights that are rounded to bf16."""
    levels = [
        world.render(world.example(seed, kind).answer) for kind in ("style", "letter") for seed in range(3)
    ]
    pixels_BCHW = torch.from_numpy(np.stack(levels)).permute(0, 3, 1, 2) / 127.5 - 1
    back_BCHW = autoencoder.decode(linear, latents(linear, pixels_BCHW))
    assert (back_BCHW - pixels_BCHW).abs().max() < 0.01
    rounded = copy.deepcopy(linear).to(torch.bfloat16).float()
    back_BCHW = autoencoder.decode(rounded, latents(rounded, pixels_BCHW))
    assert (back_BCHW - pixels_BCHW).abs().max() < 0.03


def test_latents_are_whitened_to_a_power() -> None:
    deviations = []
    for power in (0.0, 1.0):
        _, maps_4CC = linear_encoder.whitening(pictures(100), power)
        deviations.append(torch.linalg.det(maps_4CC) ** (1 / 3))
    assert torch.allclose(deviations[0], deviations[0][0].expand(4), rtol=0.35), "one scale for all parts"
    assert (deviations[1][1:] > 3 * deviations[1][0]).all(), "differences, which are small, are enlarged"


def looked_at(transformer: FluxTransformer2DModel, ids_L3: Tensor) -> Tensor:
    """Where the first copying head of the first single block looks, from the canvas' tokens to all: L L."""
    attention = transformer.single_transformer_blocks[0].attn
    size, heads = transformer.config.attention_head_dim, transformer.config.num_attention_heads
    hidden_LD = torch.randn(len(ids_L3), heads * size, generator=torch.Generator().manual_seed(0))
    cosine, sine = transformer.pos_embed(ids_L3)
    turned = []
    for layer, norm in ((attention.to_q, attention.norm_q), (attention.to_k, attention.norm_k)):
        pairs = norm(layer(hidden_LD).unflatten(-1, (heads, size)))[:, 0].unflatten(-1, (-1, 2))
        cos, sin = cosine[:, ::2], sine[:, ::2]
        even, odd = pairs.unbind(-1)
        turned.append(torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(1))
    query_LD, key_LD = turned
    return (query_LD @ key_LD.T * size**-0.5).softmax(-1)


@pytest.fixture
def copying() -> FluxTransformer2DModel:
    transformer = FluxTransformer2DModel(**transformer_config() | {"axes_dims_rope": [4, 14, 14]})
    start_by_copying(transformer.requires_grad_(False), 2.5)
    assert transformer.config.num_attention_heads >= COPYING_HEADS
    return transformer


def test_copying_heads_look_at_the_same_place_of_the_context(copying: FluxTransformer2DModel) -> None:
    ids_L3 = torch.cat([packing.grid_ids(SIDE, SIDE, image=image) for image in (0, 1)])
    seen_LL = looked_at(copying, ids_L3)[:TOKENS]
    assert torch.equal(seen_LL.argmax(-1), torch.arange(TOKENS, 2 * TOKENS))
    assert seen_LL.max(-1).values.mean() > 0.5


def test_turned_heads_look_at_the_left_half_of_a_diptych(copying: FluxTransformer2DModel) -> None:
    wide = FluxTransformer2DModel(**transformer_config(384) | {"axes_dims_rope": [4, 14, 14]}).requires_grad_(
        False
    )
    state = copying.state_dict()
    state["x_embedder.weight"] = torch.cat((state["x_embedder.weight"], torch.zeros(64, 320)), dim=1)
    wide.load_state_dict(state)
    look_left(wide, left=SIDE // 16)
    ids_L3 = packing.grid_ids(2 * SIDE, SIDE)
    right = ids_L3[:, 2] >= SIDE // 16
    found = ids_L3[looked_at(wide, ids_L3).argmax(-1)]
    assert torch.equal(found[right, 1], ids_L3[right, 1])
    assert torch.equal(found[right, 2], ids_L3[right, 2] - SIDE // 16)
    assert torch.equal(wide.x_embedder.weight[:, 64:128], wide.x_embedder.weight[:, :64])
