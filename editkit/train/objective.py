"""The common part of objectives, and the flow objective, for plans of any method."""

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from editkit import flow
from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data import padding
from editkit.data.batches import EditBatch
from editkit.method import Conditioner, Trainer
from editkit.train.changed_weight import token_weights
from editkit.train.context_dropout import drop_context
from editkit.train.initial_weights import InitialWeights
from editkit.train.settings import EditTrainConfig
from editkit.types import Plan

CELLS = 4
"""Number of latent cells of a token; the values of one channel are neighbours."""
CONTEXT = 4
"""Number of the random stream that chooses the context's tokens."""


class Objective(nn.Module):
    """The common part of all objectives: the trained transformer, a batch's plan, noise and times.

    Args:
        backbone: a FLUX family whose transformer trains.
        role: the transformer's role.
        conditioner: adds the text to a batch's plan.
        trainer: adds the method's own terms to the loss.
        settings: guidance, times, weighting and noise.
    """

    def __init__(
        self,
        backbone: Backbone,
        role: str,
        conditioner: Conditioner[Options],
        trainer: Trainer[Options],
        settings: EditTrainConfig,
    ) -> None:
        super().__init__()
        self.backbone, self.settings = backbone, settings
        self.conditioner, self.trainer = conditioner, trainer
        self.transformer = backbone.transformer(role)
        self.time_shift = backbone.time_shift(role)
        if settings.text_encoders:
            self.clip, self.t5 = backbone.encoders.clip, backbone.encoders.t5
        self._initial: InitialWeights | None = None

    def keep_initial_weights(self) -> None:
        """Keep a copy of the transformer's trainable weights, for a mixture's `prior` or as a teacher."""
        self._initial = InitialWeights(self.transformer, self)

    @property
    def initial(self) -> InitialWeights:
        """The copy that was kept."""
        assert self._initial is not None, "keep_initial_weights was not called"
        return self._initial

    def figures(self) -> dict[str, float]:
        """Return figures of the last forward pass by name, to be logged beside the loss."""
        return {}

    def with_text(self, batch: EditBatch, instructions: Sequence[Sequence[str]] | None = None) -> Plan:
        """Return the batch's plan with its own instructions, or with others by group."""
        words = instructions or [own for _, own in batch.groups]
        pairs = zip(batch.groups, words, strict=True)
        texts = [self.conditioner.with_text(plan, each).conditioning.text for (plan, _), each in pairs]
        text = padding.merge_texts([text for text in texts if text is not None])
        slots = batch.plan.conditioning
        apart = slots.context_apart or (slots.sequence_BSC is not None and self._caches_context(batch))
        plan = replace(batch.plan, conditioning=replace(slots, text=text, context_apart=apart))
        return drop_context(plan, self.settings.context_tokens, hash((batch.seeds[0], CONTEXT)) % 2**63)

    def _caches_context(self, batch: EditBatch) -> bool:
        """Draw whether a batch's context attends to itself only.

        All processes draw alike, so that several train as one does.
        """
        drawn = random.Random(f"cached context {self.settings.fit.seed} {batch.step}").random()
        return drawn < self.settings.cached_context

    def total(self, loss: Tensor, batch: EditBatch) -> Tensor:
        """Weight a batch's loss as its dataset is mixed in, and add the method's penalty."""
        loss = loss * batch.mixed.loss_weight
        penalty = self.trainer.penalty()
        return loss if penalty is None else loss + penalty

    def noise_and_times(self, batch: EditBatch) -> tuple[Tensor, Tensor]:
        """Draw each sample's noise and time from its own seed, independent of its batch."""
        settings = self.settings
        noises, times = [], []
        _, count, channels = batch.x0_BLC.shape
        for number, seed in enumerate(batch.seeds):
            generator = torch.Generator().manual_seed(seed)
            own = torch.arange(count) if batch.places is None else batch.places[number]
            noise_1LC = torch.randn((1, len(own), channels), generator=generator)
            if settings.noise_offset:
                offset_C = torch.randn(channels // CELLS, generator=generator).repeat_interleave(CELLS)
                noise_1LC = noise_1LC + settings.noise_offset * offset_C
            noises.append(padding.pad_tokens(noise_1LC, own, count))
            times.append(
                flow.training_times(
                    1,
                    len(own),
                    shift=self.time_shift,
                    generator=generator,
                    mean=settings.time_mean,
                    std=settings.time_std,
                    distribution=settings.times,
                )
            )
        return torch.cat(noises), torch.cat(times)


class FlowObjective(Objective):
    """Mean squared error of the predicted velocity at random times."""

    def forward(self, batch: EditBatch) -> Tensor:
        settings, device = self.settings, device_of(self)
        noise_BLC, times_B = self.noise_and_times(batch)
        plan = self.with_text(batch)
        x_BLC, velocity_BLC = flow.interpolate(batch.x0_BLC, noise_BLC.to(device), times_B.to(device))
        if batch.mixed.prior:
            with torch.no_grad(), self.initial.in_use():
                velocity_BLC = self.backbone.velocity(x_BLC, times_B.to(device), plan, settings.guidance)
        predicted_BLC = self.backbone.velocity(x_BLC, times_B.to(device), plan, settings.guidance)
        by_time_B = flow.time_weights(times_B, settings.weighting)
        loss = flow.loss(
            predicted_BLC,
            velocity_BLC,
            token_weights(batch, batch.mixed.changed_weight or settings.changed_weight),
            None if by_time_B is None else by_time_B.to(device),
        )
        return self.total(loss, batch)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's weights."""
    return next(module.parameters()).device
