"""Define low-rank updates of a module's weight, reduce their rank and measure their size."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRankUpdate:
    """A low-rank update of a module's weight: up (O, r) times down (r, I), scaled by alpha / r.

    Attributes:
        down_rI: the matrix that is applied first.
        up_Or: the matrix that is applied second.
        alpha: the scale times the rank.
        bias_O: vector that is added to the module's bias at the same scale; None for a plain LoRA.
        magnitude_O: length of each row of the new weight, for a DoRA; None for a plain LoRA.
    """

    down_rI: Tensor
    up_Or: Tensor
    alpha: float
    bias_O: Tensor | None = None
    magnitude_O: Tensor | None = None

    @property
    def rank(self) -> int:
        """Number of rows of down and of columns of up."""
        return self.down_rI.shape[0]

    @property
    def scale(self) -> float:
        """Alpha divided by the rank."""
        return self.alpha / self.rank

    @property
    def has_extras(self) -> bool:
        """Whether it has a bias or magnitudes, which a plain LoRA does not have."""
        return self.bias_O is not None or self.magnitude_O is not None

    def folded(self) -> "LowRankUpdate":
        """Fold the scale into up: exact where it is a power of two, else rounded to the dtype."""
        if self.alpha == self.rank:
            return self
        up_Or = (self.up_Or.float() * self.scale).to(self.up_Or.dtype)
        return replace(self, up_Or=up_Or, alpha=float(self.rank))


def nearest_product(down_rI: Tensor, up_Or: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Find matrices of at most this rank whose product is nearest to the product of the given ones.

    It works on the factors, so the full matrix is never computed.
    """
    left, upper = torch.linalg.qr(up_Or.float())
    right, lower = torch.linalg.qr(down_rI.float().T)
    u, sizes, v = torch.linalg.svd(upper @ lower.T)
    root = sizes[:rank].sqrt()
    return root[:, None] * (right @ v[: len(root)].T).T, left @ u[:, : len(root)] * root


def reduce_rank(update: LowRankUpdate, rank: int) -> LowRankUpdate:
    """Return the nearest update of at most this rank, with the same scale."""
    if update.rank <= rank:
        return update
    down_rI, up_Or = nearest_product(update.down_rI, update.up_Or, rank)
    return LowRankUpdate(
        down_rI=down_rI.to(update.down_rI.dtype),
        up_Or=up_Or.to(update.up_Or.dtype),
        alpha=update.scale * len(down_rI),  # fewer than asked for where the weight has fewer rows or columns
    )


def squared_norm(down_rI: Tensor, up_Or: Tensor) -> float:
    """Return the squared Frobenius norm of up times down, from the factors' Gram matrices."""
    down_rI, up_Or = down_rI.float(), up_Or.float()
    return float(((up_Or.T @ up_Or) * (down_rI @ down_rI.T)).sum().clamp(min=0))
