"""ICEdit's sampler: plain Euler on Fill, as released; text to image injects the source's attention values."""

from torch import Tensor

from editkit.method import Sampler
from editkit.types import Plan
from methods.icedit import inversion
from methods.icedit.config import ICEditConfig


class ICEditSampler(Sampler[ICEditConfig]):
    """Denoises by the framework of the plan: inpainting, or text to image."""

    def predict(self, x_BLC: Tensor, now: float, then: float, plan: Plan, guidance: float) -> Tensor:
        """Predict the velocity over both halves, BLC."""
        if isinstance(plan, inversion.InvertedPlan):
            return inversion.velocity(self.backbone, x_BLC, now, plan, guidance)
        return super().predict(x_BLC, now, then, plan, guidance)

    def start(self, plan: Plan, noise_BLC: Tensor) -> Tensor:
        """Return the noise; for text to image, its left half is the inverted source."""
        return inversion.start(plan, noise_BLC) if isinstance(plan, inversion.InvertedPlan) else noise_BLC
