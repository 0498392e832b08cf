"""Collapse a LoRA-MoE into one plain LoRA, for programs without experts, and measure the error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backbones.lora import low_rank
from editkit.errors import EditkitError
from methods.icedit.moe_file import PREFIX, Parts, split

WAYS = ("svd", "average")


@dataclass(frozen=True, kw_only=True)
class Collapsed:
    """A LoRA-MoE that was collapsed into a plain LoRA.

    Attributes:
        state: the plain LoRA's tensors by key, for scale 1.
        errors: relative error by module: the distance of the experts to the plain LoRA by the size of the
            experts, both as root mean squares weighted over experts. 0 is exact, 1 is as bad as no adapter.
            It assumes one expert for each token; with several, it is good for comparing ways and ranks only.
    """

    state: dict[str, Tensor]
    errors: dict[str, float]

    @property
    def error(self) -> float:
        """The mean error over modules."""
        return sum(self.errors.values()) / len(self.errors)


def collapse(
    state: Mapping[str, Tensor],
    *,
    way: str = "svd",
    weights: Mapping[str, Sequence[float]] | None = None,
    rank: int | None = None,
    scale: float = 1.0,
) -> Collapsed:
    """Replace each module's experts by one low-rank update.

    Args:
        state: a LoRA-MoE's tensors by key.
        way: `svd`, the update of this rank that is nearest to the experts' weighted mean; or `average`, the
            common mean of each matrix, which is not the mean of the products.
        weights: each expert's mean weight over tokens, by module, as `Experts.weights` measures it; equal
            weights where None.
        rank: rank of the result; the experts' rank where None.
        scale: scale of the experts, alpha divided by the rank.

    Raises:
        EditkitError: where the tensors are no LoRA-MoE, or an argument does not fit.
    """
    if way not in WAYS:
        raise EditkitError(f"way must be svd or average, not {way!r}.")
    if rank is not None and rank < 1:
        raise EditkitError(f"rank={rank} is not allowed; it must be at least 1.")
    plain, experts = split(state)
    errors = {}
    for module, parts in experts.items():
        number = len(parts.route_EI)
        weights_E = torch.tensor((weights or {}).get(module, [1 / number] * number))
        if len(weights_E) != number or weights_E.min() < 0 or not weights_E.sum() > 0:
            raise EditkitError(
                f"{module} has {number} experts, which weights {weights_E.tolist()} do not fit."
            )
        down_rI, up_Or = (_svd if way == "svd" else _average)(parts, weights_E, rank)
        errors[module] = _error(parts, weights_E, down_rI, up_Or)
        plain[f"{PREFIX}{module}.lora_A.weight"] = down_rI.to(parts.down_ErI.dtype).contiguous()
        plain[f"{PREFIX}{module}.lora_B.weight"] = (scale * up_Or).to(parts.up_EOr.dtype).contiguous()
    if not experts:
        raise EditkitError("There are no experts among these tensors, so there is nothing to collapse.")
    return Collapsed(state=plain, errors=errors)


def _svd(parts: Parts, weights_E: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    down, up = parts.down_ErI.float(), parts.up_EOr.float() * weights_E[:, None, None]
    kept = rank or parts.down_ErI.shape[1]
    return low_rank.nearest_product(torch.cat(list(down), dim=0), torch.cat(list(up), dim=1), kept)


def _average(parts: Parts, weights_E: Tensor, rank: int | None) -> tuple[Tensor, Tensor]:
    if rank not in (None, parts.down_ErI.shape[1]):
        raise EditkitError("Averaged matrices keep the experts' rank; leave rank out, or use way='svd'.")
    share_E = (weights_E / weights_E.sum())[:, None, None]
    down, up = parts.down_ErI.float() * share_E, parts.up_EOr.float() * share_E
    return down.sum(0), up.sum(0) * weights_E.sum()


def _error(parts: Parts, weights_E: Tensor, down_rI: Tensor, up_Or: Tensor) -> float:
    """Return the relative error of a collapsed module; a weight is how often its expert is used."""
    share_E = weights_E / weights_E.sum()
    strength = float(weights_E.sum())
    lost, whole = 0.0, 0.0
    for share, down, up in zip(share_E.tolist(), parts.down_ErI.float(), parts.up_EOr.float(), strict=True):
        up = up * strength
        lost += share * low_rank.squared_norm(
            torch.cat((down, down_rI), dim=0), torch.cat((up, -up_Or), dim=1)
        )
        whole += share * low_rank.squared_norm(down, up)
    return (lost / whole) ** 0.5 if whole else 0.0
