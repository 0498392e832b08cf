"""Conversion of FLUX's native autoencoder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from backbones.conversion.checkpoints import convert
from tests.backbones.conversion.native_shapes import Damage, Shape, random_state, refused, same


def autoencoder_shapes(base: int, factors: tuple[int, ...], blocks: int) -> dict[str, Shape]:
    """FLUX's native autoencoder by its arithmetic: 3 channels, 16 latent channels."""

    def resnet(name: str, before: int, after: int) -> Iterator[tuple[str, Shape]]:
        for norm, conv, channels in (("norm1", "conv1", before), ("norm2", "conv2", after)):
            yield from {f"{name}.{norm}.weight": (channels,), f"{name}.{norm}.bias": (channels,)}.items()
            yield from convolution(f"{name}.{conv}", channels, after, 3)
        if before != after:
            yield from convolution(f"{name}.nin_shortcut", before, after, 1)

    def convolution(name: str, before: int, after: int, size: int) -> Iterator[tuple[str, Shape]]:
        yield from {f"{name}.weight": (after, before, size, size), f"{name}.bias": (after,)}.items()

    def half(side: str, level: str, resample: str, ends: tuple[int, int]) -> Iterator[tuple[str, Shape]]:
        widths = [base * factor for factor in factors]
        path = list(enumerate(widths)) if side == "encoder" else list(enumerate(widths))[::-1]
        width, deepest = path[0][1], widths[-1]
        yield from convolution(f"{side}.conv_in", ends[0], width, 3)
        for number, after in path:
            for block in range(blocks + (side == "decoder")):
                yield from resnet(f"{side}.{level}.{number}.block.{block}", width, after)
                width = after
            if number != path[-1][0]:
                yield from convolution(f"{side}.{level}.{number}.{resample}.conv", width, width, 3)
        for name in ("block_1", "block_2"):
            yield from resnet(f"{side}.mid.{name}", deepest, deepest)
        for name in ("q", "k", "v", "proj_out"):
            yield from convolution(f"{side}.mid.attn_1.{name}", deepest, deepest, 1)
        for name, channels in ((f"{side}.mid.attn_1.norm", deepest), (f"{side}.norm_out", width)):
            yield from {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}.items()
        yield from convolution(f"{side}.conv_out", width, ends[1], 3)

    return dict(
        [*half("encoder", "down", "downsample", (3, 32)), *half("decoder", "up", "upsample", (16, 3))]
    )


def test_official_autoencoder_fits(tmp_path: Path) -> None:
    shapes = autoencoder_shapes(128, (1, 2, 4, 4), 2)
    assert len(shapes) == 244
    # One byte per value in place of four keeps the test small; dtypes pass as they are.
    state = {name: torch.zeros(shape, dtype=torch.float8_e4m3fn) for name, shape in shapes.items()}
    save_file(state, tmp_path / "ae.safetensors")
    config = json.loads((convert(tmp_path / "ae.safetensors", tmp_path / "vae") / "config.json").read_text())
    official = {
        "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "in_channels": 3, "out_channels": 3, "latent_channels": 16, "norm_num_groups": 32, "act_fn": "silu",
        "force_upcast": True, "mid_block_add_attention": True, "sample_size": 1024, "scaling_factor": 0.3611,
        "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
    }  # fmt: skip
    assert official.items() <= config.items()


def test_autoencoder_values_arrive(tmp_path: Path) -> None:
    native = random_state(autoencoder_shapes(32, (1, 2), 1), torch.float32)
    save_file(native, tmp_path / "ae.safetensors")
    folder = convert(tmp_path / "ae.safetensors", tmp_path / "vae")
    vae, report = AutoencoderKL.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    assert not any(report.values())
    places = {
        "encoder.down.1.block.0.conv1.weight": vae.encoder.down_blocks[1].resnets[0].conv1.weight,
        "encoder.down.0.downsample.conv.bias": vae.encoder.down_blocks[0].downsamplers[0].conv.bias,
        "decoder.up.1.block.1.norm2.weight": vae.decoder.up_blocks[0].resnets[1].norm2.weight,
        "decoder.up.0.block.0.nin_shortcut.bias": vae.decoder.up_blocks[1].resnets[0].conv_shortcut.bias,
        "decoder.mid.block_2.conv2.weight": vae.decoder.mid_block.resnets[1].conv2.weight,
        "encoder.norm_out.bias": vae.encoder.conv_norm_out.bias,
    }
    assert same({name: tensor.detach() for name, tensor in places.items()}, {n: native[n] for n in places})
    query = vae.decoder.mid_block.attentions[0].to_q.weight
    assert torch.equal(query, native["decoder.mid.attn_1.q.weight"][:, :, 0, 0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("encoder.conv_in.weight"), "not a complete .*encoder.conv_in.weight"),
        (lambda s: s.pop("decoder.up.1.upsample.conv.bias"), "not a complete FLUX .*upsample.conv.bias"),
        (lambda s: s.pop("encoder.mid.attn_1.q.bias"), "1 tensors do not fit .*attentions.0.to_q.bias"),
        (lambda s: s.update(logvar=torch.ones(1)), r"1 tensors do not belong to .* \(logvar\)"),
        (lambda s: s.update({"quant_conv.weight": torch.ones(32, 32, 1, 1)}), "do not fit .*quant_conv"),
        (lambda s: s.update({"encoder.down.0.block.0.conv1.weight": torch.ones(20, 32, 3, 3)}), "builds no"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("encoder.down")], "complete .*encoder.down.0"),
        (lambda s: s.update({"encoder.conv_in.weight": torch.ones(3)}), "not a complete FLUX autoencoder"),
    ],
)  # fmt: skip
def test_other_autoencoders_are_refused(tmp_path: Path, damage: Damage, message: str) -> None:
    state = random_state(autoencoder_shapes(32, (1, 2), 1))
    damage(state)
    save_file(state, tmp_path / "ae.safetensors")
    refused(tmp_path / "ae.safetensors", tmp_path / "vae", message)
