"""Laws that hold for any weights: flow, packing, canvas, batches, memories, adapters, configs."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LETTERS, ROOT, difference, image, photo
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

import editkit
from backbones import packing, specs, text
from backbones.encoding_cache import REMEMBERED, Memory
from backbones.flux import Flux
from editkit import EditkitError, EditRequest, adapters, atomic_files, config, flow, registry
from editkit.imaging import canvas
from editkit.train.settings import EditTrainConfig
from editkit.types import EditInputs

# --- Packing ---


@pytest.mark.parametrize(("width", "height"), [(16, 16), (128, 128), (160, 96), (16, 512)])
def test_pack_and_unpack_are_inverse(width: int, height: int) -> None:
    latents_BChw = torch.randn(2, 16, height // 8, width // 8)
    tokens_BLC = packing.pack(latents_BChw)
    assert tokens_BLC.shape == (2, width * height // 256, 64)
    assert torch.equal(packing.unpack(tokens_BLC, width, height), latents_BChw)
    assert torch.equal(packing.pack(packing.unpack(tokens_BLC, width, height)), tokens_BLC)


def test_pack_distributes_over_channel_joins() -> None:
    one, other = torch.randn(2, 16, 8, 12), torch.randn(2, 5, 8, 12)
    joined = packing.pack(torch.cat((one, other), dim=1))
    assert torch.equal(joined, torch.cat((packing.pack(one), packing.pack(other)), dim=-1))


def test_a_token_stands_where_its_pixels_are() -> None:
    latents_BChw = torch.zeros(1, 16, 8, 12)
    latents_BChw[0, 3, 5, 10] = 1
    ((_, token, _),) = packing.pack(latents_BChw).nonzero().tolist()
    assert packing.grid_ids(96, 64)[token].tolist() == [0, 5 // 2, 10 // 2]
    assert packing.grid_ids(96, 64, image=2, left=32, top=16)[token].tolist() == [2, 5 // 2 + 1, 10 // 2 + 2]


def test_positions_of_large_canvases_are_exact() -> None:
    ids_L3 = packing.grid_ids(canvas.MAX_SIDE, 16, image=1)
    assert ids_L3[:, 2].unique().numel() == canvas.MAX_SIDE // 16


# --- Flow ---


def test_schedule_runs_from_one_to_zero() -> None:
    for steps, tokens in itertools.product((1, 3, 28), (1, 64, 4096)):
        times = flow.schedule(steps, tokens)
        assert times[0] == 1
        assert times[-1] == 0
        assert (times.diff() < 0).all()


def test_interpolation_and_velocity() -> None:
    x0, noise, t = torch.randn(3, 5, 4), torch.randn(3, 5, 4), torch.tensor([0.0, 0.3, 1.0])
    x_t, velocity = flow.interpolate(x0, noise, t)
    assert torch.equal(x_t[0], x0[0])
    assert torch.equal(x_t[2], noise[2])
    later, _ = flow.interpolate(x0, noise, t + 0.1)
    assert torch.allclose((later - x_t) / 0.1, velocity, atol=1e-4)
    # From any time, the velocity leads straight back to the picture.
    assert torch.allclose(x_t - t[:, None, None] * velocity, x0, atol=1e-5)


def test_euler_follows_a_constant_velocity_home() -> None:
    x0, noise = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    found = flow.euler(lambda _x, _t: noise - x0, noise, flow.schedule(7, 64))
    assert torch.allclose(found, x0, atol=1e-5)


def test_euler_against_a_closed_form() -> None:
    x = torch.randn(2, 5, 4)
    # x' = x from t = 1 to 0 gives x / e; an Euler step multiplies by 1 - dt, and the error is of first order.
    errors = []
    for steps in (8, 16, 32):
        times = torch.linspace(1, 0, steps + 1)
        found = flow.euler(lambda y, _t: y, x, times)
        assert torch.allclose(found, x * (1 - 1 / steps) ** steps, atol=1e-5)
        errors.append(float((found - x / math.e).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)
    # The velocity is read at the start of each step: x' = 2t over (1, 0.6, 0) is -(0.4 * 2 + 0.6 * 1.2).
    found = flow.euler(
        lambda y, t: torch.full_like(y, 2 * t), torch.zeros(1, 1, 1), torch.tensor([1.0, 0.6, 0.0])
    )
    assert found.item() == pytest.approx(-1.52, abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_euler_can_stop_and_go_on(random_flux: Flux, dtype: torch.dtype) -> None:
    method = registry.method("kontext")
    options = method.config()
    plan = method.conditioner(random_flux, options).plan(
        EditInputs(prompts=("a star",), source_BCHW=photo(128, 128))
    )
    noise_BLC = random_flux.noise(plan.canvas, [torch.Generator().manual_seed(0)]).to(dtype)

    def velocity(x_BLC: Tensor, t: float) -> Tensor:
        return random_flux.velocity(x_BLC.float(), t, plan, 1.5)

    times = flow.schedule(5, noise_BLC.shape[1])
    whole = flow.euler(velocity, noise_BLC, times)
    assert whole.dtype == dtype
    for k in range(6):
        first = flow.euler(velocity, noise_BLC, times[: k + 1])
        assert torch.equal(flow.euler(velocity, first, times[k:]), whole), k
    assert len(list(flow.walk(velocity, noise_BLC, times))) == 5


@pytest.mark.parametrize("tokens", [64, 256, 1024, 4096])
def test_training_times_follow_the_resolution(tokens: int) -> None:
    times = flow.training_times(40_000, tokens, generator=torch.Generator().manual_seed(tokens))
    logits = torch.logit(times.double())
    mu = 0.5 + 0.65 * (tokens - 256) / 3840
    assert ((times > 0) & (times < 1)).all()
    assert float(times.median()) == pytest.approx(1 / (1 + math.exp(-mu)), abs=0.01)
    assert float(logits.mean()) == pytest.approx(mu, abs=0.03)
    assert float(logits.std()) == pytest.approx(1, abs=0.03)
    # Shifting what was drawn around 0 is the same, as the sampler shifts its schedule.
    plain = flow.training_times(40_000, tokens, generator=torch.Generator().manual_seed(tokens), mean=0.0)
    assert torch.allclose(flow.shifted(plain, flow.shift(tokens)), times, atol=1e-6)


@pytest.mark.parametrize("distribution", flow.DISTRIBUTIONS)
def test_every_distribution_of_times(distribution: str) -> None:
    generator = torch.Generator().manual_seed(0)
    times = flow.training_times(40_000, 256, generator=generator, distribution=distribution)
    assert times.min() >= 0
    assert times.max() <= 1
    # Densities at the middle and at the ends, as Stable Diffusion 3 plots them.
    middle, low, high = (
        float(((times > a) & (times <= b)).float().mean()) for a, b in ((0.45, 0.55), (0, 0.1), (0.9, 1))
    )
    if distribution == "uniform":
        assert max(middle, low, high) - min(middle, low, high) < 0.01
    else:
        assert middle > 1.2 * low
    if distribution in ("mode", "cosmap"):
        assert middle == pytest.approx({"mode": 0.3, "cosmap": 0.127}[distribution], abs=0.02)


def test_weights_by_time() -> None:
    times = torch.tensor((0.25, 0.5, 1.0))
    assert flow.time_weights(times, "none") is None
    assert flow.time_weights(times, "sigma_sqrt").tolist() == [16, 4, 1]
    cosmap = flow.time_weights(times, "cosmap")
    assert cosmap[1] == pytest.approx(4 / math.pi)
    predicted, velocity = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    errors = ((predicted - velocity) ** 2).mean((1, 2))
    assert torch.allclose(flow.loss(predicted, velocity, None, cosmap), (errors * cosmap).mean())


def test_training_times_follow_mean_and_std() -> None:
    times = flow.training_times(40_000, 64, generator=torch.Generator().manual_seed(0), mean=-0.7, std=0.5)
    logits = torch.logit(times.double())
    assert float(logits.mean()) == pytest.approx(-0.7, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.5, abs=0.02)


def test_loss_weights_count_tokens() -> None:
    predicted, velocity = torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    error_BL = ((predicted - velocity) ** 2).mean(-1)
    assert torch.allclose(flow.loss(predicted, velocity), error_BL.mean())
    assert torch.allclose(flow.loss(predicted, velocity, torch.full((2, 6), 1 / 6)), error_BL.mean())
    weights_BL = torch.zeros(2, 6)
    weights_BL[0, 2], weights_BL[1, 5] = 3, 1
    expected = (3 * error_BL[0, 2] + error_BL[1, 5]) / 2
    assert torch.allclose(flow.loss(predicted, velocity, weights_BL), expected)


# --- Canvas ---

SIZES = (
    (1, 1),
    (1, 4000),
    (4000, 1),
    (7, 5),
    (16, 16),
    (17, 31),
    (128, 128),
    (129, 127),
    (640, 427),
    (1023, 777),
)
POLICIES: dict[str, dict[str, Any]] = {
    "own size": {},
    "area": {"area": 128 * 128},
    "tiny": {"preferred": ((128, 128),)},
    "kontext": {"preferred": specs.KONTEXT_SIZES},
    "size": {"size": (100, 50)},
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", SIZES)
def test_canvas_round_trip(size: tuple[int, int], policy: str) -> None:
    width, height = size
    planned = canvas.fit(size, **POLICIES[policy])
    content = planned.content
    assert planned.width % 16 == planned.height % 16 == 0
    assert planned.original == size
    assert content.left >= 0
    assert content.top >= 0
    assert content.left + content.width <= planned.answer.width
    assert content.top + content.height <= planned.answer.height
    pixels_BCHW = photo(width, height)
    placed_BCHW = canvas.place(pixels_BCHW, planned)
    assert placed_BCHW.shape == (1, 3, planned.height, planned.width)
    assert placed_BCHW.min() >= 0
    assert placed_BCHW.max() <= 1
    restored_BCHW = canvas.restore(placed_BCHW, planned)
    assert restored_BCHW.shape == pixels_BCHW.shape
    if (content.width, content.height) == size:
        assert torch.equal(restored_BCHW, pixels_BCHW)
    else:
        # Uniform but for whole pixels: each side is within half a pixel of one common scale.
        scale = min(planned.answer.width / width, planned.answer.height / height)
        scale = min(scale, 1.0) if policy == "area" else scale
        for side, scaled in ((width, content.width), (height, content.height)):
            assert scaled == 1 or abs(scaled - side * scale) <= 0.5


def test_own_size_is_never_scaled() -> None:
    for size in SIZES:
        planned = canvas.fit(size)
        assert (planned.content.width, planned.content.height) == size


@pytest.mark.parametrize("size", SIZES)
def test_area_is_kept_to(size: tuple[int, int]) -> None:
    area = 128 * 128
    planned = canvas.fit(size, area=area)
    # One row and one column of the grid beyond it at most, since sides are rounded up.
    assert (planned.width - 16) * (planned.height - 16) <= area
    assert planned.content.width <= size[0]
    assert planned.content.height <= size[1]
    small = canvas.fit((96, 64), area=area)
    assert (small.width, small.height) == (96, 64)


def test_preferred_size_is_the_nearest_in_shape() -> None:
    wide = canvas.fit((1600, 700), preferred=specs.KONTEXT_SIZES)
    assert (wide.width, wide.height) == (1568, 672)
    for size in specs.KONTEXT_SIZES:
        planned = canvas.fit(size, preferred=specs.KONTEXT_SIZES)
        assert (planned.width, planned.height) == (planned.content.width, planned.content.height) == size


def test_padding_repeats_the_edge() -> None:
    planned = canvas.fit((20, 20))
    pixels_BCHW = photo(20, 20)
    placed_BCHW = canvas.place(pixels_BCHW, planned)
    left, top = planned.content.left, planned.content.top
    assert (left, top) == (6, 6)
    assert torch.equal(placed_BCHW[..., : top + 1, left], pixels_BCHW[..., :1, 0].expand(1, 3, top + 1))
    assert torch.equal(placed_BCHW[..., -1, -1], pixels_BCHW[..., -1, -1])


def motion(before_HW: Tensor, after_HW: Tensor) -> tuple[float, float, float]:
    """Shift right and down in pixels, and growth about the centre, by least squares over the gradient."""
    down_HW, right_HW = torch.gradient(before_HW.double())
    height, width = before_HW.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    outward_HW = right_HW * (columns - (width - 1) / 2) + down_HW * (rows - (height - 1) / 2)
    system = torch.stack([right_HW, down_HW, outward_HW], dim=-1).reshape(-1, 3)
    change = (before_HW - after_HW).double().reshape(-1, 1)
    shift_x, shift_y, growth = torch.linalg.lstsq(system, change).solution.flatten().tolist()
    return shift_x, shift_y, growth


def blobs(width: int, height: int, shift: float = 0.0, growth: float = 0.0) -> Tensor:
    """A picture without fine detail, 1CHW, moved right by `shift` pixels and grown about its centre."""
    x = ((torch.arange(width) - shift - (width - 1) / 2) / (1 + growth) + (width - 1) / 2) / width
    y = ((torch.arange(height) - (height - 1) / 2) / (1 + growth) + (height - 1) / 2) / height
    waves = [
        torch.sin(7 * x + 3 * y[:, None] + c) + torch.cos(4 * x - 6 * y[:, None] - 2 * c) for c in range(3)
    ]
    return (torch.stack(waves)[None] / 4 + 0.5).float()


def test_motion_is_measured() -> None:
    still = blobs(200, 150)
    assert motion(still[0, 0], blobs(200, 150, shift=0.2)[0, 0]) == pytest.approx((0.2, 0, 0), abs=0.02)
    assert motion(still[0, 0], blobs(200, 150, growth=0.002)[0, 0])[2] == pytest.approx(0.002, abs=3e-4)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(128, 128), (129, 127), (640, 427), (1023, 777), (500, 200), (97, 301)])
def test_nothing_moves_or_grows(size: tuple[int, int], policy: str) -> None:
    pixels_BCHW = blobs(*size)
    planned = canvas.fit(size, **POLICIES[policy])
    restored_BCHW = canvas.restore(canvas.place(pixels_BCHW, planned), planned)
    assert float((restored_BCHW - pixels_BCHW).abs().max()) < 0.05
    assert float((restored_BCHW - pixels_BCHW).abs().mean()) < 0.002
    shift_x, shift_y, growth = motion(pixels_BCHW[0, 0], restored_BCHW[0, 0])
    # In pixels of whichever is coarser, canvas or input; growth as what it does to the furthest pixel.
    scale = min(planned.content.width / size[0], 1.0)
    for moved in (shift_x, shift_y, growth * max(size) / 2):
        assert abs(moved) * scale < 0.05


def test_paste_keeps_what_lies_outside() -> None:
    source, edited = photo(90, 70), photo(90, 70, 1)
    mask = torch.zeros(1, 1, 70, 90)
    mask[..., 20:50, 30:70] = 1
    mask[..., 10, 10] = 0.4
    pasted = canvas.paste(source, edited, mask)
    outside = (mask <= 0.5).expand_as(source)
    assert torch.equal(pasted[outside], source[outside])
    assert torch.equal(pasted[..., 24:46, 34:66], edited[..., 24:46, 34:66])
    edge = pasted[..., 20, 30:70]
    assert not torch.equal(edge, edited[..., 20, 30:70])
    everywhere = canvas.paste(source, edited, torch.ones(1, 1, 70, 90))
    assert torch.equal(everywhere, edited)


def test_change_finds_what_changed() -> None:
    source = photo(64, 64)
    edited = source.clone()
    edited[..., 20:30, 40:52] = 1 - edited[..., 20:30, 40:52].round()
    edited[..., 5, 5] = 1 - edited[..., 5, 5].round()  # a speck
    edited[..., 0:8, 56:64] = 1 - edited[..., 0:8, 56:64].round()  # in the corner
    found = canvas.change(source, edited)
    expected = torch.zeros_like(found)
    expected[..., 18:32, 38:54] = 1
    expected[..., 0:10, 54:64] = 1
    assert torch.equal(found, expected)
    assert canvas.change(source, source).sum() == 0


# --- Edits ---

WORDS = (
    "make the red circle blue",
    "remove the green square",
    "add a small star",
    "draw a triangle",
    "move it",
)


@pytest.fixture(scope="module")
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


def request(place: int, of: tuple[int, int] = (40, 30), **changes: Any) -> EditRequest:
    values: dict[str, Any] = {
        "image": image(*of, place),
        "instruction": WORDS[place % 5],
        "seed": place,
        "steps": 2,
    }
    return EditRequest(**values | changes)


def alone(editor: editkit.Editor, one: EditRequest) -> editkit.EditResult:
    values = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    return editor.edit(values.pop("image"), values.pop("instruction"), **values)


def test_a_batch_gives_what_single_edits_give(editor: editkit.Editor) -> None:
    requests = [request(place, mask=Image.new("L", (40, 30), 255), negative="a star") for place in range(4)]
    results = editor.edit_many(requests)
    for one, result in zip(requests, results, strict=True):
        assert result.image is not None, result.error
        assert difference(result.image, alone(editor, one).image) <= 1
        assert result.seed == result.recipe["seed"] == one.seed
        assert result.recipe["instruction"] == one.instruction
    assert difference(results[0].image, results[1].image) > 10


def test_many_edits_keep_their_order_and_fail_alone(editor: editkit.Editor) -> None:
    requests = [
        request(0),
        request(1, (33, 50)),
        request(2, image="nowhere.png"),
        request(3),
        request(4, method="kontex"),
        request(5, (33, 50), preserve=True),
        request(6, image=None, instruction="a red circle", size=(64, 64)),
        request(7, guidance=3e38),  # infinite inside the network
        request(8),
    ]
    results = editor.edit_many(requests, batch_size=2)
    assert [result.seed for result in results] == list(range(9))
    failed = {place: result.error for place, result in enumerate(results) if result.image is None}
    assert failed.keys() == {2, 4, 7}
    assert "nowhere.png" in failed[2]
    assert "'kontext'" in failed[4]
    assert "finite" in failed[7]
    for place, (one, result) in enumerate(zip(requests, results, strict=True)):
        if place not in failed:
            assert result.error is None
            assert difference(result.image, alone(editor, one).image) <= 1
            assert result.image.size == (one.image.size if one.image else (64, 64))


def test_a_batch_that_fails_is_tried_one_by_one(random_flux: Flux) -> None:
    damaged = copy.copy(random_flux)
    damaged.transformers = dict(random_flux.transformers)
    broken = copy.deepcopy(random_flux.transformer("kontext"))
    damaged.transformers[damaged.role("kontext").key] = broken
    broken.context_embedder.register_forward_hook(_nan_for_second_word)
    results = editkit.Editor(damaged).edit_many([request(place) for place in range(4)])
    assert [result.image is None for result in results] == [False, True, False, False]
    assert "finite" in results[1].error


def _nan_for_second_word(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """Damage that one instruction alone meets: the second of `WORDS` in a batch of four, or by itself."""
    output = output.clone()
    if len(output) == 4:
        _nan_for_second_word.token = output[1].clone()
        output[1] = math.nan
    elif torch.allclose(output[0], _nan_for_second_word.token, atol=1e-4):
        output[0] = math.nan
    return output


def test_seeds(editor: editkit.Editor) -> None:
    first, again = alone(editor, request(0, seed=3)), alone(editor, request(0, seed=3))
    other = alone(editor, request(0, seed=4))
    assert difference(first.image, again.image) == 0
    assert first.recipe == again.recipe
    assert difference(first.image, other.image) > 10


def test_warm_memories_change_nothing(random_pipeline: Path) -> None:
    editor = editkit.load(str(random_pipeline), "cpu")
    cold = alone(editor, request(0, negative="two stars"))
    alone(editor, request(1, (50, 70)))
    warm = alone(editor, request(0, negative="two stars"))
    assert difference(cold.image, warm.image) == 0
    assert len(editor.backbone._texts) == 3
    assert len(editor.backbone._latents) == 2


def test_memories_keep_precisions_apart(random_pipeline: Path) -> None:
    """Training encodes under autocast; an edit after it must not get those."""
    flux = editkit.load(str(random_pipeline), "cpu").backbone
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = flux.encode(photo(64, 64)), flux.text(["a red circle"]).tokens_BTD
    with torch.no_grad():
        fine = flux.encode(photo(64, 64)), flux.text(["a red circle"]).tokens_BTD
    for one, other in zip(rough, fine, strict=True):
        assert other.dtype == torch.float32
        assert not torch.equal(one.float(), other)


def test_memory_recalls_in_order_and_forgets_the_oldest() -> None:
    memory, asked = Memory(), []

    def made(keys: list[int]):
        def make(places: list[int]) -> list[str]:
            asked.extend(keys[place] for place in places)
            return [str(keys[place]) for place in places]

        return make

    for keys in ([1, 2, 1], [2, 3], [1]):
        assert memory.recall(keys, made(keys)) == [str(key) for key in keys]
    assert sorted(asked) == [1, 2, 3]
    many = list(range(10, 10 + REMEMBERED + 50))
    assert memory.recall(many, made(many)) == [str(key) for key in many]
    assert len(memory) == REMEMBERED
    assert 1 not in memory
    assert many[-1] in memory


def test_pooled_text_reads_the_whole_prompt() -> None:
    """CLIP looks back alone, so only its end token has seen every word; transformers finds it by its id."""
    words = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    t5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    encoders = text.fresh(words, letters=LETTERS, clip=sizes, t5=t5, length=48)
    with torch.no_grad():
        pooled = encoders(["make the red circle blue", "make the red circle green"]).pooled_BD
    assert not torch.allclose(pooled[0], pooled[1], atol=1e-4)


# --- Adapters ---


@pytest.fixture
def transformer(random_flux: Flux) -> Any:
    """A transformer of its own to change."""
    return copy.deepcopy(random_flux.transformer("kontext"))


@torch.no_grad()
def output(transformer: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return transformer(
        hidden_states=draw(1, 12, 64),
        encoder_hidden_states=draw(1, 8, transformer.config.joint_attention_dim),
        pooled_projections=draw(1, transformer.config.pooled_projection_dim),
        timestep=torch.tensor([0.6]),
        guidance=torch.tensor([1.5]),
        txt_ids=torch.zeros(8, 3),
        img_ids=packing.grid_ids(64, 48),
        return_dict=False,
    )[0]


@torch.no_grad()
def trained(transformer: Any, name: str, seed: int = 0) -> Any:
    """Random numbers where training would have put its own."""
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in transformer.named_parameters():
        if f"lora_B.{name}" in key:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return transformer


def test_an_adapter_changes_nothing_until_trained(transformer: Any) -> None:
    before = output(transformer)
    adapters.attach(transformer, adapters.LoraOptions(rank=4))
    assert torch.equal(output(transformer), before)
    names = [name for name, parameter in transformer.named_parameters() if parameter.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert not torch.allclose(output(trained(transformer, "default")), before, atol=0.1)


def test_adapter_targets(transformer: Any) -> None:
    adapters.attach(transformer, adapters.LoraOptions(rank=2, targets=("to_q",)))
    names = {name for name, parameter in transformer.named_parameters() if parameter.requires_grad}
    assert len(names) == 2 * 3
    with pytest.raises(EditkitError, match="attached"):
        adapters.attach(transformer, adapters.LoraOptions(targets=("nothing",)), "other")


@pytest.mark.parametrize("alpha", [None, 1.0, 12.0])
def test_adapter_round_trip(random_flux: Flux, transformer: Any, tmp_path: Path, alpha: float | None) -> None:
    before = output(transformer)
    options = adapters.LoraOptions(rank=4, alpha=alpha)
    adapters.attach(transformer, options)
    path = adapters.save(trained(transformer, "default"), tmp_path)
    expected = output(transformer)
    with safe_open(path, framework="pt") as opened:
        assert all(key.startswith("transformer.") for key in opened.keys())  # noqa: SIM118  (no mapping)
    other = copy.deepcopy(random_flux.transformer("kontext"))
    for number, given in enumerate((path, tmp_path)):
        adapters.load(other, given, f"copy{number}")
        adapters.enable(other, [f"copy{number}"])
        assert torch.equal(output(other), expected)
    adapters.enable(other, [])
    assert torch.equal(output(other), before)
    adapters.enable(other, ["copy0"])
    assert torch.equal(output(other), expected)
    adapters.enable(other, ["copy0"], [0.5])
    half = output(other)
    assert not torch.allclose(half, expected, atol=0.01)
    assert not torch.allclose(half, before, atol=0.01)
    adapters.enable(other, ["copy0"])
    assert torch.equal(output(other), expected)
    adapters.enable(other, ["copy0", "copy1"], [0.25, 0.25])
    assert torch.allclose(output(other), half, atol=1e-4)


def test_two_adapters_live_side_by_side(transformer: Any) -> None:
    outputs = [output(transformer)]
    for number in range(2):
        name = f"lora{number}"
        adapters.attach(transformer, adapters.LoraOptions(rank=2), name)
        trained(transformer, name, number)
    for name in ("lora0", "lora1"):
        adapters.enable(transformer, [name])
        outputs.append(output(transformer))
    adapters.enable(transformer, ["lora0", "lora1"])
    outputs.append(output(transformer))
    for one, other in itertools.combinations(outputs, 2):
        assert not torch.allclose(one, other, atol=0.01)
    adapters.eject(transformer, "lora1")
    adapters.enable(transformer, ["lora0"])
    assert torch.equal(output(transformer), outputs[1])


def test_eject_leaves_the_base_as_it_was(transformer: Any) -> None:
    before, state = output(transformer), copy.deepcopy(transformer.state_dict())
    for name in ("one", "two"):
        adapters.attach(transformer, adapters.LoraOptions(rank=2), name)
        trained(transformer, name)
    for name in ("one", "two"):
        adapters.eject(transformer, name)
    after = transformer.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert torch.equal(output(transformer), before)
    adapters.enable(transformer, [])
    adapters.attach(transformer, adapters.LoraOptions(rank=2), "one")
    assert torch.equal(output(transformer), before)


def test_adapters_that_do_not_fit(transformer: Any, tmp_path: Path) -> None:
    state = {key: tensor.clone() for key, tensor in transformer.state_dict().items()}
    with pytest.raises(EditkitError, match="exists"):
        adapters.load(transformer, tmp_path / "nothing.safetensors", "one")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(EditkitError, match="cannot be read"):
        adapters.load(transformer, tmp_path / "broken.safetensors", "one")
    assert transformer.state_dict().keys() == state.keys()


# --- Configs ---


def test_defaults_values_overrides_in_that_order() -> None:
    built = config.build(
        EditTrainConfig, {"fit": {"steps": 7, "batch": 3}, "trainable": "full"}, ["fit.steps=9"]
    )
    assert isinstance(built, EditTrainConfig)
    assert (built.fit.steps, built.fit.batch, built.fit.accumulate) == (9, 3, 1)
    assert built.trainable == "full"
    assert built.lora == adapters.LoraOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.guidance = 2.0


@pytest.mark.parametrize(
    ("values", "overrides", "right"),
    [
        ({"trainabel": "full"}, [], "trainable"),
        ({"fit": {"step": 3}}, [], "fit.steps"),
        ({}, ["fit.optim.learning_rat=1"], None),
        ({}, ["fit.optim.warmpu=1"], "fit.optim.warmup"),
        ({}, ["lora.rnk=1"], "lora.rank"),
    ],
)
def test_a_misspelt_key_names_the_right_one(
    values: dict[str, Any], overrides: list[str], right: str | None
) -> None:
    with pytest.raises(EditkitError, match="Unknown key") as caught:
        config.build(EditTrainConfig, values, overrides)
    if right:
        assert f"did you mean '{right}'" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "overrides"),
    [
        ({"fit": {"steps": 0}}, []),
        ({"fit": {"steps": "many"}}, []),
        ({"fit": 3}, []),
        ({"trainable": "half"}, []),
        ({"text_encoders": True}, []),
        ({}, ["fit.optim.name=sgd"]),
        ({}, ["fit.optim.decay=0"]),
        ({}, ["lora.rank=0"]),
        ({}, ["data.count=0"]),
        ({}, ["fit.precision=fp8"]),
        ({}, ["fit.steps"]),
        ({}, ["guidance=[1"]),
        ({"guidance": None}, []),
    ],
)
def test_bad_values_are_one_sentence(values: dict[str, Any], overrides: list[str]) -> None:
    with pytest.raises(EditkitError) as caught:
        config.build(EditTrainConfig, values, overrides)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_unknown_option_of_a_method(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux, {"kontext": {"layuot": "index"}})
    with pytest.raises(EditkitError, match="'layout'"):
        editor.edit(image(32, 32), "make it red")


def test_open_instructions() -> None:
    """Every answer that fits succeeds; the source, and an answer to another instruction, do not."""
    from editkit import shapesworld
    from editkit.shapesworld.evaluate_open import nearest

    kinds = set()
    for seed in range(12):
        example = shapesworld.open_example(seed)
        kinds.add(example.kind)
        pictures = [Image.fromarray(shapesworld.render(answer)) for answer in example.answers]
        assert len({picture.tobytes() for picture in pictures}) == len(pictures)
        assert all(nearest(example, picture).success for picture in (pictures[0], pictures[-1]))
        assert not nearest(example, Image.fromarray(shapesworld.render(example.source))).success
        other = shapesworld.example(seed, "background" if example.kind != "change background" else "remove")
        assert not nearest(example, Image.fromarray(shapesworld.render(other.answer))).success
        assert example == shapesworld.open_example(seed)
    assert kinds <= set(shapesworld.OPEN)
    assert len(kinds) > 2


# --- Files ---


def put(place: Path, kind: str, words: str) -> None:
    """A file or a folder beside a place, which then moves there; "half" of one ends in an error."""
    with atomic_files.beside(place) as partial:
        if kind == "folder":
            partial.mkdir()
            partial /= "inside"
        partial.write_text(words)
        if words == "half":
            raise OSError("full")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_written_beside_appears_whole_or_not_at_all(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "above" / "place"
    for words in ("first", "second"):
        put(place, kind, words)
        with pytest.raises(OSError, match="full"):
            put(place, kind, "half")
        assert [*place.parent.iterdir()] == [place]
        assert (place / "inside" if kind == "folder" else place).read_text() == words


def test_a_folder_outlives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    put(tmp_path / "place", "folder", "kept")
    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path / "place", "folder", "new")
    assert [*tmp_path.iterdir()] == [tmp_path / "place"]
    assert (tmp_path / "place" / "inside").read_text() == "kept"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_takes_the_place_of_what_is_none(kind: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    if kind == "file":
        (tmp_path / "place").write_text("before")
    else:
        (tmp_path / "place").symlink_to(tmp_path / "other", target_is_directory=True)
    put(tmp_path / "place", "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "place"]
    assert (tmp_path / "place" / "inside").read_text() == "new"


def test_what_a_killed_process_left_is_cleaned_up(tmp_path: Path) -> None:
    for name in (".0123456789abcdef.part", ".own.part", "best"):
        (tmp_path / "export" / name).mkdir(parents=True)
    atomic_files.clean(tmp_path)
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [".own.part", "best"]


def test_a_file_takes_no_folders_place(tmp_path: Path) -> None:
    put(tmp_path / "place", "folder", "kept")
    with pytest.raises(OSError, match="directory"):
        put(tmp_path / "place", "file", "new")
    assert [*tmp_path.iterdir()] == [tmp_path / "place"]
    assert (tmp_path / "place" / "inside").read_text() == "kept"
