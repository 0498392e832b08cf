"""Converted files in use, of lower rank, and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from backbones.lora import dialect_reader, dialect_writer, keys, low_rank
from backbones.lora import files as lora_files
from editkit import adapters
from tests.backbones.lora.updates import RANK, SHAPES, close, deltas, drawn, uneven
from tests.command_line import Cli, refused


def velocity(transformer: Any) -> Tensor:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        return transformer(
            hidden_states=draw(1, 6, 384),
            encoder_hidden_states=draw(1, 3, 48),
            pooled_projections=draw(1, 32),
            timestep=torch.tensor([0.5]),
            guidance=torch.tensor([1.0]),
            txt_ids=torch.zeros(3, 3),
            img_ids=torch.arange(18.0).reshape(6, 3),
            return_dict=False,
        )[0]


@pytest.mark.parametrize(
    ("through", "shape", "source"),
    [
        *(("adapter", shape, source) for shape in SHAPES for source in keys.DIALECTS),
        *(("pipeline", shape, "kohya") for shape in SHAPES),
    ],
)
@pytest.mark.filterwarnings("ignore:.*inconsistency was discovered:RuntimeWarning")
def test_what_is_converted_loads(
    flux: FluxTransformer2DModel, tmp_path: Path, source: str, shape: str, through: str
) -> None:
    """Into diffusers, whose output is that of the weights plus the update."""
    updates = SHAPES[shape]({name: u for name, u in drawn(flux, alpha=3).items()})
    merged = FluxTransformer2DModel.from_config(flux.config).eval()
    merged.load_state_dict(flux.state_dict())
    with torch.no_grad():
        for name, delta in deltas(updates).items():
            merged.get_submodule(name).weight += delta.float()
    state, about = dialect_writer.to_dialect(updates, source)
    save_file(state, tmp_path / "source.safetensors", about)
    lora_files.convert(tmp_path / "source.safetensors", tmp_path / "plain.safetensors", "diffusers")
    loaded = FluxTransformer2DModel.from_config(flux.config).eval()
    loaded.load_state_dict(flux.state_dict())
    if through == "adapter":
        adapters.load_adapter(loaded, tmp_path / "plain.safetensors", "plain")
    else:
        pipe = FluxPipeline(None, None, None, None, None, None, loaded)
        pipe.load_lora_weights(tmp_path, weight_name="plain.safetensors")
    base, wanted = velocity(flux), velocity(merged)
    assert (wanted - base).abs().max() > 0.1
    torch.testing.assert_close(velocity(loaded), wanted, rtol=1e-3, atol=1e-4)


def test_alphas_beside_diffusers_names_count(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    state, _ = dialect_writer.to_dialect({"x_embedder": drawn(flux)["x_embedder"]}, "diffusers")
    save_file(state | {"transformer.x_embedder.alpha": torch.tensor(RANK / 2)}, tmp_path / "x.safetensors")
    loaded = FluxTransformer2DModel.from_config(flux.config)
    adapters.load_adapter(loaded, tmp_path / "x.safetensors", "mine")
    assert loaded.x_embedder.scaling["mine"] == 0.5


def test_the_metadata_say_the_format(cli: Cli, plain: Path, tmp_path: Path) -> None:
    lora_files.convert(plain, tmp_path / "new.safetensors", "kohya")
    with safe_open(tmp_path / "new.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_a_lower_rank_keeps_what_counts_most(cli: Cli, flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    """Within the rank nothing is lost; below it the rest is as near as a product of that rank can be."""
    updates = drawn(flux, alpha=3)
    rank = max(update.rank for update in updates.values())
    state, about = dialect_writer.to_dialect(updates, "diffusers")
    save_file(state, tmp_path / "whole.safetensors", about)
    found = cli("lora", "convert", tmp_path / "whole.safetensors", tmp_path / "same.safetensors",
                "--to", "diffusers", "--rank", rank)  # fmt: skip
    assert found.out.splitlines()[-1] == "relative error 0.0000"
    left, lost = lora_files.convert(
        tmp_path / "whole.safetensors", tmp_path / "cut.safetensors", "diffusers", 1
    )
    cut = dialect_reader.read_lora(*adapters.read_adapter(tmp_path / "cut.safetensors"))
    assert not left
    assert {update.rank for update in cut.updates.values()} == {1}
    missed, whole = 0.0, 0.0
    for name, delta in deltas(updates).items():
        sizes = torch.linalg.svdvals(delta.double()).square()
        missed, whole = missed + float(sizes[1:].sum()), whole + float(sizes.sum())
        error = (deltas(cut.updates)[name].double() - delta.double()).square().sum()
        assert float(error) == pytest.approx(float(sizes[1:].sum()), rel=1e-3)
    assert lost == pytest.approx((missed / whole) ** 0.5, rel=1e-3)
    refused(cli("lora", "convert", tmp_path / "whole.safetensors", tmp_path / "no.safetensors",
                "--to", "kohya", "--rank", 0), "rank=0 is not allowed")  # fmt: skip


def test_a_rank_above_a_weights_sides_keeps_the_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    down_rI, up_Or = torch.randn(24, 30, generator=generator), torch.randn(8, 24, generator=generator)
    whole = low_rank.LowRankUpdate(down_rI=down_rI, up_Or=up_Or, alpha=12.0)
    cut = low_rank.reduce_rank(whole, 16)
    assert cut.rank == 8
    assert cut.scale == whole.scale
    assert torch.allclose(cut.up_Or @ cut.down_rI, up_Or @ down_rI, atol=1e-4)


def test_a_merged_lora_is_the_sum(cli: Cli, flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    """Of files in two dialects, of which one knows but some modules, at other ranks and scales."""
    one, other = drawn(flux, alpha=3), uneven(drawn(flux))
    save_file(dialect_writer.to_dialect(one, "kohya")[0], tmp_path / "one.safetensors")
    state, about = dialect_writer.to_dialect(other, "diffusers")
    (tmp_path / "rank=4").mkdir()
    save_file(state, tmp_path / "rank=4" / adapters.FILE, about)
    both, cut = tmp_path / "both.safetensors", tmp_path / "cut.safetensors"
    cli("lora", "merge", f"{tmp_path / 'one.safetensors'}=-0.5", tmp_path / "rank=4", both)
    merged = dialect_reader.read_lora(*adapters.read_adapter(both))
    assert merged.dialect == "diffusers"
    wanted = {name: -0.5 * delta for name, delta in deltas(one).items()}
    for name, delta in deltas(other).items():
        wanted[name] = wanted[name] + delta
    close(wanted, deltas(merged.updates))
    assert {merged.updates[name].rank for name in other} == {RANK + update.rank for update in other.values()}
    told = cli("lora", "merge", both, cut, "--rank", 2).out.splitlines()
    assert 0.1 < float(told[-1].removeprefix("relative error ")) < 1
    assert {
        update.rank for update in dialect_reader.read_lora(*adapters.read_adapter(cut)).updates.values()
    } == {2}
