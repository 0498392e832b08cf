"""One thread for everything, and small backbones of random weights in which every input matters."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

# Convolutions as small as these run hundreds of times slower on several threads of a busy machine.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
LETTERS = "AEHKLTXZ"
WIDTH, CLIP_WIDTH, T5_WIDTH = 64, 32, 48
AUTOENCODER = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 32, 32],
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 8,
    "sample_size": 128,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    # Neither is the identity, so that leaving one out shows.
    "scaling_factor": 0.36,
    "shift_factor": 0.12,
}
CLIP = {
    "hidden_size": CLIP_WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
T5 = {
    "d_model": T5_WIDTH,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 1,
    "num_heads": 3,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
}


def transformer_config(in_channels: int = 64) -> dict[str, object]:
    """One double and two single blocks, 64 wide; tokens are 64 wide on their way out whatever comes in."""
    return {
        "in_channels": in_channels,
        "out_channels": 64,
        "num_layers": 1,
        "num_single_layers": 2,
        "attention_head_dim": 32,
        "num_attention_heads": WIDTH // 32,
        "joint_attention_dim": T5_WIDTH,
        "pooled_projection_dim": CLIP_WIDTH,
        "guidance_embeds": True,
        "axes_dims_rope": [8, 12, 12],
    }


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Undo what a test, or what it calls, changes for the whole process."""
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)
    torch.set_num_threads(threads)


def photo(width: int, height: int, seed: int = 0) -> Tensor:
    """A smooth picture with noise over it, 1CHW, in the 256 levels that files have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    noisy = smooth + 0.05 * torch.randn(1, 3, height, width, generator=generator)
    return (noisy.clamp(0, 1) * 255).round() / 255


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    """The same as a PIL image."""
    levels_HWC = (photo(width, height, seed)[0] * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels_HWC.contiguous().numpy())


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pictures' pixels, in levels of 255."""
    assert one.size == other.size
    a, b = (torch.frombuffer(bytearray(each.tobytes()), dtype=torch.uint8).int() for each in (one, other))
    return int((a - b).abs().max())


@torch.no_grad()
def _liven(model: nn.Module) -> None:
    """Weights that keep a signal's size, rounded to bf16.

    PyTorch's own start shrinks it by 1.7 a layer: after a few, velocities would hardly depend on anything.
    Rounded, the weights in a saved folder are the ones in memory.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.normal_(std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                module.bias.normal_(std=0.1)
    for name, parameter in model.named_parameters():
        if name.endswith(
            (".norm_q.weight", ".norm_k.weight", ".norm_added_q.weight", ".norm_added_k.weight")
        ):
            parameter.fill_(1.75)  # attention that chooses, where else it would take the mean of all tokens
        parameter.copy_(parameter.bfloat16())


@torch.no_grad()
def _autoencoder():
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_config(AUTOENCODER).eval()
    _liven(vae)
    pixels = torch.cat([photo(128, 128, seed) for seed in range(4)]) * 2 - 1
    # Scaled latents of size 1, and pictures that fill the range of pixels without being cut off everywhere.
    mean = vae.encode(pixels).latent_dist.mean
    vae.encoder.conv_out.weight[:16] /= mean.std() * AUTOENCODER["scaling_factor"]
    decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    vae.decoder.conv_out.weight.mul_(0.4 / decoded.std())
    for parameter in vae.parameters():
        parameter.copy_(parameter.bfloat16())
    return vae.requires_grad_(False)


@pytest.fixture(scope="session")
def random_flux():
    """A family of random weights with every role that a family of `specs` has; `text` is `kontext`."""
    from diffusers import FluxTransformer2DModel

    from backbones import text
    from backbones.flux import Flux
    from backbones.specs import FAMILIES, Family, Role

    channels = {name: role.in_channels for family in FAMILIES.values() for name, role in family.roles.items()}
    roles = {
        name: Role(
            source=f"random-{'kontext' if name == 'text' else name}",
            in_channels=in_channels,
            steps=4,
            guidance=1.5,
            sizes=((128, 128),),
            area=128 * 128,
            licence="none",
        )
        for name, in_channels in channels.items()
    }
    family = Family(name="random", summary="random weights", sequence_length=48, roles=roles)
    flux = Flux(family, torch.device("cpu"), torch.float32)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        words = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
        encoders = text.fresh(words, letters=LETTERS, clip=CLIP, t5=T5, length=family.sequence_length)
        for model in (encoders.clip, encoders.t5):
            _liven(model)
            model.requires_grad_(False)
        vae = _autoencoder()
        for role in roles.values():
            transformer = FluxTransformer2DModel.from_config(transformer_config(role.in_channels)).eval()
            _liven(transformer)
            flux.adopt(role.source, transformer.requires_grad_(False), vae, encoders)
    return flux


@pytest.fixture(scope="session")
def random_pipeline(random_flux, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a diffusers FluxKontextPipeline folder; to be read only."""
    folder = tmp_path_factory.mktemp("pipeline") / "kontext"
    random_flux.save("kontext", folder)
    return folder


def quantize(transformer: Any, bits: int) -> None:
    """As diffusers' quantizer does, which refuses to without a GPU; bitsandbytes itself runs on a CPU too."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for name, linear in list(transformer.named_modules()):
        if isinstance(linear, nn.Linear) and "blocks." in name:
            kind: Any = partial(Linear4bit, compute_dtype=torch.float32, quant_type="nf4")
            if bits == 8:
                kind = partial(Linear8bitLt, has_fp16_weights=False)
            small = kind(linear.in_features, linear.out_features, linear.bias is not None)
            small.load_state_dict(linear.state_dict())
            parent, _, child = name.rpartition(".")
            setattr(transformer.get_submodule(parent), child, small.to("cpu").requires_grad_(False))
