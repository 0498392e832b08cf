"""LoRA dialects: the same update of every weight in each of them, what is in a file, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import transformer_config
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from surface_fixtures import Cli, files, in_process, python, refused
from test_icedit import FULL, released
from torch import Tensor, nn

from backbones.conversion import state_dict
from backbones.lora import dialects, fused_modules, summary
from backbones.lora import files as lora_files
from backbones.lora.fused_modules import Update
from editkit import adapters
from editkit.errors import EditkitError
from methods.icedit import collapse

RANK = 4
State = dict[str, Tensor]
Updates = dict[str, Update]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return in_process(capfd, monkeypatch)


@pytest.fixture(scope="module")
def flux() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    return FluxTransformer2DModel.from_config(transformer_config(384)).eval().requires_grad_(False)


def drawn(flux: nn.Module, alpha: float = RANK, dtype: torch.dtype = torch.float32) -> Updates:
    """A LoRA on every linear layer."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: Update(
            down_rI=torch.randn(RANK, module.in_features, generator=generator).to(dtype),
            up_Or=torch.randn(module.out_features, RANK, generator=generator).to(dtype) / 10,
            alpha=alpha,
        )
        for name, module in flux.named_modules()
        if isinstance(module, nn.Linear)
    }


def shared(updates: Updates) -> Updates:
    """The same, but with one down matrix wherever the native naming fuses."""
    result = dict(updates)
    for parts in fused_modules.modules(1, 2).values():
        for part in parts[1:]:
            down_rI = updates[parts[0]].down_rI.clone()
            result[part] = Update(down_rI=down_rI, up_Or=updates[part].up_Or, alpha=updates[part].alpha)
    return result


def uneven(updates: Updates) -> Updates:
    """Some parts only, other ranks and other scales."""
    result = {}
    for number, (name, update) in enumerate(updates.items()):
        rank = 1 + number % RANK
        if number % 5:
            result[name] = Update(
                down_rI=update.down_rI[:rank], up_Or=update.up_Or[:, :rank].contiguous(), alpha=1 + number % 3
            )
    return result


def deltas(updates: Updates) -> State:
    """What a LoRA adds to each weight."""
    return {name: u.scale * (u.up_Or.double() @ u.down_rI.double()) for name, u in updates.items()}


def close(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.shape == other[name].shape, name
        assert (tensor - other[name]).abs().max() <= 1e-6 * other[name].abs().max(), name


def identical(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


SHAPES: dict[str, Callable[[Updates], Updates]] = {"own": dict, "shared": shared, "uneven": uneven}
PAIRS = [(one, other) for one in dialects.DIALECTS for other in dialects.DIALECTS]


# --- Dialects ---


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [4, 3])
def test_every_pair_keeps_the_update(
    flux: nn.Module, source: str, target: str, shape: str, alpha: float
) -> None:
    """Through one dialect to another and from there to diffusers'."""
    updates = SHAPES[shape](drawn(flux, alpha))
    state, about = dialects.from_diffusers(updates, source)
    assert dialects.dialect(state) == source
    first = dialects.read(state, about)
    again, told = dialects.from_diffusers(first.updates, target)
    assert dialects.dialect(again) == target
    final = dialects.to_diffusers(again, told)
    assert not first.unplaced
    assert not final.unplaced
    close(deltas(final.updates), deltas(updates))


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("shape", ["own", "shared"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_exact_to_the_bit(
    flux: nn.Module, source: str, target: str, shape: str, dtype: torch.dtype
) -> None:
    state, about = dialects.from_diffusers(SHAPES[shape](drawn(flux, RANK, dtype)), source)
    there, told = dialects.from_diffusers(dialects.read(state, about).updates, target)
    back, said = dialects.from_diffusers(dialects.read(there, told).updates, source)
    identical(back, state)
    assert said == about


def test_alpha_is_kept_where_a_dialect_has_a_place_for_it(flux: nn.Module) -> None:
    updates = drawn(flux, alpha=3)
    ours, about = dialects.from_diffusers(updates, "diffusers")
    theirs, _ = dialects.from_diffusers(updates, "kohya")
    identical(
        {k: t for k, t in dialects.from_diffusers(dialects.read(theirs).updates, "diffusers")[0].items()},
        ours,
    )
    assert json.loads(about["lora_adapter_metadata"])["transformer.lora_alpha"] == 3
    assert float(theirs["lora_unet_img_in.alpha"]) == 3
    assert float(theirs["lora_unet_single_blocks_1_linear1.alpha"]) == 12  # of rank 16
    native, _ = dialects.from_diffusers(updates, "bfl")
    assert not any("alpha" in key for key in native)
    assert dialects.from_diffusers(drawn(flux), "diffusers")[1] == {}


@pytest.mark.parametrize(("shape", "ranks"), [("shared", (RANK, RANK)), ("own", (3 * RANK, 4 * RANK))])
def test_ranks_of_fused_modules(flux: nn.Module, shape: str, ranks: tuple[int, int]) -> None:
    joint = fused_modules.join(SHAPES[shape](drawn(flux)))
    assert joint["double_blocks.0.txt_attn.qkv"].rank == ranks[0]
    assert joint["single_blocks.1.linear1"].rank == ranks[1]
    assert joint["single_blocks.1.linear2"].rank == RANK


@pytest.mark.parametrize(("config", "scale"), [({"use_rslora": True}, 8 / RANK**0.5), ({}, 8 / RANK)])
def test_metadata_of_peft_are_understood(flux: nn.Module, config: dict[str, Any], scale: float) -> None:
    state, _ = dialects.from_diffusers(drawn(flux), "diffusers")
    config = {"r": RANK, "lora_alpha": 8, "alpha_pattern": {"to_q": 2}} | config
    about = {dialects.METADATA: json.dumps({f"transformer.{key}": value for key, value in config.items()})}
    updates = dialects.to_diffusers(state, about).updates
    assert updates["x_embedder"].scale == pytest.approx(scale)
    assert updates["transformer_blocks.0.attn.to_q"].scale == pytest.approx(scale / 4)


@pytest.mark.parametrize("target", dialects.DIALECTS[1:])
def test_native_names_mean_native_weights(flux: FluxTransformer2DModel, target: str) -> None:
    """Added to a native checkpoint, it gives the model that the LoRA gives in diffusers' layout."""
    updates = drawn(flux, alpha=2)
    weights = {name: tensor.double() for name, tensor in flux.state_dict().items()}
    merged = dict(weights)
    for name, delta in deltas(updates).items():
        merged[f"{name}.weight"] = weights[f"{name}.weight"] + delta
    native = state_dict.diffusers_to_native(weights)
    added = 0
    for name, delta in deltas(dialects.read(dialects.from_diffusers(updates, target)[0]).updates).items():
        native[f"{name}.weight"] = native[f"{name}.weight"] + delta
        added += 1
    assert added == sum(name.endswith(".weight") for name in native)
    close(state_dict.native_to_diffusers(native), merged)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "base_model.model.", "diffusion_model."])
def test_other_spellings(flux: nn.Module, prefix: str) -> None:
    updates = drawn(flux)
    native, _ = dialects.from_diffusers(updates, "bfl")
    close(deltas(dialects.to_diffusers({prefix + k: t for k, t in native.items()}).updates), deltas(updates))
    named, _ = dialects.from_diffusers(updates, "diffusers")
    bare = {key.removeprefix("transformer."): tensor for key, tensor in named.items()}
    close(deltas(dialects.to_diffusers(bare).updates), deltas(updates))
    flat = {}
    for key, tensor in bare.items():
        stem, matrix = key.rsplit(".lora_", 1)
        end = {"A.weight": "down", "B.weight": "up"}[matrix]
        flat[f"lora_transformer_{stem.replace('.', '_')}.lora_{end}.weight"] = tensor
    assert dialects.dialect(flat) == "kohya"
    close(deltas(dialects.to_diffusers(flat).updates), deltas(updates))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("alpha", [RANK, 6])
def test_diffusers_own_reader_of_kohya_agrees(dense: bool, alpha: float) -> None:
    """It cuts rows at a width of 3072, and loses modules outside blocks: those are left to other tests."""
    torch.manual_seed(0)
    state = {}
    for native, parts in fused_modules.modules(1, 2).items():
        if "blocks" in native:
            rows, stem = 3072 * sum(fused_modules.shares(parts)), "lora_unet_" + native.replace(".", "_")
            rank = RANK * len(parts)
            up = torch.randn(rows, rank)
            if not dense and len(parts) > 1:
                units = torch.tensor(fused_modules.shares(parts))
                of_row = torch.arange(len(parts)).repeat_interleave(units * 3072)
                up *= of_row[:, None] == torch.arange(len(parts)).repeat_interleave(RANK)
            state |= {f"{stem}.lora_down.weight": torch.randn(rank, 8), f"{stem}.lora_up.weight": up}
            state[f"{stem}.alpha"] = torch.tensor(float(alpha * len(parts)))
    theirs = _convert_kohya_flux_lora_to_diffusers(dict(state))
    updates = dialects.to_diffusers(state).updates
    ours, _ = dialects.from_diffusers(updates, "diffusers")
    assert ours.keys() == theirs.keys()
    if alpha == RANK:
        identical(ours, theirs)
    close(deltas(updates), deltas(dialects.read(theirs).updates))


# --- In use ---


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


@pytest.mark.parametrize("source", dialects.DIALECTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("through", ["adapter", "pipeline"])
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
    state, about = dialects.from_diffusers(updates, source)
    save_file(state, tmp_path / "source.safetensors", about)
    lora_files.convert(tmp_path / "source.safetensors", tmp_path / "plain.safetensors", "diffusers")
    loaded = FluxTransformer2DModel.from_config(flux.config).eval()
    loaded.load_state_dict(flux.state_dict())
    if through == "adapter":
        adapters.load(loaded, tmp_path / "plain.safetensors", "plain")
    else:
        pipe = FluxPipeline(None, None, None, None, None, None, loaded)
        pipe.load_lora_weights(tmp_path, weight_name="plain.safetensors")
    base, wanted = velocity(flux), velocity(merged)
    assert (wanted - base).abs().max() > 0.1
    torch.testing.assert_close(velocity(loaded), wanted, rtol=1e-3, atol=1e-4)


# --- Full size ---


@pytest.fixture(scope="module")
def full() -> FluxTransformer2DModel:
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(FULL)


def ace(rank: int) -> State:
    """The released ACE++ LoRAs: 304 stems."""
    state = {}
    sizes = {
        "attn_qkv": (3072, 9216), "attn_proj": (3072, 3072), "mlp_0": (3072, 12288), "mlp_2": (12288, 3072),
        "mod_lin": (3072, 18432), "linear1": (3072, 21504), "linear2": (15360, 3072),
        "modulation_lin": (3072, 9216),
    }  # fmt: skip
    names = [f"double_blocks_{i}_{s}" for i in range(19) for s in ("img", "txt")]
    names += [f"single_blocks_{i}" for i in range(38)]
    for name in names:
        for kind, (inputs, outputs) in sizes.items():
            if name.startswith("single") == (kind in ("linear1", "linear2", "modulation_lin")):
                stem = f"lora_unet_{name}_{kind}"
                state[f"{stem}.lora_down.weight"] = torch.empty(rank, inputs, device="meta")
                state[f"{stem}.lora_up.weight"] = torch.empty(outputs, rank, device="meta")
                state[f"{stem}.alpha"] = torch.empty((), device="meta")
    return state


def test_released_files_are_placed_whole(full: FluxTransformer2DModel) -> None:
    linear = {
        name: (module.out_features, module.in_features)
        for name, module in full.named_modules()
        if isinstance(module, nn.Linear)
    }
    normal, kohya = released(full, 32, device="meta"), ace(64)
    assert (len(normal), len(kohya)) == (686, 912)
    assert sum(tensor.numel() for key, tensor in kohya.items() if "alpha" not in key) == 306_315_264
    for state, count, spoken in ((normal, 343, "diffusers"), (kohya, 494, "kohya")):
        found = dialects.to_diffusers(state)
        assert (found.dialect, found.unplaced, len(found.updates)) == (spoken, (), count)
        for name, update in found.updates.items():
            assert (len(update.up_Or), update.down_rI.shape[1]) == linear[name]
        for target in dialects.DIALECTS:
            there, about = dialects.from_diffusers(dialects.read(state).updates, target)
            assert len(dialects.to_diffusers(there, about).updates) >= count
    back, _ = dialects.from_diffusers(dialects.to_diffusers(normal).updates, "diffusers")
    assert {key: t.shape for key, t in back.items()} == {key: t.shape for key, t in normal.items()}


def test_summaries_at_full_size(full: FluxTransformer2DModel) -> None:
    linears = sum(isinstance(module, nn.Linear) for module in full.modules())
    normal = summary.inspect(released(full, 32, device="meta"), {})
    assert (normal.method, normal.width, normal.x_embedder) == ("icedit or aceplus", 3072, 384)
    assert (normal.modules, normal.possible, normal.ranks) == (343, linears, {32: 343})
    assert normal.kinds["single_transformer_blocks.*.proj_mlp"] == 38
    moe = summary.inspect(released(full, 32, experts=4, device="meta"), {})
    assert moe.experts == summary.Experts(
        modules=57, number=4, rank=32, top_k=1, router="released", alpha=32.0
    )
    assert (moe.method, moe.modules, len(moe.unplaced)) == ("icedit", 286, 456 + 57)
    plus = summary.inspect(ace(16), {})
    assert (plus.dialect, plus.method, plus.x_embedder) == ("kohya", "unknown", None)
    assert (plus.width, plus.modules, plus.ranks) == (3072, 494, {16: 494})


# --- The command line ---


@pytest.fixture
def plain(flux: nn.Module, tmp_path: Path) -> Path:
    state, about = dialects.from_diffusers(drawn(flux, alpha=3), "diffusers")
    save_file(state, tmp_path / "plain.safetensors", about)
    return tmp_path / "plain.safetensors"


@pytest.fixture
def moe(flux: nn.Module, tmp_path: Path) -> Path:
    """Experts at a scale of 2, a plain LoRA at a scale of 2 beside them."""
    about = {
        "icedit_moe": json.dumps({"top_k": 2, "router": "paper", "alpha": 2.0 * RANK, "in_channels": 384}),
        dialects.METADATA: json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 2 * RANK}),
    }
    save_file(released(flux, RANK, experts=3), tmp_path / "moe.safetensors", about)
    return tmp_path / "moe.safetensors"


@pytest.mark.parametrize(
    ("channels", "method"), [(64, "kontext"), (384, "icedit or aceplus"), (448, "aceplus")]
)
@pytest.mark.parametrize("dialect", dialects.DIALECTS)
def test_inspect(cli: Cli, tmp_path: Path, channels: int, method: str, dialect: str) -> None:
    flux = FluxTransformer2DModel.from_config(transformer_config(channels))
    updates = drawn(flux)
    state, about = dialects.from_diffusers(updates, dialect)
    state["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = torch.ones(1, 1)
    save_file(state, tmp_path / "some.safetensors", about)
    run = cli("lora", "inspect", tmp_path / "some.safetensors", "--json")
    assert (run.status, run.err) == (0, "")
    found = json.loads(run.out)
    assert (found["dialect"], found["method"], found["width"]) == (dialect, method, 64)
    assert found["x_embedder"] == channels
    assert found["modules"] == found["possible"] == len(updates)
    assert found["ranks"] == {"4": len(updates)}
    assert found["alphas"] == {"4.0": len(updates)}
    assert sum(found["kinds"].values()) == len(updates)
    assert len(found["unplaced"]) == 1
    run = cli("lora", "inspect", tmp_path / "some.safetensors")
    assert f"dialect   {dialect}\n" in run.out
    assert f"method    {method}\n" in run.out
    assert "unloaded  1 tensors (lora_te1_" in run.out


def test_inspect_of_experts(cli: Cli, moe: Path) -> None:
    run = cli("lora", "inspect", moe)
    assert run.status == 0, run.err
    assert "method    icedit (LoRA-MoE)" in run.out
    assert "3 of rank 4, alpha 8, on 3 more modules; top-k 2, router paper" in run.out
    alone = {key: tensor for key, tensor in load_file(moe).items() if "expert" in key or "route" in key}
    save_file(alone, moe)
    found = json.loads(cli("lora", "inspect", moe, "--json").out)
    assert (found["modules"], found["width"], found["experts"]["modules"]) == (0, 64, 3)


@pytest.mark.parametrize("dialect", dialects.DIALECTS)
def test_convert(cli: Cli, plain: Path, tmp_path: Path, dialect: str) -> None:
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    run = cli("lora", "convert", plain, there, "--to", dialect)
    assert (run.status, run.out, run.err) == (0, f"{there}\n", "")
    assert dialects.dialect(load_file(there)) == dialect
    assert cli("lora", "convert", there, back, "--to", "diffusers").status == 0
    close(
        deltas(dialects.to_diffusers(*adapters.read(back)).updates),
        deltas(dialects.read(*adapters.read(plain)).updates),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for p in (plain, there, back))


def test_text_encoders_are_left_out_aloud(cli: Cli, plain: Path, tmp_path: Path) -> None:
    state, about = adapters.read(plain)
    save_file(state | {"text_encoder.x.lora_A.weight": torch.ones(1, 1)}, plain, about)
    run = cli("lora", "convert", plain, tmp_path / "new.safetensors", "--to", "kohya")
    assert run.status == 0
    assert run.err.startswith("note: 1 tensors of text encoders were left out, such as text_encoder.x")


@pytest.mark.parametrize("way", collapse.WAYS)
def test_collapse(cli: Cli, moe: Path, tmp_path: Path, way: str) -> None:
    state, _ = adapters.read(moe)
    modules = [key[12:-18] for key in state if key.endswith(".lora_route.weight")]
    weights = {name: [0.5, 0.25, 0.25] for name in modules}
    (tmp_path / "routing.json").write_text(json.dumps(weights))
    new = tmp_path / "new.safetensors"
    run = cli("lora", "collapse", moe, new, "--way", way, "--weights", tmp_path / "routing.json")
    assert run.status == 0
    assert "tokens use 2 experts each" in run.err
    wanted = collapse.collapse(state, way=way, weights=weights, scale=2.0)
    assert 0 < wanted.error < 1.5
    assert f"mean relative error {wanted.error:.4f} over 3 modules" in run.out
    worst = max(wanted.errors, key=lambda name: wanted.errors[name])
    assert f"worst {wanted.errors[worst]:.4f} at {worst}" in run.out
    found = dialects.to_diffusers(*adapters.read(new))
    assert not found.unplaced
    assert found.updates["x_embedder"].scale == 2
    assert {found.updates[name].scale for name in modules} == {1.0}
    for name in modules:
        assert torch.equal(found.updates[name].up_Or, wanted.state[f"transformer.{name}.lora_B.weight"])
    transformer = FluxTransformer2DModel.from_config(transformer_config(384))
    adapters.load(transformer, new, "plain")
    assert transformer.x_embedder.scaling["plain"] == 2
    assert transformer.transformer_blocks[0].ff.net[2].scaling["plain"] == 1


def test_alphas_beside_diffusers_names_count(flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    state, _ = dialects.from_diffusers({"x_embedder": drawn(flux)["x_embedder"]}, "diffusers")
    save_file(state | {"transformer.x_embedder.alpha": torch.tensor(RANK / 2)}, tmp_path / "x.safetensors")
    loaded = FluxTransformer2DModel.from_config(flux.config)
    adapters.load(loaded, tmp_path / "x.safetensors", "mine")
    assert loaded.x_embedder.scaling["mine"] == 0.5


def test_collapse_to_a_higher_rank_is_exact(cli: Cli, moe: Path, tmp_path: Path) -> None:
    """One expert a module loses nothing; more ranks lose less."""
    errors = []
    for rank in (1, 4, 12):
        run = cli("lora", "collapse", moe, tmp_path / "new.safetensors", "--rank", rank)
        errors.append(float(run.out.split("mean relative error ")[1].split()[0]))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]
    updates = dialects.to_diffusers(*adapters.read(tmp_path / "new.safetensors")).updates
    assert updates["transformer_blocks.0.ff.net.2"].rank == 12


def test_help_is_light() -> None:
    script = (
        "import runpy, sys; sys.argv = ['editkit', 'lora', 'inspect', '--help']\n"
        "try: runpy.run_module('editkit', run_name='__main__')\n"
        "except SystemExit as stopped: assert not stopped.code\n"
        "print([name for name in ('torch', 'diffusers', 'safetensors') if name in sys.modules])"
    )
    run = python("-c", script)
    assert run.out.splitlines()[-1] == "[]"
    assert "Usage:" in run.out


# --- Refusals ---


def edited(path: Path, change: Callable[[State], State], about: dict[str, str] | None = None) -> Path:
    state, told = adapters.read(path)
    save_file(change(state), path, told if about is None else about)
    return path


def replaced(end: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda state: {k: change(t) if k.endswith(end) else t for k, t in state.items()}


X = "transformer.x_embedder.lora_"
DAMAGE: dict[str, tuple[Callable[[State], State], str]] = {
    "NaN": (replaced("x_embedder.lora_B.weight", lambda t: t * float("nan")), "not finite"),
    "ranks": (replaced("x_embedder.lora_B.weight", lambda t: t[:, :2].contiguous()), "share no rank"),
    "half": (lambda state: {k: t for k, t in state.items() if k != f"{X}A.weight"}, "lacks its down matrix"),
    "vector": (replaced("x_embedder.lora_B.weight", lambda t: t[:, 0].contiguous()), "share no rank"),
    "no LoRA": (lambda _: {"x_embedder.weight": torch.ones(2, 2)}, "no LoRA of FLUX.*x_embedder.weight"),
    "empty": (lambda _: {}, "no LoRA of FLUX"),
    "another model": (lambda _: {"unet.down.lora_A.weight": torch.ones(2, 2)}, "diffusers or kohya or bfl"),
    "two dialects": (
        lambda state: state | {"lora_unet_img_in.lora_down.weight": torch.ones(2, 2)},
        "diffusers and kohya",
    ),
    "twice": (
        lambda state: state | {"x_embedder.lora_A.weight": torch.ones(2, 2)},
        "x_embedder is there twice",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("command", ["inspect", "convert", "collapse"])
def test_damaged_files(cli: Cli, plain: Path, tmp_path: Path, name: str, command: str) -> None:
    change, words = DAMAGE[name]
    edited(plain, change)
    before = files(tmp_path)
    rest = {"inspect": [], "convert": [tmp_path / "new.safetensors", "--to", "kohya"]}
    refused(cli("lora", command, plain, *rest.get(command, [tmp_path / "new.safetensors"])), words)
    assert files(tmp_path) == before


def test_widths_that_differ(cli: Cli, plain: Path) -> None:
    edited(plain, replaced("proj_mlp.lora_A.weight", lambda tensor: tensor[:, :8].contiguous()))
    refused(cli("lora", "inspect", plain), "is for a transformer 64 wide.*for one 8 wide")
    refused(cli("lora", "convert", plain, plain.parent / "n.safetensors", "--to", "bfl"), "differ in width")
    fused = {"lora_unet_single_blocks_0_linear1.lora_down.weight": torch.ones(2, 8),
             "lora_unet_single_blocks_0_linear1.lora_up.weight": torch.ones(55, 2)}  # fmt: skip
    edited(plain, lambda _: fused, {})
    refused(cli("lora", "inspect", plain), "55 rows, which is no multiple of 7")


@pytest.mark.parametrize("extra", ["dora_scale", "lora_B.bias", "lora_A.expert_0.weight"])
def test_what_has_no_place_is_not_dropped(cli: Cli, plain: Path, extra: str) -> None:
    edited(plain, lambda state: state | {f"transformer.proj_out.{extra}": torch.ones(64)})
    run = cli("lora", "convert", plain, plain.parent / "new.safetensors", "--to", "comfyui")
    refused(run, "collapse` first" if "expert" in extra else "give a plain LoRA")
    assert extra in run.err


@pytest.mark.parametrize("content", [None, b"", b"no safetensors", b"\xff" * 64])
@pytest.mark.parametrize("command", ["inspect", "convert", "collapse"])
def test_no_file(cli: Cli, tmp_path: Path, content: bytes | None, command: str) -> None:
    source = tmp_path / "source.safetensors"
    if content is not None:
        source.write_bytes(content)
    rest = {"inspect": [], "convert": [tmp_path / "new.safetensors", "--to", "kohya"]}
    run = cli("lora", command, source, *rest.get(command, [tmp_path / "new.safetensors"]))
    refused(run, "cannot be read" if content is not None else "exists")


def test_a_truncated_file(cli: Cli, plain: Path) -> None:
    plain.write_bytes(plain.read_bytes()[:-100])
    refused(cli("lora", "inspect", plain), "cannot be read")


def test_destinations(cli: Cli, plain: Path, moe: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    before = files(tmp_path)
    for name, words in (
        ("new.bin", "does not end in .safetensors"),
        ("no/new.safetensors", "does not exist; make it first"),
        ("folder.safetensors", "is a folder"),
    ):
        refused(cli("lora", "convert", plain, tmp_path / name, "--to", "bfl"), words)
        refused(cli("lora", "collapse", moe, tmp_path / name), words)
    refused(
        cli("lora", "convert", plain, tmp_path / "n.safetensors", "--to", "xlabs"), "there are diffusers, "
    )
    refused(cli("lora", "convert", plain, tmp_path / "n.safetensors"), "--to")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--way", "mean"], "svd or average"),
        (["--rank", "0"], "at least 1"),
        (["--way", "average", "--rank", "2"], "leave rank out"),
        (["--weights", "none.json"], "cannot be read; give JSON"),
        (["--weights", "broken.json"], "is no JSON"),
        (["--weights", "list.json"], "holds something else"),
        (["--weights", "nan.json"], "holds something else"),
        (["--weights", "strange.json"], "names proj_out, which has no experts"),
        (["--weights", "few.json"], "do not fit"),
    ],
)
def test_bad_collapses(cli: Cli, moe: Path, tmp_path: Path, options: list[str], words: str) -> None:
    contents = {
        "broken": "{", "list": "[1]", "nan": '{"transformer_blocks.0.ff.net.2": [NaN, 1, 1]}',
        "strange": '{"proj_out": [1]}', "few": '{"transformer_blocks.0.ff.net.2": [1]}',
    }  # fmt: skip
    for name, text in contents.items():
        (tmp_path / f"{name}.json").write_text(text)
    options = [str(tmp_path / each) if each.endswith(".json") else each for each in options]
    refused(cli("lora", "collapse", moe, tmp_path / "new.safetensors", *options), words)
    assert not (tmp_path / "new.safetensors").exists()


def test_collapse_wants_sound_experts(cli: Cli, moe: Path, plain: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    refused(cli("lora", "collapse", plain, new), "no experts in it; give a LoRA-MoE")
    edited(moe, replaced("0.ff.net.2.lora_A.expert_1.weight", lambda tensor: tensor * float("inf")))
    refused(cli("lora", "collapse", moe, new), "not finite")
    edited(moe, lambda state: state, {"icedit_moe": "{"})
    refused(cli("lora", "collapse", moe, new), "not finite|cannot be read; remove")


@pytest.mark.parametrize("lost", [".lora_route.weight", ".lora_B.expert_1.weight", ".lora_A.expert_0.weight"])
def test_inspect_sees_what_is_missing(cli: Cli, moe: Path, lost: str) -> None:
    edited(moe, lambda state: {k: t for k, t in state.items() if not k.endswith(f"0.ff.net.2{lost}")})
    refused(cli("lora", "inspect", moe), "has not as many experts as its router")


def test_bad_metadata(cli: Cli, plain: Path) -> None:
    for told in ("{", "[]", '{"transformer.lora_alpha": "four"}', '{"transformer.use_dora": true}'):
        edited(plain, lambda state: state, {dialects.METADATA: told})
        refused(cli("lora", "inspect", plain), "metadata .* cannot be read|DoRA")


def test_the_metadata_say_the_format(cli: Cli, plain: Path, tmp_path: Path) -> None:
    lora_files.convert(plain, tmp_path / "new.safetensors", "kohya")
    with safe_open(tmp_path / "new.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_from_diffusers_refuses_what_is_not_flux() -> None:
    update = Update(down_rI=torch.ones(1, 2), up_Or=torch.ones(2, 1), alpha=1)
    with pytest.raises(EditkitError, match="no linear module of FLUX"):
        dialects.from_diffusers({"mid_block": update}, "kohya")
    with pytest.raises(EditkitError, match="two updates"):
        dialects.from_diffusers({"img_in": update, "x_embedder": update}, "bfl")
    with pytest.raises(EditkitError, match="two updates"):
        dialects.from_diffusers({"img_in": update, "x_embedder": update}, "diffusers")


def test_a_lower_rank_keeps_what_counts_most(cli: Cli, flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    """Within the rank nothing is lost; below it the rest is as near as a product of that rank can be."""
    updates = drawn(flux, alpha=3)
    rank = max(update.rank for update in updates.values())
    state, about = dialects.from_diffusers(updates, "diffusers")
    save_file(state, tmp_path / "whole.safetensors", about)
    found = cli("lora", "convert", tmp_path / "whole.safetensors", tmp_path / "same.safetensors",
                "--to", "diffusers", "--rank", rank)  # fmt: skip
    assert found.out.splitlines()[-1] == "relative error 0.0000"
    left, lost = lora_files.convert(
        tmp_path / "whole.safetensors", tmp_path / "cut.safetensors", "diffusers", 1
    )
    cut = dialects.read(*adapters.read(tmp_path / "cut.safetensors"))
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


def test_a_merged_lora_is_the_sum(cli: Cli, flux: FluxTransformer2DModel, tmp_path: Path) -> None:
    """Of files in two dialects, of which one knows but some modules, at other ranks and scales."""
    one, other = drawn(flux, alpha=3), uneven(drawn(flux))
    save_file(dialects.from_diffusers(one, "kohya")[0], tmp_path / "one.safetensors")
    state, about = dialects.from_diffusers(other, "diffusers")
    (tmp_path / "rank=4").mkdir()
    save_file(state, tmp_path / "rank=4" / adapters.FILE, about)
    both, cut = tmp_path / "both.safetensors", tmp_path / "cut.safetensors"
    cli("lora", "merge", f"{tmp_path / 'one.safetensors'}=-0.5", tmp_path / "rank=4", both)
    merged = dialects.read(*adapters.read(both))
    assert merged.dialect == "diffusers"
    wanted = {name: -0.5 * delta for name, delta in deltas(one).items()}
    for name, delta in deltas(other).items():
        wanted[name] = wanted[name] + delta
    close(wanted, deltas(merged.updates))
    assert {merged.updates[name].rank for name in other} == {RANK + update.rank for update in other.values()}
    told = cli("lora", "merge", both, cut, "--rank", 2).out.splitlines()
    assert 0.1 < float(told[-1].removeprefix("relative error ")) < 1
    assert {update.rank for update in dialects.read(*adapters.read(cut)).updates.values()} == {2}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["=0.5"], "names no file with a scale; give FILE=SCALE"),
        (["{plain}=nan"], "names no file with a scale"),
        (["{plain}=half"], r"=half is not a \.safetensors file that exists"),
        (["{wider}"], "cannot be merged: .* is of another size"),
        (["{moe}"], "cannot be merged: .*collapse` first"),
        (["{plain}", "--rank", "0"], "rank=0 is not allowed"),
    ],
)
def test_a_merge_refuses(
    cli: Cli, plain: Path, moe: Path, flux: nn.Module, more: list[str], words: str, tmp_path: Path
) -> None:
    wider = {
        name: Update(down_rI=u.down_rI.repeat(1, 2), up_Or=u.up_Or, alpha=1)
        for name, u in drawn(flux).items()
    }
    save_file(dialects.from_diffusers(wider, "diffusers")[0], tmp_path / "wider.safetensors")
    names = {"plain": plain, "moe": moe, "wider": tmp_path / "wider.safetensors"}
    sources = [each.format(**names) for each in more]
    new = tmp_path / "new.safetensors"
    refused(cli("lora", "merge", plain, sources[0], new, *sources[1:]), words)
    assert not new.exists()
