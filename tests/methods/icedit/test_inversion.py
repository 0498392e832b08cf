"""ICEdit without training: inversion, values of attention, and the diptych by text to image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import editkit
from backbones.flux import Flux
from editkit import config, flow, registry
from editkit.errors import EditkitError
from editkit.types import EditInputs
from methods.icedit import inversion
from tests.pictures import difference, image, photo


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


def plan_of(flux: Flux, **options: Any) -> inversion.InvertedPlan:
    method = registry.method("icedit")
    conditioner = method.conditioner(flux, config.build(method.config, {"framework": "text", **options}))
    plan = conditioner.plan(EditInputs(prompts=("make it blue",), source_BCHW=photo(128, 128)))
    assert isinstance(plan, inversion.InvertedPlan)
    return plan


def test_injecting_what_was_recorded_changes_nothing(random_flux: Flux) -> None:
    plan = plan_of(random_flux).source
    x_BLC = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    with random_flux.record_values("text", 64) as values:
        plain = random_flux.velocity(x_BLC, 0.5, plan, 1.0)
    assert len(values) == 3  # one double and two single blocks
    assert all(value.shape[:2] == (1, 64) for value in values.values())
    with random_flux.inject_values("text", values, torch.ones(64, dtype=torch.bool)):
        again = random_flux.velocity(x_BLC, 0.5, plan, 1.0)
    assert torch.equal(plain, again)
    other = {name: value + 1 for name, value in values.items()}
    with random_flux.inject_values("text", other, torch.ones(64, dtype=torch.bool)):
        assert not torch.allclose(plain, random_flux.velocity(x_BLC, 0.5, plan, 1.0), atol=1e-3)
    assert torch.equal(plain, random_flux.velocity(x_BLC, 0.5, plan, 1.0)), "a hook stayed behind"


def test_values_of_other_tokens_stay(random_flux: Flux) -> None:
    """What goes into the left half is read back there, and the right half's own values elsewhere."""
    plan = plan_of(random_flux)
    x_BLC = torch.randn(1, 128, 64, generator=torch.Generator().manual_seed(0))
    first = "transformer_blocks.0.attn.to_v"
    with random_flux.record_values("text", 128) as before:
        random_flux.velocity(x_BLC, 0.5, plan, 1.0)
    values = {name: torch.full_like(value[:, plan.left_L], 2.0) for name, value in before.items()}
    with (
        random_flux.inject_values("text", values, plan.left_L),
        random_flux.record_values("text", 128) as after,
    ):
        random_flux.velocity(x_BLC, 0.5, plan, 1.0)
    assert (after[first][:, plan.left_L] == 2).all()
    assert torch.equal(after[first][:, ~plan.left_L], before[first][:, ~plan.left_L])
    assert plan.left_L.reshape(8, 16)[:, :8].all()
    assert not plan.left_L.reshape(8, 16)[:, 8:].any()


def test_compiled_blocks_are_refused(random_flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    block = random_flux.transformer("text").single_transformer_blocks[0]
    monkeypatch.setattr(block, "_compiled_call_impl", block._call_impl)
    with (
        pytest.raises(EditkitError, match="compile=false"),
        random_flux.record_values("text", 64),
    ):
        pass


class Straight:
    """A flow whose velocity is linear in time alone, for which the midpoint rule is exact."""

    @staticmethod
    def velocity(x_BLC: Tensor, t: float, plan: Any, guidance: float) -> Tensor:
        return torch.full_like(x_BLC, 2 * t)


def test_the_midpoint_rule() -> None:
    times_N = torch.tensor([0.0, 0.3, 1.0])
    path = inversion.invert(Straight(), None, torch.zeros(1, 2, 3), times_N)  # type: ignore[arg-type]
    assert torch.allclose(path[:, 0, 0, 0], times_N**2)


def test_the_way_at_any_time(random_flux: Flux) -> None:
    plan = plan_of(random_flux)
    assert plan.times_N[0] == 0
    assert plan.times_N[-1] == 1
    assert torch.equal(plan.times_N, flow.schedule(4, 128).flip(0))
    for time, x_BLC in zip(plan.times_N.tolist(), plan.path_NBLC, strict=True):
        assert torch.allclose(plan.at(time), x_BLC, atol=1e-6)
    between = plan.at((plan.times_N[1] + plan.times_N[2]).item() / 2)
    assert torch.allclose(between, (plan.path_NBLC[1] + plan.path_NBLC[2]) / 2, atol=1e-6)


def errors(left_BCHW: Tensor, source_BCHW: Tensor) -> float:
    return float((left_BCHW - source_BCHW).abs().mean())


def test_the_left_half_comes_back() -> None:
    """On the embedded weights, the inverted source is found again; from plain noise it is not."""
    from editkit import shapesworld

    flux = editkit.load("tiny", options={"icedit": {"framework": "text"}}).backbone
    example = shapesworld.example(17, "recolour")
    assert example.source
    pixels = torch.from_numpy(shapesworld.render(example.source)).permute(2, 0, 1)[None] / 255
    method = registry.method("icedit")
    options = config.build(method.config, {"framework": "text"})
    plan = method.conditioner(flux, options).plan(
        EditInputs(prompts=(example.instruction,), source_BCHW=pixels)
    )
    sampler = method.sampler(flux, options)
    noise = flux.noise(plan.canvas, [torch.Generator().manual_seed(0)])
    times = flow.schedule(8, 128)

    def left(steps: Any) -> Tensor:
        *_, last = steps
        return flux.decode(last, 256, 128)[..., :128]

    found = left(sampler.euler_steps(plan, noise, times, 1.0))
    lost = left(flow.euler_steps(lambda x, now, _: flux.velocity(x, now, plan, 1.0), noise, times))
    assert errors(found, pixels) < 0.05
    assert errors(lost, pixels) > 3 * errors(found, pixels)


def test_a_search_of_one_seed_is_a_plain_edit(random_flux: Flux) -> None:
    editor = editkit.Editor(random_flux, {"icedit": {"framework": "text"}})
    picture = image(96, 80)
    plain = editor.edit(picture, "make it blue", "icedit", seed=3)
    searched = editor.edit(
        picture, "make it blue", "icedit", seed=3, search={"seeds": 1, "mode": "continue", "preview_steps": 2}
    )
    assert plain.image is not None
    assert plain.image.size == (96, 80)
    assert searched.image is not None
    assert plain.image.tobytes() == searched.image.tobytes()
    assert plain.recipe["guidance"] == 1.5  # the role's own, not Fill's
    assert plain.recipe["options"]["framework"] == "text"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"mask": image(64, 64)}, "takes no mask"), ({"references": (image(64, 64),)}, "takes no references")],
)
def test_what_it_cannot_take(random_flux: Flux, arguments: dict[str, Any], sentence: str) -> None:
    editor = editkit.Editor(random_flux, {"icedit": {"framework": "text"}})
    with pytest.raises(EditkitError, match=sentence):
        editor.edit(image(64, 64), "make it blue", "icedit", **arguments)


def test_it_is_not_for_training(random_flux: Flux) -> None:
    method = registry.method("icedit")
    conditioner = method.conditioner(random_flux, config.build(method.config, {"framework": "text"}))
    with pytest.raises(EditkitError, match="without training"):
        conditioner.plan_without_text(EditInputs(prompts=("",), source_BCHW=photo(64, 64)))


def test_it_needs_no_other_roles_weights(random_flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text to image looks for none of Fill's files."""
    chosen, sought = [], []
    transformer = Flux.transformer
    monkeypatch.setattr(Flux, "use_components_of", lambda _, role: chosen.append(role))
    monkeypatch.setattr(
        Flux, "transformer", lambda flux, role: sought.append(role) or transformer(flux, role)
    )
    editor = editkit.Editor(random_flux, {"icedit": {"framework": "text"}})
    assert editor.edit(image(64, 64), "make it blue", "icedit", steps=1).image is not None
    assert set(chosen) == set(sought) == {"text"}


def test_cached_blocks_are_refused(random_flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(random_flux.transformer("text")), "is_cache_enabled", True)
    with pytest.raises(EditkitError, match="loading option `cache`"), random_flux.record_values("text", 64):
        pass


def test_a_negative_prompt_pushes_away_here_too(random_flux: Flux) -> None:
    asked = {"image": image(128, 128), "instruction": "make it blue", "method": "icedit", "steps": 2}
    plain, pushed = (
        editkit.Editor(random_flux, {"icedit": {"framework": "text"}}).edit(**asked, **more).image
        for more in ({}, {"negative": "a red star"})
    )
    assert difference(plain, pushed) > 1
