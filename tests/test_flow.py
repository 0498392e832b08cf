"""Laws of flow: schedule, interpolation, Euler steps, times of training, loss weights."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from backbones.flux import Flux
from editkit import flow, registry
from editkit.train.settings import DISTRIBUTIONS
from editkit.types import EditInputs
from tests.pictures import photo


def euler(velocity: flow.Velocity, x_BLC: Tensor, times: Tensor) -> Tensor:
    """x at the last of the times."""
    return [x_BLC, *flow.euler_steps(velocity, x_BLC, times)][-1]


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
    found = euler(lambda _x, _now, _then: noise - x0, noise, flow.schedule(7, 64))
    assert torch.allclose(found, x0, atol=1e-5)


def test_euler_against_a_closed_form() -> None:
    x = torch.randn(2, 5, 4)
    # x' = x from t = 1 to 0 gives x / e; an Euler step multiplies by 1 - dt, and the error is of first order.
    errors = []
    for steps in (8, 16, 32):
        times = torch.linspace(1, 0, steps + 1)
        found = euler(lambda y, _now, _then: y, x, times)
        assert torch.allclose(found, x * (1 - 1 / steps) ** steps, atol=1e-5)
        errors.append(float((found - x / math.e).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)
    # The velocity is read at the start of each step: x' = 2t over (1, 0.6, 0) is -(0.4 * 2 + 0.6 * 1.2).
    found = euler(
        lambda y, now, _then: torch.full_like(y, 2 * now), torch.zeros(1, 1, 1), torch.tensor([1.0, 0.6, 0.0])
    )
    assert found.item() == pytest.approx(-1.52, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_euler_along_a_flow_map_is_exact(steps: int) -> None:
    def mean_velocity(x_BLC: Tensor, now: float, then: float) -> Tensor:
        """That of x' = x, whose flow multiplies by e^(then - now)."""
        return x_BLC * math.expm1(then - now) / (then - now)

    x = torch.randn(2, 5, 4)
    assert torch.allclose(euler(mean_velocity, x, flow.schedule(steps, 64)), x / math.e, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_euler_can_stop_and_go_on(random_flux: Flux, dtype: torch.dtype) -> None:
    method = registry.method("kontext")
    options = method.config()
    plan = method.conditioner(random_flux, options).plan(
        EditInputs(prompts=("a star",), source_BCHW=photo(128, 128))
    )
    noise_BLC = random_flux.noise(plan.canvas, [torch.Generator().manual_seed(0)]).to(dtype)

    def velocity(x_BLC: Tensor, now: float, _then: float) -> Tensor:
        return random_flux.velocity(x_BLC.float(), now, plan, 1.5)

    times = flow.schedule(5, noise_BLC.shape[1])
    whole = euler(velocity, noise_BLC, times)
    assert whole.dtype == dtype
    for k in range(6):
        first = euler(velocity, noise_BLC, times[: k + 1])
        assert torch.equal(euler(velocity, first, times[k:]), whole), k
    assert len(list(flow.euler_steps(velocity, noise_BLC, times))) == 5


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
    assert torch.allclose(flow.shifted(plain, flow.TimeShift().mu(tokens)), times, atol=1e-6)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
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
