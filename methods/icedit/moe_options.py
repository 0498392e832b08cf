"""Options of a LoRA-MoE. Importing this loads no torch."""

import math
from dataclasses import dataclass

ROUTERS = ("released", "paper")
PLAIN = (
    "x_embedder", "norm1.linear", "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "norm.linear", "proj_mlp",
)  # fmt: skip
"""Modules with a plain LoRA in the released weights; `ff.net.2` and the blocks' `proj_out` have experts."""


@dataclass(frozen=True, kw_only=True)
class MoEOptions:
    """Options of a LoRA-MoE: experts on some linear layers, a plain LoRA on others."""

    experts: int = 4
    rank: int = 32
    """Rank of each expert, and of the plain LoRA."""
    alpha: float | None = None
    """Numerator of the scale; where null, the rank, which is a scale of 1."""
    top_k: int = 1
    """Number of experts that a token uses."""
    router: str = "paper"
    """`paper`: softmax over all experts, of which the best keep their value; this router learns. `released`:
    softmax over the best experts only. For one expert it is always 1 and has no gradient, so use it for
    loading."""
    targets: tuple[str, ...] = ("ff.net.2", "proj_out")
    """Modules inside blocks that get experts, as ends of names."""
    plain: tuple[str, ...] = PLAIN
    """Modules that get a plain LoRA, as ends of names."""
    balance: float = 0.0
    """Weight of the load-balance loss (Switch Transformer, eq. 4)."""
    noise: float = 0.0
    """Standard deviation of noise on the router's logits while training."""

    def __post_init__(self) -> None:
        whole = (self.experts, self.rank, self.top_k)
        if any(type(number) is not int for number in whole) or min(whole) < 1 or self.top_k > self.experts:
            raise ValueError(
                f"experts, rank and top_k must be whole numbers from 1 and top_k at most experts, "
                f"not {self.experts}, {self.rank} and {self.top_k}"
            )
        if self.router not in ROUTERS:
            raise ValueError(f"router must be one of {', '.join(ROUTERS)}, not {self.router!r}")
        if not all(0 <= number < math.inf for number in (self.balance, self.noise)):
            raise ValueError(f"balance and noise must be 0 or more, not {self.balance} and {self.noise}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be positive or null, not {self.alpha}")
