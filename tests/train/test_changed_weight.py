"""Loss weight of tokens that an edit changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from editkit import EditkitError, config
from editkit.train.changed_weight import changed_weights, token_weights
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from tests import ROOT


def test_changed_tokens_weigh_more_and_samples_the_same() -> None:
    context_BLC = torch.zeros(2, 4, 3)
    x0_BLC = context_BLC.clone()
    x0_BLC[0, 1, 2] = 1.0
    expected = torch.tensor([[1, 4, 1, 1], [1.75] * 4]) / 7
    torch.testing.assert_close(changed_weights(x0_BLC, context_BLC, None, 4.0), expected)


def test_given_weights_keep_their_sums() -> None:
    torch.manual_seed(0)
    weights_BL = torch.rand(3, 5)
    weights_BL[:, -1] = 0  # padding
    x0_BLC = torch.randn(3, 5, 2)
    found_BL = changed_weights(x0_BLC, torch.zeros_like(x0_BLC), weights_BL, 3.0)
    torch.testing.assert_close(found_BL.sum(1), weights_BL.sum(1))
    assert (found_BL[:, -1] == 0).all()


def test_a_diptychs_right_half_is_compared_with_its_left_half(tmp_path: Path) -> None:
    values = config.read_yaml(ROOT / "configs" / "tiny" / "icedit-lora.yaml")
    values |= {"data": {"count": 8, "kinds": {"recolour": 1.0}}, "mixture": {}}
    changes = ("load.compile=false", "latents=cached")
    small = ("fit.batch=8", "fit.precision=fp32", "fit.device=cpu", f"cache={tmp_path}")
    job = EditJob(config.build(EditTrainConfig, values, (*changes, *small)))
    batch = job.batch(range(8))
    weights_BhwL = token_weights(batch, job.config.changed_weight).reshape(8, 8, 2, 8)
    assert (weights_BhwL[:, :, 0] == 0).all()
    right_Bhw = weights_BhwL[:, :, 1]
    torch.testing.assert_close(right_Bhw.sum((1, 2)), torch.ones(8))
    changed_Bhw = right_Bhw > 2 * right_Bhw.amin((1, 2), keepdim=True)
    torch.testing.assert_close(right_Bhw.amax((1, 2)), 4 * right_Bhw.amin((1, 2)))
    assert (changed_Bhw.float().mean((1, 2)) < 0.5).all(), "a recoloured thing fills no half"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["changed_weight=0"], "changed_weight must be positive, not 0"),
        (["changed_weight=2", "distill.guidance={}"], "changed_weight is for the flow's loss"),
        (["mixture.more.changed_weight=2", "distill.guidance={}"], "changed_weight is for the flow's loss"),
    ],
)
def test_weights_that_are_refused(changes: list[str], words: str) -> None:
    with pytest.raises(EditkitError, match=words):
        config.build(EditTrainConfig, {}, changes)
