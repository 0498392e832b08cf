"""The config of a distillation: what a run teaches instead of the flow."""

import math
from dataclasses import dataclass, field

STEPS = (1, 2, 4, 8)
"""Numbers of steps that LADD can teach; the times of each one are among those of the next."""


@dataclass(frozen=True, kw_only=True)
class GuidanceDistillConfig:
    """Options of guidance distillation (Meng et al., arXiv 2210.03142)."""

    scales: tuple[float, float] = (1.0, 4.0)
    """Smallest and largest scale of the teacher's true classifier-free guidance. Each sample draws its own,
    which is the student's guidance input."""

    def __post_init__(self) -> None:
        least, most = self.scales
        if not (math.isfinite(least) and math.isfinite(most) and 0 <= least <= most):
            raise ValueError(
                "distill.guidance.scales must be two numbers from 0 upwards, the smaller first, "
                f"not {least}, {most}"
            )


@dataclass(frozen=True, kw_only=True)
class LaddConfig:
    """Options of latent adversarial diffusion distillation (LADD, arXiv 2403.12015)."""

    steps: int = 4
    """Number of steps that the student learns: 1, 2, 4 or 8. It learns the smaller numbers too, whose times
    are among these."""
    first: float = 0.7
    """Share of samples at the first time, which is noise alone; the other times share the rest."""
    noise_mean: float = 1.0
    """Mean of the logit of the time at which the discriminator looks."""
    noise_std: float = 1.0
    """Standard deviation of the same."""
    layers: list[int] = field(default_factory=list)
    """Numbers of the teacher's blocks that have a head, double blocks first; every second one where empty."""
    width: int = 64
    """Width of a head."""
    r1: float = 0.01
    """Weight of the R1 penalty, the squared gradient of a head in its features of true pictures."""
    flow: float = 0.0
    """Weight of the flow's own loss at the same times; 0 in the paper, which trains on pictures that the
    teacher made."""

    def chosen(self, blocks: int) -> list[int]:
        """Return the numbers of the blocks that have a head, of a network with so many blocks."""
        return self.layers or list(range(0, blocks, 2))

    def __post_init__(self) -> None:
        if self.steps not in STEPS:
            raise ValueError(f"distill.ladd.steps must be one of 1, 2, 4, 8, not {self.steps}")
        if not 0 < self.first <= 1:
            raise ValueError(f"distill.ladd.first must lie in (0, 1], not {self.first}")
        if self.noise_std < 0 or self.r1 < 0 or self.flow < 0:
            raise ValueError("distill.ladd.noise_std, r1 and flow must be 0 or more")
        if self.width < 1 or any(layer < 0 for layer in self.layers):
            raise ValueError("distill.ladd.width must be at least 1, and layers are numbers from 0")


@dataclass(frozen=True, kw_only=True)
class ProgressiveConfig:
    """Options of progressive distillation (Salimans and Ho, arXiv 2202.00512)."""

    steps: int = 4
    """Number of steps that the student learns."""
    teacher_steps: int = 28
    """Number of steps of the teacher, a multiple of the student's. For each sample, the teacher takes those
    that lie within one step of the student: 7 of 28 where the student has 4."""

    @property
    def ratio(self) -> int:
        """Number of the teacher's steps in one of the student's."""
        return self.teacher_steps // self.steps

    def __post_init__(self) -> None:
        if self.steps < 1 or self.teacher_steps < 1 or self.teacher_steps % self.steps:
            raise ValueError(
                "distill.progressive needs steps of at least 1 and teacher_steps that are a multiple, "
                f"not {self.steps} and {self.teacher_steps}"
            )


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """The settings of distillation, exactly one of three; the teacher is the model as the run found it."""

    guidance: GuidanceDistillConfig | None = None
    """Teach the guidance input what true classifier-free guidance does, in one pass instead of two."""
    ladd: LaddConfig | None = None
    """Teach to edit in few steps, against a discriminator on the teacher's features."""
    progressive: ProgressiveConfig | None = None
    """Teach to edit in few steps, each of which leads where several steps of the teacher lead."""

    def __post_init__(self) -> None:
        if [self.guidance, self.ladd, self.progressive].count(None) != 2:
            raise ValueError("distill needs exactly one of guidance, ladd and progressive")

    @property
    def steps(self) -> int | None:
        """Number of steps of an edit that is taught; None for guidance."""
        taught = self.progressive or self.ladd
        return None if taught is None else taught.steps

    @property
    def passes(self) -> int:
        """Number of forward passes of a batch beside the flow objective's.

        Guidance: the teacher's two. LADD: the student's answer without gradients, and the teacher over the
        true picture and over the answer, whose way back counts as another. Progressive: the teacher's steps
        within one of the student.
        """
        if self.progressive is not None:
            return self.progressive.ratio
        return 2 if self.guidance is not None else 4
