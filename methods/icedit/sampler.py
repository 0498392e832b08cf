"""ICEdit's sampler: plain Euler on Fill, as released; by text to image, the source's values join in."""

from collections.abc import Iterator

from torch import Tensor

from editkit.method import Sampler
from editkit.types import Plan
from methods.icedit import inversion
from methods.icedit.config import ICEditConfig


class ICEditSampler(Sampler[ICEditConfig]):
    """The common walk; the plan says which of the paper's two frameworks it is."""

    def predict(self, x_BLC: Tensor, t: float, plan: Plan, guidance: float) -> Tensor:
        """The prediction over both halves."""
        if isinstance(plan, inversion.InvertedPlan):
            return inversion.velocity(self.backbone, x_BLC, t, plan, guidance)
        return super().predict(x_BLC, t, plan, guidance)

    def walk(self, plan: Plan, noise_BLC: Tensor, times: Tensor, guidance: float) -> Iterator[Tensor]:
        """x after each step; a walk from t = 1 by text to image starts from the inverted source."""
        if isinstance(plan, inversion.InvertedPlan) and times[0] == 1:
            noise_BLC = inversion.start(plan, noise_BLC)
        return super().walk(plan, noise_BLC, times, guidance)
