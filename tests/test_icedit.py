"""ICEdit's adapters: experts, routers, released files at full size, and what goes wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from conftest import WIDTH, difference, image, photo, quantize, transformer_config
from diffusers import FluxTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import editkit
from backbones.flux import Flux
from editkit import adapters, config, registry
from editkit.errors import NoAdapterError
from editkit.types import EditInputs
from methods.icedit import METHOD, collapse, moe, moe_file, routing
from methods.icedit.config import ADAPTERS
from methods.icedit.moe_handle import EVALUATIONS, Experts
from methods.icedit.moe_layer import ROUTERS, MoELinear, MoEOptions

EXPERTS, RANK = 4, 3
FULL = {
    "in_channels": 384, "out_channels": 64, "num_layers": 19, "num_single_layers": 38,
    "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": [16, 56, 56],
}  # fmt: skip


def released(
    transformer: nn.Module, rank: int, *, experts: int = 0, device: str = "cpu"
) -> dict[str, Tensor]:
    """A state dict in the layout of the released files: plain LoRA on all modules, or experts on some."""
    generator = None if device == "meta" else torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device) / shape[-1] ** 0.5

    state = {}
    for name, module in transformer.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        key, inside = f"transformer.{name}", "blocks." in name
        inputs, outputs = module.in_features, module.out_features
        if inside and name.endswith((".ff.net.2", ".proj_out")) and experts:
            state |= {f"{key}.lora_A.expert_{e}.weight": draw(rank, inputs) for e in range(experts)}
            state |= {f"{key}.lora_B.expert_{e}.weight": draw(outputs, rank) for e in range(experts)}
            state[f"{key}.lora_route.weight"] = draw(experts, inputs)
        elif name == "x_embedder" or (
            inside and name.endswith(tuple(f".{end}" for end in (*moe_file.PLAIN, "ff.net.2", "proj_out")))
        ):
            state |= {f"{key}.lora_A.weight": draw(rank, inputs), f"{key}.lora_B.weight": draw(outputs, rank)}
    return state


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    torch.manual_seed(3)
    return FluxTransformer2DModel.from_config(transformer_config(384)).eval().requires_grad_(False)


@pytest.fixture
def file(transformer: FluxTransformer2DModel, tmp_path: Path) -> Path:
    save_file(released(transformer, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    return tmp_path / "moe.safetensors"


@pytest.fixture
def forward(random_flux: Flux) -> Any:
    """One velocity of a transformer on a fixed diptych."""
    method = registry.method("icedit")
    with torch.no_grad():
        conditioner = method.conditioner(random_flux, config.build(method.config, {}))
        plan = conditioner.plan(EditInputs(prompts=("make the red circle blue",), source_BCHW=photo(64, 64)))
    slots = plan.conditioning
    torch.manual_seed(1)
    hidden_BLC = torch.cat((torch.randn(1, slots.channel_BLC.shape[1], 64), slots.channel_BLC), dim=-1)
    ids_L3 = random_flux.grid_ids(plan.canvas.width, plan.canvas.height)

    def run(transformer: FluxTransformer2DModel) -> Tensor:
        dtype = transformer.dtype
        return transformer(
            hidden_states=hidden_BLC.to(dtype),
            encoder_hidden_states=slots.text.tokens_BTD.to(dtype),
            pooled_projections=slots.text.pooled_BD.to(dtype),
            timestep=torch.tensor([0.5], dtype=dtype),
            guidance=torch.tensor([1.0]),
            txt_ids=torch.zeros(slots.text.tokens_BTD.shape[1], 3),
            img_ids=ids_L3,
            return_dict=False,
        )[0]

    return run


@pytest.fixture
def layer() -> MoELinear:
    torch.manual_seed(0)
    return fresh_layer(MoEOptions(rank=RANK, top_k=2))


def fresh_layer(options: MoEOptions) -> MoELinear:
    experts, rank = options.experts, options.rank
    tensors = torch.randn(experts, rank, 10), torch.randn(experts, 7, rank), torch.randn(experts, 10)
    return MoELinear(nn.Linear(10, 7), "icedit", *tensors, options).eval()


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_formula(router: str, top_k: int) -> None:
    """Token by token as the released code has it, or as the paper's equations 2 and 3 do."""
    torch.manual_seed(1)
    layer = fresh_layer(MoEOptions(rank=RANK, alpha=6.0, top_k=top_k, router=router))
    x = torch.randn(2, 5, 10)
    got = layer(x)
    for place in [(b, n) for b in range(2) for n in range(5)]:
        token = x[place]
        logits = layer.route_EI @ token
        best = logits.argsort(descending=True)[:top_k]
        weights = logits[best].softmax(0) if router == "released" else logits.softmax(0)[best]
        wanted = layer.base_layer(token)
        for weight, expert in zip(weights, best, strict=True):
            wanted = wanted + 6.0 / RANK * weight * (layer.up_EOr[expert] @ (layer.down_ErI[expert] @ token))
        assert torch.allclose(got[place], wanted, atol=1e-5)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("top_k", [1, 3])
def test_dense_and_sparse_agree(router: str, top_k: int) -> None:
    torch.manual_seed(2)
    layer = fresh_layer(MoEOptions(rank=RANK, top_k=top_k, router=router))
    x = torch.randn(3, 6, 10)
    dense = layer(x)
    layer.evaluation = "sparse"
    assert torch.allclose(layer(x), dense, atol=1e-5)
    gradients = []
    for layer.evaluation in EVALUATIONS:
        layer.zero_grad()
        layer(x).square().sum().backward()
        gradients.append([layer.down_ErI.grad, layer.up_EOr.grad, layer.route_EI.grad])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)


def test_only_the_papers_router_learns() -> None:
    for router in ROUTERS:
        layer = fresh_layer(MoEOptions(rank=RANK, router=router))
        layer(torch.randn(4, 10)).square().sum().backward()
        assert (float(layer.route_EI.grad.abs().sum()) > 0) == (router == "paper")


def test_balance_is_least_where_experts_share_alike(layer: MoELinear) -> None:
    uneven = fresh_layer(MoEOptions(rank=RANK, balance=0.1)).train()
    x = torch.randn(500, 10)
    uneven(x)
    some = uneven.balance.detach()
    uneven.route_EI.data[0] += 5 * x.mean(0) + 10
    uneven(x.abs())
    assert uneven.balance.detach() > some > 0.9
    layer.train()(x)
    assert layer.balance is None


def test_noise_is_for_training_alone() -> None:
    layer = fresh_layer(MoEOptions(rank=RANK, noise=3.0))
    x = torch.randn(50, 10)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


@torch.no_grad()
def test_scale_switch_and_eject(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    base = forward(transformer)
    handle = moe.inject(transformer, file)
    whole = forward(transformer)
    assert float((whole - base).abs().max()) > 0.1
    handle.scale = 0.0
    assert torch.allclose(forward(transformer), base, atol=1e-6)
    handle.scale, handle.expert_scale = 1.0, 0.0
    plain = forward(transformer)
    assert float((plain - base).abs().max()) > 0.05
    assert float((plain - whole).abs().max()) > 0.05
    handle.expert_scale = 1.0
    assert torch.allclose(forward(transformer), whole, atol=1e-6)
    adapters.enable(transformer, [])
    assert torch.allclose(forward(transformer), base, atol=1e-6)
    adapters.enable(transformer, ["icedit"], [1.0])
    assert torch.allclose(forward(transformer), whole, atol=1e-6)
    handle.eject()
    after = transformer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(forward(transformer), base)


@torch.no_grad()
def test_saved_and_loaded(transformer: FluxTransformer2DModel, tmp_path: Path, forward: Any) -> None:
    options = MoEOptions(rank=RANK, alpha=5.0, top_k=2, balance=0.1)
    handle = moe.attach(transformer, options)
    base = forward(transformer)
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.normal_(std=0.2)
    whole = forward(transformer)
    assert float((whole - base).abs().max()) > 0.1
    path = handle.save(tmp_path)
    handle.eject()
    again = moe.inject(transformer, path)
    assert next(iter(again.layers.values())).options == options
    assert torch.allclose(forward(transformer), whole, atol=1e-5)
    state = load_file(path)
    assert state.keys() == released(transformer_like(384), RANK, experts=EXPERTS).keys()


def transformer_like(in_channels: int) -> FluxTransformer2DModel:
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(transformer_config(in_channels))


def test_fresh_experts_change_nothing_and_are_all_that_trains(
    transformer: FluxTransformer2DModel, forward: Any
) -> None:
    with torch.no_grad():
        base = forward(transformer)
    handle = moe.attach(transformer, MoEOptions(rank=RANK))
    assert torch.allclose(forward(transformer), base, atol=1e-6)
    learning = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    assert learning == {
        name
        for name, _ in transformer.named_parameters()
        if name.endswith(("down_ErI", "up_EOr", "route_EI")) or ".lora_" in name
    }
    transformer.train().enable_gradient_checkpointing()
    with torch.autocast("cpu", torch.bfloat16):
        forward(transformer).square().mean().backward()
    assert all(parameter.grad is not None for parameter in handle.parameters())
    assert any(float(layer.up_EOr.grad.abs().sum()) > 0 for layer in handle.layers.values())


@torch.no_grad()
def test_bf16(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    whole = None
    for dtype in (torch.float32, torch.bfloat16):
        handle = moe.inject(transformer.to(dtype), file)
        for layer in handle.layers.values():
            layer.to(dtype)
        got = forward(transformer).float()
        whole = got if whole is None else whole
        assert float((got - whole).abs().mean() / whole.abs().mean()) < 0.1
        handle.eject()


@torch.no_grad()
def test_shares(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    handle = moe.inject(transformer, file)
    handle.count()
    forward(transformer)
    shares = handle.shares()
    assert shares.keys() == handle.layers.keys()
    assert all(sum(share) == pytest.approx(1) for share in shares.values())
    handle.count(False)
    forward(transformer)
    assert handle.shares() == {}


@torch.no_grad()
@pytest.mark.parametrize("way", collapse.WAYS)
def test_equal_experts_collapse_without_loss(
    transformer: FluxTransformer2DModel, file: Path, forward: Any, way: str
) -> None:
    state = load_file(file)
    for key in state:
        if "expert_" in key:
            state[key] = state[key.replace(key[key.index("expert_") :], "expert_0.weight")]
    handle = moe.inject(transformer, state)
    whole = forward(transformer)
    handle.eject()
    plain = collapse.collapse(state, way=way)
    assert plain.error < 1e-3
    adapters.install(transformer, plain.state, "plain", {})
    assert torch.allclose(forward(transformer), whole, atol=1e-4)
    adapters.eject(transformer, "plain")


def test_the_svd_is_the_best_of_its_rank(file: Path) -> None:
    state = load_file(file)
    errors = {rank: collapse.collapse(state, rank=rank).error for rank in (1, RANK, EXPERTS * RANK)}
    assert 1 > errors[1] > errors[RANK] > errors[EXPERTS * RANK] > 0
    assert collapse.collapse(state, way="average").error > errors[RANK]
    module = next(key for key in state if "expert_0" in key).split(".lora_")[0].removeprefix("transformer.")
    alone = collapse.collapse(state, weights={module: [0.0, 1.0, 0.0, 0.0]})
    assert alone.errors[module] < 1e-3
    up, down = (alone.state[f"transformer.{module}.lora_{letter}.weight"] for letter in ("B", "A"))
    one = [state[f"transformer.{module}.lora_{letter}.expert_1.weight"] for letter in ("B", "A")]
    assert torch.allclose(up @ down, one[0] @ one[1], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"way": "mean"}, "svd or average"),
        ({"rank": 0}, "at least 1"),
        ({"way": "average", "rank": 2}, "leave rank out"),
        ({"weights": {"transformer_blocks.0.ff.net.2": [1.0]}}, "do not fit"),
    ],
)
def test_bad_collapses(file: Path, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(editkit.EditkitError, match=sentence):
        collapse.collapse(load_file(file), **arguments)
    with pytest.raises(editkit.EditkitError, match="nothing to collapse"):
        collapse.collapse({})


@torch.no_grad()
def test_weights_are_what_the_router_gives(
    transformer: FluxTransformer2DModel, file: Path, forward: Any
) -> None:
    for router, total in (("released", 1.0), ("paper", None)):
        handle = moe.inject(transformer, file, options=MoEOptions(rank=RANK, router=router))
        handle.count()
        forward(transformer)
        sums = [sum(weights) for weights in handle.weights().values()]
        assert all(each == pytest.approx(total) if total else 0.25 < each < 1 for each in sums)
        handle.eject()


@pytest.fixture(scope="module")
def full() -> FluxTransformer2DModel:
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(FULL)


def test_released_files_at_full_size(full: FluxTransformer2DModel) -> None:
    plain = released(full, 32, device="meta")
    assert len(plain) == 686
    assert sum(tensor.numel() for tensor in plain.values()) == 115_912_704
    adapters.install(full, plain, "normal", {})
    placed = [name for name, _ in full.named_parameters() if ".lora_" in name]
    assert len(placed) == 686
    adapters.eject(full, "normal")

    state = released(full, 32, experts=4, device="meta")
    assert len(state) == 1085
    assert sum(tensor.numel() for tensor in state.values()) == 214_437_888
    handle = moe.inject(full, state)
    assert len(handle.layers) == 57
    assert len([name for name, _ in full.named_parameters() if ".lora_" in name]) == 572
    handle.eject()
    assert not any(isinstance(module, MoELinear) for module in full.modules())


def test_through_the_editor(random_flux: Flux, tmp_path: Path) -> None:
    """A LoRA-MoE loads, scales and switches off like any adapter, and a recipe names it."""
    transformer = random_flux.transformer("fill")
    save_file(released(transformer, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    editor, picture = editkit.Editor(random_flux), image(64, 64)

    def edit() -> editkit.EditResult:
        return editor.edit(picture, "make the red circle blue", "icedit", steps=2)

    base = edit()
    name = editor.load_adapter(tmp_path / "moe.safetensors", "icedit")
    try:
        whole = edit()
        assert difference(whole.image, base.image) > 5
        editor.use_adapters([], method="icedit")
        assert difference(edit().image, base.image) == 0
        editor.use_adapters([name], [0.5], method="icedit")
        assert difference(edit().image, base.image) > 0
        assert difference(edit().image, whole.image) > 0
    finally:
        layers = {n: m for n, m in transformer.named_modules() if isinstance(m, MoELinear)}
        Experts(transformer, layers, name, plain=True).eject()


def without(end: str) -> Any:
    return lambda state: {key: tensor for key, tensor in state.items() if not key.endswith(end)}


def changed(end: str, change: Any) -> Any:
    return lambda state: {
        key: change(tensor) if key.endswith(end) else tensor for key, tensor in state.items()
    }


BAD: dict[str, tuple[Any, str]] = {
    "a router is missing": (without("0.ff.net.2.lora_route.weight"), "experts or a router but not both"),
    "an expert is missing": (without("0.ff.net.2.lora_A.expert_3.weight"), r"experts \[0, 1, 2\] of lora_A"),
    "half a pair is missing": (without("0.norm1.linear.lora_B.weight"), "lacks its lora_B"),
    "uneven ranks": (
        changed("0.ff.net.2.lora_A.expert_2.weight", lambda tensor: tensor[:2]),
        "differ in rank",
    ),
    "not a number": (
        changed("0.ff.net.2.lora_B.expert_1.weight", lambda tensor: tensor * float("nan")),
        "not finite",
    ),
    "another width": (changed("0.ff.net.2.lora_route.weight", lambda tensor: tensor[:, :5]), "do not fit"),
    "an expert that is no matrix": (
        changed("0.ff.net.2.lora_A.expert_1.weight", lambda tensor: tensor.flatten()),
        "is no matrix",
    ),
    "a router that is no matrix": (
        changed("0.ff.net.2.lora_route.weight", lambda t: t.sum()),
        "is no matrix",
    ),
    "experts and a plain LoRA on one module": (
        lambda state: (
            state
            | {
                f"transformer.transformer_blocks.0.ff.net.2.lora_{letter}.weight": state[
                    f"transformer.transformer_blocks.0.ff.net.2.lora_{letter}.expert_0.weight"
                ]
                for letter in "AB"
            }
        ),
        "experts and a plain LoRA",
    ),
    "no experts": (lambda _: {}, "no experts"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(transformer: FluxTransformer2DModel, file: Path, name: str) -> None:
    change, sentence = BAD[name]
    before = [module for module in transformer.modules()]
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        moe.inject(transformer, change(load_file(file)))
    assert str(caught.value).endswith(".")
    assert [module for module in transformer.modules()] == before


def added(module: str) -> Any:
    return lambda state: (
        state
        | {
            f"transformer.{module}.lora_A.weight": torch.zeros(RANK, 64),
            f"transformer.{module}.lora_B.weight": torch.zeros(64, RANK),
        }
    )


BAD_IN_BOTH: dict[str, tuple[Any, str]] = {
    "half a pair is missing": (without("0.norm1.linear.lora_B.weight"), "lacks its lora_B"),
    "not a number": (
        changed("0.norm1.linear.lora_B.weight", lambda tensor: tensor * float("nan")),
        "not finite",
    ),
    "a module that is nowhere": (added("nothing"), "no linear layer nothing"),
    "a block that is nowhere": (
        added("transformer_blocks.17.attn.to_q"),
        r"no linear layer transformer_blocks\.17",
    ),
    "no common rank": (changed("0.norm1.linear.lora_A.weight", lambda tensor: tensor[:2]), "share no rank"),
    "another tensor": (
        lambda state: state | {"transformer.x_embedder.bias": torch.zeros(64)},
        "no part of a plain LoRA|no matrix",
    ),
}


@pytest.mark.parametrize("experts", [0, EXPERTS])
@pytest.mark.parametrize("name", BAD_IN_BOTH)
def test_bad_files_of_both_layouts(
    transformer: FluxTransformer2DModel, tmp_path: Path, name: str, experts: int
) -> None:
    change, sentence = BAD_IN_BOTH[name]
    save_file(change(released(transformer, RANK, experts=experts)), tmp_path / "bad.safetensors")
    before = [module for module in transformer.modules()]
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        moe.load(transformer, tmp_path / "bad.safetensors", "bad")
    assert str(caught.value).endswith(".")
    assert [module for module in transformer.modules()] == before


@pytest.mark.parametrize("experts", [0, EXPERTS])
def test_wrong_base(transformer: FluxTransformer2DModel, tmp_path: Path, experts: int) -> None:
    save_file(released(transformer, RANK, experts=experts), tmp_path / "adapter.safetensors")
    other = FluxTransformer2DModel.from_config(transformer_config(64))
    with pytest.raises(editkit.EditkitError, match=r"x_embedder is 384 to 64.*load it on FLUX.1 Fill"):
        moe.load(other, tmp_path / "adapter.safetensors", "wrong")
    assert not adapters.layers(other)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"alpha": "x"}, "icedit_moe cannot be used"),
        ({"alpha": [1]}, "icedit_moe cannot be used"),
        ({"alpha": 0}, "alpha must be positive"),
        ({"alpha": float("nan")}, "alpha must be positive"),
        ({"top_k": 1.5}, "whole numbers"),
        ({"top_k": True}, "whole numbers"),
        ({"noise": float("nan")}, "must not be negative"),
        ({"plain": [1]}, "lists of names"),
        ({"in_channels": 64}, "for a transformer of 64 channels"),
        ({"plain": ["x_embedder", "attn.to_q", "proj_mlp", "attn.add_q_proj"]}, "none on .*add_q_proj"),
    ],
)
def test_metadata_that_make_no_sense(
    transformer: FluxTransformer2DModel, tmp_path: Path, told: dict[str, Any], sentence: str
) -> None:
    save_file(
        released(transformer, RANK, experts=EXPERTS),
        tmp_path / "bad.safetensors",
        {"icedit_moe": json.dumps(told)},
    )
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        moe.load(transformer, tmp_path / "bad.safetensors", "bad")
    assert str(caught.value).endswith(".")
    assert not adapters.layers(transformer)


def test_a_file_that_lacks_a_block(transformer: FluxTransformer2DModel, file: Path) -> None:
    first = "single_transformer_blocks.0.proj_out."
    state = {key: tensor for key, tensor in load_file(file).items() if first not in key}
    with pytest.raises(editkit.EditkitError, match=r"experts on \d of \d modules called proj_out"):
        moe.inject(transformer, state)


def test_experts_without_an_input_layer_know_their_base(
    transformer: FluxTransformer2DModel, tmp_path: Path
) -> None:
    """By what the file says, where no layer tells."""
    handle = moe.attach(transformer, MoEOptions(rank=RANK, plain=()))
    handle.save(tmp_path, "tiny")
    other = FluxTransformer2DModel.from_config(transformer_config(64))
    with pytest.raises(editkit.EditkitError, match="for a transformer of 384 channels"):
        moe.load(other, tmp_path, "wrong")
    assert not adapters.layers(other)
    handle.eject()
    with pytest.raises(editkit.EditkitError, match="on no transformer any more"):
        handle.eject()


def test_it_needs_a_picture_and_takes_no_references(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux)
    for given, sentence in (
        ({"image": None}, "none was given"),
        ({"image": image(64, 64), "references": [image(64, 64)]}, "takes no references"),
    ):
        with pytest.raises(editkit.EditkitError, match=sentence):
            editor.edit(instruction="make it red", method="icedit", **given)


@pytest.fixture
def dressed(bare: FluxTransformer2DModel, random_flux: Flux, tmp_path: Path) -> editkit.Editor:
    """An editor whose ICEdit wears experts of its own accord, which random weights have by a path."""
    save_file(released(bare, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    return editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path / "moe.safetensors")}})


def test_a_method_wears_its_own_adapter(dressed: editkit.Editor, random_flux: Flux) -> None:
    """Unasked, until it is told to go without."""
    picture = image(64, 64)
    bare = editkit.Editor(random_flux).edit(picture, "make it blue", "icedit", steps=2)
    own = dressed.edit(picture, "make it blue", "icedit", steps=2)
    assert difference(own.image, bare.image) > 5
    ((name, scale),) = adapters.active(random_flux.transformer("fill")).items()
    assert name.startswith("icedit-")
    assert scale == 1
    again = dressed.edit(picture, "make it blue", "icedit", steps=2)
    assert difference(own.image, again.image) == 0
    dressed.use_adapters([], method="icedit")
    assert difference(dressed.edit(picture, "make it blue", "icedit", steps=2).image, bare.image) == 0


def test_which_adapter_is_a_methods_own() -> None:
    def chosen(backbone: str | None, **options: Any) -> str | None:
        request = editkit.EditRequest(image=None, instruction="x")
        return METHOD.adapter(config.build(METHOD.config, options), backbone, request)

    assert chosen("tiny") == ADAPTERS["tiny"]["moe"]
    assert chosen("tiny", adapter=None) is None
    assert chosen("tiny", framework="text") is None
    assert chosen("flux1-dev") == "RiverZ/normal-lora"
    with pytest.raises(NoAdapterError, match="no adapter for this backbone"):
        chosen(None)
    assert chosen(None, adapter="mine.safetensors") == "mine.safetensors"
    assert chosen("tiny", adapter="lora") == ADAPTERS["tiny"]["lora"]
    with pytest.raises(
        editkit.EditkitError, match=r"adapter lo is none of those for tiny \(moe, lora\), no file"
    ):
        chosen("tiny", adapter="lo")
    with pytest.raises(editkit.EditkitError, match=r"for flux1-dev \(lora, moe\)"):
        chosen("flux1-dev", adapter="mo")


def test_routing(dressed: editkit.Editor, tmp_path: Path) -> None:
    requests = {
        kind: [editkit.EditRequest(image=image(64, 64, seed), instruction=kind, method="icedit", steps=1)]
        for seed, kind in enumerate(("recolour", "remove"))
    }
    found = routing.measure(dressed, requests)
    assert found.keys() == requests.keys()
    for shares, weights in found.values():
        assert len(shares) == 3
        for module, share in shares.items():
            assert sum(share) == pytest.approx(1)
            assert weights[module] == pytest.approx(share)  # the released router gives the chosen one all
    assert found["recolour"][0] != found["remove"][0]
    routing.plot({kind: shares for kind, (shares, _) in found.items()}, tmp_path / "routing.png")
    with Image.open(tmp_path / "routing.png") as plot:
        assert plot.width > 300
        assert len(set(plot.convert("RGB").getdata())) > 20
    with pytest.raises(editkit.EditkitError, match="cannot be written"):
        routing.plot({kind: shares for kind, (shares, _) in found.items()}, tmp_path / "no" / "routing.png")


def test_routing_needs_experts(random_flux: Flux) -> None:
    request = editkit.EditRequest(image=image(64, 64), instruction="make it blue", method="icedit", steps=1)
    with pytest.raises(editkit.EditkitError, match="wears no experts"):
        routing.measure(editkit.Editor(random_flux), {"any": [request]})


@pytest.mark.parametrize("evaluation", ["dense", "sparse"])
def test_experts_compile(transformer: FluxTransformer2DModel, file: Path, evaluation: str) -> None:
    """Dense evaluation is one graph; sparse breaks it, and both give what they give uncompiled."""
    handle = moe.inject(transformer, file)
    handle.evaluation = evaluation
    layer = next(iter(handle.layers.values()))
    learnt = [weights.requires_grad_() for weights in (layer.down_ErI, layer.up_EOr)]
    x = torch.randn(1, 24, layer.base_layer.in_features)
    compiled = torch.compile(layer, fullgraph=evaluation == "dense", backend="aot_eager")
    try:
        plain, quick = layer(x), compiled(x)
        assert torch.allclose(quick, plain, atol=1e-5)
        gradients = [torch.autograd.grad(answer.square().sum(), learnt) for answer in (plain, quick)]
        for by_layer, by_graph in zip(*gradients, strict=True):
            assert by_layer.abs().max() > 0
            assert torch.allclose(by_graph, by_layer, atol=1e-4, rtol=1e-4)
    finally:
        torch._dynamo.reset()


@pytest.mark.slow
def test_blocks_with_experts_compile(transformer: FluxTransformer2DModel, file: Path, forward: Any) -> None:
    """With inductor, block by block, as `compile: true` does."""
    moe.inject(transformer, file)
    plain = forward(transformer)
    transformer.compile_repeated_blocks(fullgraph=True)
    try:
        assert torch.allclose(forward(transformer), plain, atol=1e-5)
    finally:
        torch._dynamo.reset()


@pytest.fixture
def bare(random_flux: Flux) -> Iterator[FluxTransformer2DModel]:
    """Fill's random transformer, which is bare again after the test."""
    transformer = random_flux.transformer("fill")
    yield transformer
    for module in [m for m in transformer.modules() if isinstance(m, MoELinear)]:
        (name,) = module.r
        layers = {n: m for n, m in transformer.named_modules() if isinstance(m, MoELinear) and name in m.r}
        Experts(transformer, layers, name, plain=False).eject()
    for name in list(getattr(transformer, "peft_config", {})):
        adapters.eject(transformer, name)
    assert not adapters.layers(transformer)


def alive(transformer: FluxTransformer2DModel, **options: Any) -> Experts:
    """Fresh experts, and a fresh plain LoRA if any, that do something."""
    handle = moe.attach(transformer, MoEOptions(rank=RANK, **options))
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if parameter.requires_grad and ("up_EOr" in name or "lora_B" in name):
                parameter.normal_(std=0.2)
    return handle


PLACEMENTS = {
    "experts alone": {"plain": ()},
    "the paper's": {"targets": ("attn.to_out.0",)},
    "the released": {},
}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_placements_through_a_file(
    bare: FluxTransformer2DModel, random_flux: Flux, forward: Any, tmp_path: Path, placement: str
) -> None:
    """What is attached, saved and worn by an editor gives the same, and comes off again."""
    base = forward(bare)
    handle = alive(bare, **PLACEMENTS[placement])
    updated = forward(bare)
    handle.save(tmp_path)
    handle.eject()
    assert torch.equal(forward(bare), base)
    editor = editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path)}})
    editor.edit(image(64, 64), "make it blue", "icedit", steps=1)
    assert torch.allclose(forward(bare), updated, atol=1e-5)
    assert not torch.allclose(updated, base, atol=1e-2)
    editor.use_adapters([], method="icedit")
    assert torch.equal(forward(bare), base)


def test_editors_that_share_a_backbone(
    bare: FluxTransformer2DModel, random_flux: Flux, tmp_path: Path
) -> None:
    """Each edits with its own adapters, whoever edited before."""
    save_file(released(bare, RANK, experts=EXPERTS), tmp_path / "moe.safetensors")
    dressed = editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path / "moe.safetensors")}})
    plain = editkit.Editor(random_flux, {"icedit": {"adapter": None}})
    twin = editkit.Editor(random_flux, {"icedit": {"adapter": str(tmp_path / "moe.safetensors")}})
    pictures = [
        editor.edit(image(64, 64), "make it blue", "icedit", steps=1).image
        for editor in (plain, dressed, plain, dressed, twin)
    ]
    assert difference(pictures[0], pictures[1]) > 5
    assert difference(pictures[0], pictures[2]) == 0
    assert difference(pictures[1], pictures[3]) == 0
    assert difference(pictures[1], pictures[4]) == 0


def test_a_second_lora_moe(
    bare: FluxTransformer2DModel, random_flux: Flux, forward: Any, tmp_path: Path
) -> None:
    """It loads over the first, each works alone, and either comes off without the other."""
    base, one, other = (
        forward(bare),
        *(released(bare, rank, experts=number) for rank, number in ((3, 4), (2, 2))),
    )
    other = {key: -tensor for key, tensor in other.items() if "x_embedder" not in key}
    first = moe.inject(bare, one, name="first")
    alone = forward(bare)
    second = moe.inject(bare, other, name="second")
    adapters.enable(bare, ["first"])
    assert torch.allclose(forward(bare), alone, atol=1e-5)
    adapters.enable(bare, ["second"])
    updated = forward(bare)
    assert not torch.allclose(updated, alone, atol=1e-2)
    first.eject()
    assert torch.allclose(forward(bare), updated, atol=1e-5)
    second.eject()
    assert torch.equal(forward(bare), base)


def test_text_to_image_wears_nothing(random_flux: Flux, tmp_path: Path) -> None:
    """Not even where it shares its transformer with a method that does."""
    transformer = random_flux.transformer("kontext")
    editor = editkit.Editor(random_flux, {"icedit": {"framework": "text"}})

    def edit() -> Any:
        return editor.edit(image(64, 64), "make it blue", "icedit", steps=1).image

    before = edit()
    adapters.attach(transformer, adapters.LoraOptions(rank=2), "style")
    try:
        with torch.no_grad():
            for layer in adapters.layers(transformer):
                layer.lora_B["style"].weight.normal_()
        editor.use_adapters(["style"], method="kontext")
        assert difference(edit(), before) == 0
    finally:
        adapters.eject(transformer, "style")


WRONG_ADAPTERS = {
    "a file that is not there": "mine.safetensors",
    "a path that is not there": "some/folder/with/mine.safetensors",
    "a name of another backbone": "moe",
}


@pytest.mark.parametrize("case", WRONG_ADAPTERS)
def test_adapters_that_are_not_there(random_flux: Flux, case: str) -> None:
    editor = editkit.Editor(random_flux, {"icedit": {"adapter": WRONG_ADAPTERS[case]}})
    with pytest.raises(editkit.EditkitError, match="no file or folder that exists, and no Hub id") as caught:
        editor.edit(image(64, 64), "make it blue", "icedit", steps=1)
    assert str(caught.value).endswith(".")


def trainer(random_flux: Flux, **options: Any) -> Any:
    return METHOD.trainer(random_flux, config.build(METHOD.config, options))


def saved(transformer: FluxTransformer2DModel, folder: Path, **options: Any) -> Path:
    """A file of fresh experts, whose transformer is bare again."""
    handle = moe.attach(transformer, MoEOptions(rank=RANK, **options))
    path = handle.save(folder)
    handle.eject()
    return path


CONTINUED = {
    "a released file, by the config": (
        None,
        {"router": "released", "balance": 0.03, "noise": 0.5},
        0.03,
        0.5,
    ),
    "the file's own": ({"balance": 0.03, "noise": 0.5}, None, 0.03, 0.5),
    "the config's before the file's": ({"balance": 0.03}, {"balance": 0.1}, 0.1, 0.0),
}


@pytest.mark.parametrize("case", CONTINUED)
def test_experts_go_on_training(
    transformer: FluxTransformer2DModel,
    file: Path,
    random_flux: Flux,
    forward: Any,
    tmp_path: Path,
    case: str,
) -> None:
    held, asked, balance, noise = CONTINUED[case]
    path = file if held is None else saved(transformer, tmp_path, **held)
    going_on = trainer(random_flux, moe=asked and asked | {"rank": RANK})
    going_on.load(transformer, path)
    layers = [module for module in transformer.modules() if isinstance(module, MoELinear)]
    assert {(layer.options.balance, layer.options.noise) for layer in layers} == {(balance, noise)}
    transformer.train()
    forward(transformer)
    mean = torch.stack([layer.balance for layer in layers]).mean()
    assert going_on.penalty().item() == pytest.approx((balance * mean).item())
    assert going_on.figures() == {"balance": pytest.approx(mean.item(), abs=1e-4)}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"router": "paper"}, "moe.router is paper, but released"),
        ({"experts": 2}, "moe.experts is 2, but 4"),
        ({"rank": 8}, "moe.rank is 8, but 3"),
        ({"top_k": 2}, "moe.top_k is 2, but 1"),
        ({"alpha": 8.0}, "moe.alpha does not fit"),
        ({"targets": ["attn.to_out.0"]}, "moe.targets names other layers .*which are proj_out, ff.net.2"),
    ],
)
def test_options_that_contradict_the_file(
    transformer: FluxTransformer2DModel, file: Path, random_flux: Flux, asked: dict[str, Any], sentence: str
) -> None:
    options = {"rank": RANK, "router": "released"} | asked
    with pytest.raises(editkit.EditkitError, match=sentence) as caught:
        trainer(random_flux, moe=options).load(transformer, file)
    assert str(caught.value).endswith(".")
    assert not adapters.layers(transformer)


def test_experts_are_not_asked_of_a_plain_file(
    transformer: FluxTransformer2DModel, random_flux: Flux, tmp_path: Path
) -> None:
    save_file(released(transformer, RANK), tmp_path / "plain.safetensors")
    with pytest.raises(editkit.EditkitError, match="has no experts; leave options"):
        trainer(random_flux, moe={"rank": RANK}).load(transformer, tmp_path / "plain.safetensors")


def test_metadata_name_what_there_is(transformer: FluxTransformer2DModel, file: Path, tmp_path: Path) -> None:
    """Of a file without metadata too, however few layers it adapts."""
    state = load_file(file)
    few = {
        key.replace("ff.net.2", "attn.to_out.0"): tensor[:, :WIDTH] if "lora_B" not in key else tensor
        for key, tensor in state.items()
        if "transformer_blocks.0.ff.net.2" in key and "single" not in key
    }
    few |= {key: tensor for key, tensor in state.items() if "x_embedder" in key or "0.attn.to_q" in key}
    path = moe.inject(transformer, few).save(tmp_path)
    about = json.loads(adapters.read(path)[1]["icedit_moe"])
    assert about["targets"] == ["attn.to_out.0"]
    assert set(about["plain"]) == {"x_embedder", "attn.to_q"}


METADATA = {
    "no JSON": "{",
    "no table": "[1]",
    "too many experts a token": '{"top_k": 9}',
    "no number": '{"top_k": "x"}',
    "an unknown router": '{"router": "chance"}',
}


@pytest.mark.parametrize("case", METADATA)
def test_bad_metadata(transformer: FluxTransformer2DModel, file: Path, tmp_path: Path, case: str) -> None:
    save_file(load_file(file), tmp_path / "bad.safetensors", {"icedit_moe": METADATA[case]})
    with pytest.raises(editkit.EditkitError, match="metadata icedit_moe cannot be used") as caught:
        moe.inject(transformer, tmp_path / "bad.safetensors")
    assert str(caught.value).endswith(".")
    assert not adapters.layers(transformer)


@pytest.mark.parametrize("bits", [4, 8])
def test_experts_on_a_quantized_base(
    transformer: FluxTransformer2DModel, file: Path, forward: Any, bits: int
) -> None:
    """Layers whose weights have few bits keep experts at full precision, and are themselves again after."""
    before = forward(transformer)
    handle = moe.inject(transformer, file)
    updated = forward(transformer) - before
    handle.eject()
    quantize(transformer, bits)
    base = forward(transformer)
    assert not torch.equal(base, before)
    handle = moe.inject(transformer, file)
    assert all(isinstance(layer.base_layer, Linear4bit | Linear8bitLt) for layer in handle.layers.values())
    found = forward(transformer) - base
    assert nn.functional.cosine_similarity(found.flatten(), updated.flatten(), dim=0) > 0.9
    handle.eject()
    assert torch.equal(forward(transformer), base)
