"""Latent adversarial diffusion distillation: an edit in 1, 2, 4 or 8 steps.

Sauer et al., Fast High-Resolution Image Synthesis with Latent Adversarial Diffusion Distillation (LADD, arXiv
2403.12015). The student's answer and the true one are noised again, and the teacher's features of both go to
small heads, which learn to tell them apart; the student learns that they cannot.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from editkit import flow
from editkit.data import padding
from editkit.data.batches import EditBatch
from editkit.train.distill.discriminator import Discriminator, hinge, normalized, r1, weighted_mean
from editkit.train.distill.few_steps import FewStepsObjective
from editkit.train.distill_settings import LaddConfig
from editkit.train.objective import device_of
from editkit.types import Plan

TIMES, AGAIN = 2, 3
"""Numbers of random streams: the student's times, and the noise and time of the discriminator."""


class LaddObjective(FewStepsObjective):
    """The discriminator's hinge loss, whose backward pass moves the student and the heads at once.

    The student's own loss adds its gradient and not its value, which can be negative; `figures` has it. The
    arguments are those of `Objective`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert self.settings.distill is not None
        assert self.settings.distill.ladd is not None
        self.options: LaddConfig = self.settings.distill.ladd
        transformer = self.transformer
        blocks = len([*transformer.transformer_blocks, *transformer.single_transformer_blocks])
        self.layers = self.options.chosen(blocks)
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        with torch.random.fork_rng():
            torch.manual_seed(self.settings.fit.seed)  # the same heads in all processes
            self.discriminator = Discriminator(width, self.layers, self.options.width).to(
                self.backbone.device
            )
        self._figures: dict[str, Tensor] = {}

    def figures(self) -> dict[str, float]:
        """Return the mean logits of true answers and of the student's, and the flow's loss."""
        return {name: round(value.item(), 4) for name, value in self._figures.items()}

    def forward(self, batch: EditBatch) -> Tensor:
        device = device_of(self)
        noise_BLC, _ = self.noise_and_times(batch)
        times_B, plan = self.times(batch).to(device), self.with_text(batch)
        x_BLC, velocity_BLC = flow.interpolate(batch.x0_BLC, noise_BLC.to(device), times_B)
        with torch.no_grad():
            answer_BLC = self.answer(x_BLC, times_B, plan)[0]
        slope_BLC, loss = self.against_teacher(batch, plan, answer_BLC)
        # The student runs once more, with gradients: the teacher's weights stood in its place meanwhile.
        again_BLC, predicted_BLC = self.answer(x_BLC, times_B, plan)
        loss = loss + ((again_BLC - again_BLC.detach()) * slope_BLC).sum()
        flow_loss = flow.loss(predicted_BLC, velocity_BLC, batch.weights_BL)
        self._figures["flow loss"] = flow_loss.detach()
        if self.options.flow:
            loss = loss + self.options.flow * flow_loss
        return self.total(loss, batch)

    def answer(self, x_BLC: Tensor, times_B: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        """Return the student's prediction of x_0, BLC in float32, and the velocity it is from."""
        velocity_BLC = self.backbone.velocity(x_BLC, times_B, plan, self.settings.guidance)
        return x_BLC.float() - times_B[:, None, None] * velocity_BLC.float(), velocity_BLC

    def against_teacher(self, batch: EditBatch, plan: Plan, answer_BLC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slope of the student's loss in its answer, BLC, and the discriminator's loss."""
        weights_BL, given_L = batch.weights_BL, plan.conditioning.given_L
        if weights_BL is not None and given_L is not None:  # given tokens have no features
            weights_BL = weights_BL[:, ~given_L.to(weights_BL.device)]
        noise_BLC, times_B = (each.to(answer_BLC.device) for each in self.noised_again(batch))
        leaf_BLC = answer_BLC.detach().requires_grad_()
        with self.initial.in_use():
            fake = self.features(flow.interpolate(leaf_BLC, noise_BLC, times_B)[0], times_B, plan)
            with torch.autocast(answer_BLC.device.type, enabled=False):
                adversarial = -weighted_mean(self.discriminator(fake), weights_BL)
            (slope_BLC,) = torch.autograd.grad(adversarial, leaf_BLC)
            with torch.no_grad():
                real = self.features(flow.interpolate(batch.x0_BLC, noise_BLC, times_B)[0], times_B, plan)
        with torch.autocast(answer_BLC.device.type, enabled=False):
            real_HBL = self.discriminator(real)
            fake_HBL = self.discriminator({layer: each.detach() for layer, each in fake.items()})
            loss = hinge(real_HBL, fake_HBL, weights_BL)
            if self.options.r1:
                loss = loss + self.options.r1 * r1(self.discriminator, real, weights_BL)
        self._figures["real"] = weighted_mean(real_HBL, weights_BL).detach()
        self._figures["fake"] = weighted_mean(fake_HBL, weights_BL).detach()
        return slope_BLC, loss

    def features(self, x_BLC: Tensor, times_B: Tensor, plan: Plan) -> dict[int, Tensor]:
        """Return the network's normalized features of the canvas, BLD by block."""
        with self.backbone.record_features(plan.role, self.layers, x_BLC.shape[1]) as found:
            self.backbone.velocity(x_BLC, times_B, plan, self.settings.guidance)
        return normalized(found)

    def times(self, batch: EditBatch) -> Tensor:
        """Draw each sample's time among those of the few steps from its own seed, (B,)."""
        drawn = []
        for number, seed in enumerate(batch.seeds):
            generator = torch.Generator().manual_seed(hash((seed, TIMES)) % 2**63)
            steps_S = flow.schedule(self.options.steps, self._tokens(batch, number), self.time_shift)[:-1]
            first, place = torch.rand(2, generator=generator).tolist()
            later = 1 + int(place * (len(steps_S) - 1))
            drawn.append(steps_S[0 if first < self.options.first or len(steps_S) == 1 else later])
        return torch.stack(drawn)

    def noised_again(self, batch: EditBatch) -> tuple[Tensor, Tensor]:
        """Draw the noise, BLC, and the time, (B,), at which the discriminator looks."""
        noises, times = [], []
        _, count, channels = batch.x0_BLC.shape
        for number, seed in enumerate(batch.seeds):
            generator = torch.Generator().manual_seed(hash((seed, AGAIN)) % 2**63)
            tokens = self._tokens(batch, number)
            own = torch.arange(count) if batch.places is None else batch.places[number]
            noise_1LC = torch.randn((1, tokens, channels), generator=generator)
            noises.append(padding.pad_tokens(noise_1LC, own, count))
            mean, std = self.options.noise_mean, self.options.noise_std
            times.append(flow.training_times(1, tokens, generator=generator, mean=mean, std=std))
        return torch.cat(noises), torch.cat(times)

    def _tokens(self, batch: EditBatch, number: int) -> int:
        """Return the number of a sample's own tokens."""
        return batch.x0_BLC.shape[1] if batch.places is None else len(batch.places[number])
