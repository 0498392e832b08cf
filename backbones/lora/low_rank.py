"""Low-rank updates of a module's weight, and their algebra."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRankUpdate:
    """What is added to a module's weight: down (r, I) and up (O, r), scaled by alpha / r.

    Attributes:
        down_rI: the first matrix.
        up_Or: the second one.
        alpha: the scale times the rank.
        bias_O: added to the module's bias, at the same scale; None for a plain LoRA.
        magnitude_O: the length of each row of the new weight, of a DoRA; None for a plain LoRA.
    """

    down_rI: Tensor
    up_Or: Tensor
    alpha: float
    bias_O: Tensor | None = None
    magnitude_O: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rows of down, columns of up."""
        return self.down_rI.shape[0]

    @property
    def scale(self) -> float:
        """Alpha by rank."""
        return self.alpha / self.rank

    @property
    def has_extras(self) -> bool:
        """Whether it is more than a plain LoRA's."""
        return self.bias_O is not None or self.magnitude_O is not None

    def folded(self) -> "LowRankUpdate":
        """The same with a scale of 1: exact where the scale is a power of two, else rounded to the dtype."""
        if self.alpha == self.rank:
            return self
        up_Or = (self.up_Or.float() * self.scale).to(self.up_Or.dtype)
        return replace(self, up_Or=up_Or, alpha=float(self.rank))


def nearest_product(down_rI: Tensor, up_Or: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Matrices of at most this rank whose product is nearest to that of the given ones.

    By way of the factors alone, so that no full-size matrix is ever made.
    """
    left, upper = torch.linalg.qr(up_Or.float())
    right, lower = torch.linalg.qr(down_rI.float().T)
    u, sizes, v = torch.linalg.svd(upper @ lower.T)
    root = sizes[:rank].sqrt()
    return root[:, None] * (right @ v[: len(root)].T).T, left @ u[:, : len(root)] * root


def reduce_rank(update: LowRankUpdate, rank: int) -> LowRankUpdate:
    """The nearest update of at most this rank, of the same scale; itself where it has no more."""
    if update.rank <= rank:
        return update
    down_rI, up_Or = nearest_product(update.down_rI, update.up_Or, rank)
    return LowRankUpdate(
        down_rI=down_rI.to(update.down_rI.dtype),
        up_Or=up_Or.to(update.up_Or.dtype),
        alpha=update.scale * rank,
    )


def squared_norm(down_rI: Tensor, up_Or: Tensor) -> float:
    """The squared Frobenius norm of a product, from its factors' Gram matrices."""
    down_rI, up_Or = down_rI.float(), up_Or.float()
    return float(((up_Or.T @ up_Or) * (down_rI @ down_rI.T)).sum().clamp(min=0))
