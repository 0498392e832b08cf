"""Loss weight of tokens that an edit changes."""

from __future__ import annotations

import torch

from editkit.train.objective import changed_weights


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
