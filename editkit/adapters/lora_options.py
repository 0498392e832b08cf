"""Options of a new LoRA."""

import math
from dataclasses import dataclass, field

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp")


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """The options of peft's LoraConfig that people change."""

    rank: int = 16
    alpha: float | None = None
    """Numerator of the LoRA's scale; where null, the rank, which is a scale of 1."""
    dropout: float = 0.0
    targets: tuple[str, ...] = (*ATTENTION, *FEED_FORWARD)
    """Layers that get a LoRA, as ends of module names."""
    exclude: str | None = None
    """A regular expression; modules whose whole name it matches get no LoRA."""
    ranks: dict[str, int] = field(default_factory=dict)
    """Other ranks, by ends of module names among the targets. With a rank equal to its number of outputs, a
    layer such as x_embedder, the input layer, can learn any update."""
    rslora: bool = False
    """Divide alpha by the square root of the rank instead of the rank (arXiv 2312.03732)."""
    dora: bool = False
    """Train each weight's magnitude apart from its direction (arXiv 2402.09353)."""

    def __post_init__(self) -> None:
        if strange := [name for name, rank in self.ranks.items() if rank < 1]:
            raise ValueError(f"lora.ranks.{strange[0]} must be at least 1, not {self.ranks[strange[0]]}")
        if self.rank < 1:
            raise ValueError(f"lora.rank must be at least 1, not {self.rank}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout must lie in [0, 1), not {self.dropout}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"lora.alpha must be above 0, or null for the rank, not {self.alpha}")
