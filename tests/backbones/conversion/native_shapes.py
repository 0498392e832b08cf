"""Names and shapes of native checkpoints, by the architecture's arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from backbones.conversion.checkpoints import convert
from editkit.errors import EditkitError

Shape = tuple[int, ...]

State = dict[str, Tensor]

FULL = {
    "out_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
    "axes_dims_rope": [16, 56, 56],
}  # fmt: skip

TINY = {
    "in_channels": 24, "out_channels": 8, "num_layers": 2, "num_single_layers": 3, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 12, "pooled_projection_dim": 10,
    "axes_dims_rope": [4, 6, 6], "guidance_embeds": True,
}  # fmt: skip

AXES = (4, 6, 6)


def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def native_shapes(config: dict[str, Any]) -> dict[str, Shape]:
    """Names and shapes as Black Forest Labs' model.py declares them, by the architecture's arithmetic."""
    head, width = config["attention_head_dim"], config["attention_head_dim"] * config["num_attention_heads"]

    def tensors() -> Iterator[tuple[str, Shape]]:
        yield from linear("img_in", width, config["in_channels"])
        yield from linear("txt_in", width, config["joint_attention_dim"])
        embedders = {"time_in": 256, "vector_in": config["pooled_projection_dim"]}
        embedders |= {"guidance_in": 256} if config["guidance_embeds"] else {}
        for embedder, columns in embedders.items():
            yield from linear(f"{embedder}.in_layer", width, columns)
            yield from linear(f"{embedder}.out_layer", width, width)
        for number in range(config["num_layers"]):
            for stream in ("img", "txt"):
                block = f"double_blocks.{number}.{stream}"
                yield from linear(f"{block}_mod.lin", 6 * width, width)
                yield from linear(f"{block}_attn.qkv", 3 * width, width)
                yield f"{block}_attn.norm.query_norm.scale", (head,)
                yield f"{block}_attn.norm.key_norm.scale", (head,)
                yield from linear(f"{block}_attn.proj", width, width)
                yield from linear(f"{block}_mlp.0", 4 * width, width)
                yield from linear(f"{block}_mlp.2", width, 4 * width)
        for number in range(config["num_single_layers"]):
            block = f"single_blocks.{number}"
            yield from linear(f"{block}.linear1", 3 * width + 4 * width, width)
            yield from linear(f"{block}.linear2", width, width + 4 * width)
            yield f"{block}.norm.query_norm.scale", (head,)
            yield f"{block}.norm.key_norm.scale", (head,)
            yield from linear(f"{block}.modulation.lin", 3 * width, width)
        yield from linear("final_layer.linear", config["out_channels"], width)
        yield from linear("final_layer.adaLN_modulation.1", 2 * width, width)

    return dict(tensors())


def random_state(shapes: dict[str, Shape], dtype: torch.dtype = torch.bfloat16) -> State:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def tiny_model() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel.from_config(TINY).eval()


def same(one: State, other: State) -> bool:
    """Equal names, dtypes, shapes and bits."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and torch.equal(tensor.contiguous().view(torch.uint8), other[name].contiguous().view(torch.uint8))
        for name, tensor in one.items()
    )


def listing(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


Damage = Callable[[State], Any]


def refused(source: Path, destination: Path, message: str) -> None:
    """A conversion fails with one sentence that fits `message`, and leaves the disk as it was."""
    before = listing(source.parent)
    with pytest.raises(EditkitError, match=message):
        convert(source, destination, AXES)
    assert listing(source.parent) == before
