"""The discriminator of LADD: small heads on features of the teacher's blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
"""Slope of the activation below 0, as is usual in discriminators."""


class Discriminator(nn.Module):
    """Judges each token of a picture by the teacher's features, with one head for each block.

    Args:
        width: width of the features.
        layers: numbers of the blocks.
        hidden: width of a head.
    """

    def __init__(self, width: int, layers: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {
                str(layer): nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, 1))
                for layer in layers
            }
        )

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        """Return logits, heads x B x L, of normalized features BLD by block."""
        return torch.stack([head(features[int(layer)])[..., 0] for layer, head in self.heads.items()])


def normalized(features: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Normalize each token's features to mean 0 and standard deviation 1, in float32."""
    return {layer: F.layer_norm(each.float(), each.shape[-1:]) for layer, each in features.items()}


def weighted_mean(values_HBL: Tensor, weights_BL: Tensor | None) -> Tensor:
    """Return the mean over heads and samples, with tokens weighted; weights of a sample sum to its weight."""
    if weights_BL is None:
        return values_HBL.mean()
    return (values_HBL * weights_BL).sum(-1).mean()


def hinge(real_HBL: Tensor, fake_HBL: Tensor, weights_BL: Tensor | None) -> Tensor:
    """Return the hinge loss of a discriminator by its logits."""
    return weighted_mean(F.relu(1 - real_HBL), weights_BL) + weighted_mean(F.relu(1 + fake_HBL), weights_BL)


def r1(discriminator: Discriminator, features: Mapping[int, Tensor], weights_BL: Tensor | None) -> Tensor:
    """Return the squared gradient of each token's logits in its features, averaged as in `weighted_mean`."""
    leaves = {layer: each.detach().requires_grad_() for layer, each in features.items()}
    logits = discriminator(leaves).sum()
    slopes = torch.autograd.grad(logits, list(leaves.values()), create_graph=True)
    return weighted_mean(torch.stack([slope.square().sum(-1) for slope in slopes]), weights_BL)
