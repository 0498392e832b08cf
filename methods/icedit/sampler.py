"""ICEdit's sampler: plain Euler on Fill, as released; by text to image, the source's values join in."""

from torch import Tensor

from editkit.method import Sampler
from editkit.types import Plan
from methods.icedit import inversion
from methods.icedit.config import ICEditConfig


class ICEditSampler(Sampler[ICEditConfig]):
    """The common flow; the plan says which of the paper's two frameworks it is."""

    def predict(self, x_BLC: Tensor, t: float, plan: Plan, guidance: float) -> Tensor:
        """The prediction over both halves."""
        if isinstance(plan, inversion.InvertedPlan):
            return inversion.velocity(self.backbone, x_BLC, t, plan, guidance)
        return super().predict(x_BLC, t, plan, guidance)

    def start(self, plan: Plan, noise_BLC: Tensor) -> Tensor:
        """Noise; by text to image the left half is the inverted source."""
        return inversion.start(plan, noise_BLC) if isinstance(plan, inversion.InvertedPlan) else noise_BLC
