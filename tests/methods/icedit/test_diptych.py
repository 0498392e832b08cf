"""ICEdit's diptych: how large its halves are, what is said of it, and which half the loss counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.flux import Flux
from editkit import config, flow
from editkit.imaging import canvas
from editkit.shapesworld.masked import IN_CONTEXT
from editkit.train.settings import EditTrainConfig
from editkit.types import EditInputs
from methods.icedit import METHOD
from methods.icedit.config import TEMPLATES
from tests import ROOT
from tests.pictures import photo

WORDS = "make the red circle blue"


def conditioner(flux: Flux, **options: Any) -> Any:
    return METHOD.conditioner(flux, config.build(METHOD.config, options))


@pytest.mark.parametrize(
    ("width", "height", "panel"),
    [(500, 333, (512, 352)), (4000, 10, (512, 16)), (10, 4000, (512, 2048)), (512, 512, (512, 512))],
)
def test_halves_where_a_backbone_has_no_sizes(
    random_flux: Flux, width: int, height: int, panel: tuple[int, int]
) -> None:
    """512 across as released; the picture comes back in its own size, where it was."""
    roles = {name: replace(role, sizes=()) for name, role in random_flux.family.roles.items()}
    flux = Flux(replace(random_flux.family, roles=roles), torch.device("cpu"), torch.float32)
    ramp_1CHW = torch.stack(
        (
            torch.linspace(0, 1, width).expand(height, width),
            torch.linspace(0, 1, height)[:, None].expand(height, width),
            torch.full((height, width), 0.5),
        )
    )[None]
    found = conditioner(flux)._panel(ramp_1CHW, None)
    assert (found.width, found.height) == panel
    placed_1CHW = canvas.place(ramp_1CHW, found)
    assert placed_1CHW.shape[-2:] == (found.height, found.width)
    restored_1CHW = canvas.restore(placed_1CHW, found)
    assert restored_1CHW.shape == ramp_1CHW.shape
    error_C = (restored_1CHW - ramp_1CHW).abs().mean(dim=(0, 2, 3))
    # Ten pixels that become five or one lose their ramp.
    across, down, flat = error_C.tolist()
    assert flat < 1e-5
    assert across < 1e-5 or width == 10
    assert down < 1e-5 or height == 10
    assert restored_1CHW.mean().item() == pytest.approx(0.5, abs=1e-4)


def test_prompts(random_flux: Flux) -> None:
    released = conditioner(random_flux).prompts([WORDS, ""])
    assert released == [
        "A diptych with two side-by-side images of the same scene. On the right, the scene is exactly the "
        "same as on the left but make the red circle blue",
        " ",
    ]
    paper = conditioner(random_flux, template="paper", subject="man", description="man in a hat")
    assert paper.prompts([WORDS]) == [
        "a side-by-side image of the same man: the left depicts the original man in a hat, while the right "
        "mirrors the left but applies make the red circle blue"
    ]


@pytest.mark.parametrize("encoding", ["sample", "mode"])
def test_encoding(random_flux: Flux, encoding: str) -> None:
    """A sample is a seed's own, off its generator; the mode is the same for all and draws nothing."""
    method = conditioner(random_flux, encoding=encoding)
    found: list[Tensor] = []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        before = generator.get_state()
        plan = method.plan(EditInputs(prompts=(WORDS,), source_BCHW=photo(64, 64), generators=(generator,)))
        found.append(plan.conditioning.channel_BLC)
        assert torch.equal(generator.get_state(), before) == (encoding == "mode")
    assert torch.equal(*found) == (encoding == "mode")


def test_a_loss_of_the_right_half(random_flux: Flux) -> None:
    given = EditInputs(prompts=(WORDS, ""), source_BCHW=photo(64, 96).expand(2, -1, -1, -1))
    options = config.build(METHOD.config, {"loss": "right"})
    plan = METHOD.conditioner(random_flux, options).plan(given)
    weights_BL = METHOD.trainer(random_flux, options).weights(plan, given)
    grid_Bhw = weights_BL.reshape(2, plan.canvas.height // 16, plan.canvas.width // 16)
    left_Bhw, right_Bhw = grid_Bhw.chunk(2, dim=-1)
    assert not left_Bhw.any()
    shares_Bhw = right_Bhw / right_Bhw.sum(dim=(1, 2), keepdim=True)
    assert torch.allclose(shares_Bhw, torch.full_like(shares_Bhw, 1 / shares_Bhw[0].numel()))


def test_released_times() -> None:
    """Half of them on either side of the middle, however many tokens there are."""
    values = config.read_yaml(ROOT / "configs" / "flux1-dev" / "icedit-lora.yaml")
    settings = config.build(EditTrainConfig, values)
    times_B = flow.training_times(
        4000,
        2048,
        generator=torch.Generator().manual_seed(0),
        mean=settings.time_mean,
        std=settings.time_std,
        distribution=settings.times,
    )
    logits_B = times_B.logit()
    assert logits_B.mean().item() == pytest.approx(0, abs=0.05)
    assert logits_B.std().item() == pytest.approx(1, abs=0.05)


def test_the_embedded_model_was_trained_under_the_released_prompt() -> None:
    assert TEMPLATES["released"] == IN_CONTEXT + "{instruction}"
