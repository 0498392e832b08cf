"""The flow objective, for plans of any method."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from editkit import flow
from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data import padding
from editkit.data.batches import EditBatch
from editkit.imaging.canvas import GRID
from editkit.method import Conditioner, Trainer
from editkit.train.distributed.fsdp import drop_copies, local_shard
from editkit.train.settings import EditTrainConfig

CELLS = 4
"""Number of latent cells of a token; the values of one channel are neighbours."""


CHANGED = 0.2
"""Difference of latents, in their own units, from which a token counts as changed."""


class FlowObjective(nn.Module):
    """Mean squared error of the predicted velocity at random times.

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
        self._initial: list[tuple[Tensor, Tensor]] = []

    def keep_initial_weights(self) -> None:
        """Keep a copy of the trainable weights, for a mixture's `prior`."""
        trained = [p.detach() for p in self.parameters() if p.requires_grad]
        self._initial = [(local_shard(p), local_shard(p).clone()) for p in trained]

    @contextmanager
    def _with_initial_weights(self) -> Iterator[None]:
        """Use the initial weights within the block, without gradients and dropout."""
        assert self._initial, "keep_initial_weights was not called"
        training = self.transformer.training
        with torch.no_grad():
            now = [weights.clone() for weights, _ in self._initial]
            for weights, before in self._initial:
                weights.copy_(before)
            drop_copies(self)
            self.transformer.eval()
            try:
                yield
            finally:
                self.transformer.train(training)
                for (weights, _), after in zip(self._initial, now, strict=True):
                    weights.copy_(after)
                drop_copies(self)

    def forward(self, batch: EditBatch) -> Tensor:
        settings, device = self.settings, device_of(self)
        noise_BLC, times_B = self.noise_and_times(batch)
        texts = [self.conditioner.with_text(*piece).conditioning.text for piece in batch.groups]
        text = padding.merge_texts([text for text in texts if text is not None])
        plan = replace(batch.plan, conditioning=replace(batch.plan.conditioning, text=text))
        x_BLC, velocity_BLC = flow.interpolate(batch.x0_BLC, noise_BLC.to(device), times_B.to(device))
        if batch.mixed.prior:
            with self._with_initial_weights():
                velocity_BLC = self.backbone.velocity(x_BLC, times_B.to(device), plan, settings.guidance)
        predicted_BLC = self.backbone.velocity(x_BLC, times_B.to(device), plan, settings.guidance)
        by_time_B = flow.time_weights(times_B, settings.weighting)
        loss = flow.loss(
            predicted_BLC,
            velocity_BLC,
            self.token_weights(batch),
            None if by_time_B is None else by_time_B.to(device),
        )
        loss = loss * batch.mixed.loss_weight
        penalty = self.trainer.penalty()
        return loss if penalty is None else loss + penalty

    def token_weights(self, batch: EditBatch) -> Tensor | None:
        """Return a batch's loss weights BL; None means a mean over tokens."""
        context_BLC, heavy = _context(batch), self.settings.changed_weight
        if heavy == 1 or context_BLC is None:
            return batch.weights_BL
        return changed_weights(batch.x0_BLC, context_BLC, batch.weights_BL, heavy)

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


def _context(batch: EditBatch) -> Tensor | None:
    """Return the context picture's tokens BLC in the places of the target's; None without such a picture.

    In a diptych the left half's tokens stand for themselves and for those on the right.
    """
    conditioning, canvas = batch.plan.conditioning, batch.plan.canvas
    context_BSC, channel_BLC = conditioning.sequence_BSC, conditioning.channel_BLC
    if context_BSC is not None:
        return context_BSC if context_BSC.shape == batch.x0_BLC.shape else None
    if channel_BLC is None or batch.places is not None or 2 * canvas.answer.left != canvas.width:
        return None
    count, rows, columns = len(channel_BLC), canvas.height // GRID, canvas.width // GRID
    given_BhwC = channel_BLC[..., : batch.x0_BLC.shape[-1]].reshape(count, rows, columns, -1)
    return given_BhwC[:, :, : columns // 2].repeat(1, 1, 2, 1).flatten(1, 2)


def changed_weights(x0_BLC: Tensor, context_BLC: Tensor, weights_BL: Tensor | None, heavy: float) -> Tensor:
    """Multiply the loss weights of changed tokens by `heavy`; each sample's weights keep their sum."""
    changed_BL = (x0_BLC.float() - context_BLC.float()).abs().amax(-1) > CHANGED
    if weights_BL is None:
        weights_BL = torch.full_like(changed_BL, 1 / changed_BL.shape[1], dtype=torch.float32)
    weighted_BL = weights_BL * (1 + (heavy - 1) * changed_BL.float())
    return weighted_BL * (weights_BL.sum(1) / weighted_BL.sum(1))[:, None]


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's weights."""
    return next(module.parameters()).device
