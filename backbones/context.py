"""Context that attends to itself only: its keys and values are computed once and held."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from backbones.attention_memory import AttentionMemory, use_memory
from editkit import adapters
from editkit.key_values import KeyValues
from editkit.types import Plan

if TYPE_CHECKING:
    from editkit.key_values import Layers

GUIDANCE = 1.0
"""Distilled guidance of a pass over context alone; a fixed one, as time and text are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Tokens that attend to each other only.

    Attributes:
        tokens_BSC: their inputs to the transformer, channels joined.
        ids_S3: their position ids.
        valid_BS: mask of the real ones; None where all are.
    """

    tokens_BSC: Tensor
    ids_S3: Tensor
    valid_BS: Tensor | None = None

    def same(self, other: Context) -> bool:
        """Whether another context has equal tokens."""
        mine, theirs = (self.tokens_BSC, self.ids_S3), (other.tokens_BSC, other.ids_S3)
        equal = all(
            one is two or (one.shape == two.shape and one.device == two.device and torch.equal(one, two))
            for one, two in zip(mine, theirs, strict=True)
        )
        return equal and self.valid_BS is None and other.valid_BS is None

    def row_of(self, other: Context) -> int | None:
        """Return which of several rows another context's only row is; None where it is none."""
        mine_BSC, theirs_1SC = self.tokens_BSC, other.tokens_BSC
        if self.valid_BS is not None or len(theirs_1SC) != 1 or mine_BSC.shape[1:] != theirs_1SC.shape[1:]:
            return None
        if not replace(self, tokens_BSC=theirs_1SC).same(other):
            return None
        rows = (mine_BSC == theirs_1SC).flatten(1).all(1).nonzero()
        return int(rows[0]) if len(rows) else None

    def single(self) -> Context:
        """Keep one row where all are equal, as those of several seeds of an edit are."""
        first_1SC = self.tokens_BSC[:1]
        if self.valid_BS is not None or len(self.tokens_BSC) == 1 or not (self.tokens_BSC == first_1SC).all():
            return self
        return replace(self, tokens_BSC=first_1SC)


class FluxBackbone(Protocol):
    """The parts of a FLUX family that a context needs; `backbones.flux.Flux` has them."""

    contexts: ContextCache

    def onloaded_transformer(self, role: str) -> FluxTransformer2DModel:
        """Return the role's transformer, ready to compute."""

    def velocity(self, x_BLC: Tensor, t: float | Tensor, plan: Plan, guidance: float | Tensor) -> Tensor:
        """Predict the velocity of the canvas' tokens, BLC."""

    def grid_ids(self, width: int, height: int) -> Tensor:
        """Make the position ids of a picture, L3."""


class ContextCache:
    """Holds the keys and values of the last context: of one picture, since those of FLUX.1 take gigabytes."""

    def __init__(self) -> None:
        self._last: tuple[Hashable, Context, KeyValues] | None = None
        self.computed = 0
        """Number of contexts that were computed, not found."""

    def find_or_compute(self, flux: FluxBackbone, role: str, context: Context) -> KeyValues:
        """Return a context's keys and values; with gradients they are computed anew."""
        transformer = flux.onloaded_transformer(role)
        if torch.is_grad_enabled():
            return KeyValues.same_for_all(_compute(transformer, context))
        context, weights = context.single(), _weights_version(transformer)
        if self._last is not None:
            known, before, found = self._last
            if known == weights and before.same(context):
                return found
            # Pictures of a batch that change in different places are computed one by one in saved steps.
            if known == weights and (row := before.row_of(context)) is not None:
                return found.row(row)
            self._last = None  # free its memory before the next one is computed
        made = KeyValues.same_for_all(_compute(transformer, context))
        self.computed += 1
        self._last = weights, context, made
        return made

    def clear(self) -> None:
        """Forget the last context."""
        self._last = None


def _weights_version(transformer: FluxTransformer2DModel) -> Hashable:
    """Return a key that changes when a weight is written, or an adapter or its scale is switched."""
    weights = hash(tuple((id(weight), weight._version) for weight in transformer.parameters()))
    kind = transformer.device.type
    precision = kind != "meta" and torch.is_autocast_enabled(kind)  # plans are estimated without autocast
    return id(transformer), weights, adapters.version(transformer), precision


def _compute(transformer: FluxTransformer2DModel, context: Context) -> Layers:
    """Run the transformer over context tokens alone, at time 0 and without text; keep keys and values."""
    use_memory(transformer)
    tokens_BSC = context.tokens_BSC
    layers: Layers = {}
    batch, count = tokens_BSC.shape[:2]
    config = transformer.config
    attention: dict[str, object] = {"memory": AttentionMemory(kept=layers, tokens=count)}
    if context.valid_BS is not None:
        # A row without any context may attend to anything: nothing attends to it.
        attended_BS = context.valid_BS | ~context.valid_BS.any(1, keepdim=True)
        attention["attention_mask"] = attended_BS[:, None, None]
    transformer(
        hidden_states=tokens_BSC,
        encoder_hidden_states=tokens_BSC.new_zeros(batch, 0, config.joint_attention_dim),
        pooled_projections=tokens_BSC.new_zeros(batch, config.pooled_projection_dim),
        timestep=tokens_BSC.new_zeros(batch),
        guidance=tokens_BSC.new_full((batch,), GUIDANCE) if config.guidance_embeds else None,
        txt_ids=context.ids_S3.new_zeros(0, 3),
        img_ids=context.ids_S3,
        joint_attention_kwargs=attention,
        return_dict=False,
    )
    return layers


def velocity(
    flux: FluxBackbone, x_BLC: Tensor, t: float | Tensor, plan: Plan, guidance: float | Tensor
) -> Tensor:
    """Predict the velocity of a plan whose context attends to itself only, BLC."""
    slots = plan.conditioning
    if slots.given_L is not None and slots.channel_BLC is not None:
        return _beside_given(flux, x_BLC, t, plan, guidance, slots.given_L, slots.channel_BLC)
    plan = replace(plan, conditioning=replace(slots, context_apart=False))
    if slots.sequence_BSC is not None:
        plan = _hold_sequence(flux, plan, slots.sequence_BSC)
    return flux.velocity(x_BLC, t, plan, guidance)


def _hold_sequence(flux: FluxBackbone, plan: Plan, sequence_BSC: Tensor) -> Plan:
    """Replace the sequence of a plan by its keys and values."""
    slots = plan.conditioning
    assert slots.sequence_ids_S3 is not None
    valid_BS = None if slots.valid_BN is None else slots.valid_BN[:, -len(slots.sequence_ids_S3) :]
    context = Context(tokens_BSC=sequence_BSC, ids_S3=slots.sequence_ids_S3, valid_BS=valid_BS)
    held = _hold(flux, plan, context)
    return replace(plan, conditioning=replace(slots, sequence_BSC=None, sequence_ids_S3=None, held=held))


def _hold(flux: FluxBackbone, plan: Plan, context: Context) -> KeyValues:
    """Return the context's keys and values, after those that the plan holds already."""
    found, before = flux.contexts.find_or_compute(flux, plan.role, context), plan.conditioning.held
    return found if before is None else before.followed_by(found)


def _beside_given(
    flux: FluxBackbone,
    x_BLC: Tensor,
    t: float | Tensor,
    plan: Plan,
    guidance: float | Tensor,
    given_L: Tensor,
    channel_BLC: Tensor,
) -> Tensor:
    """Predict the painted tokens' velocity; that of the given ones leads straight to their latents."""
    slots, given_L = plan.conditioning, given_L.to(x_BLC.device)
    ids_L3 = slots.ids_L3
    if ids_L3 is None:
        ids_L3 = flux.grid_ids(plan.canvas.width, plan.canvas.height)
    about_BGC = channel_BLC[:, given_L]
    latents_BGC = about_BGC[..., : x_BLC.shape[-1]]
    context = Context(tokens_BSC=torch.cat((latents_BGC, about_BGC), dim=-1), ids_S3=ids_L3[given_L])
    painted = replace(
        slots,
        channel_BLC=channel_BLC[:, ~given_L],
        ids_L3=ids_L3[~given_L],
        context_apart=False,
        given_L=None,
        held=_hold(flux, plan, context),
    )
    velocity_BPC = flux.velocity(x_BLC[:, ~given_L], t, replace(plan, conditioning=painted), guidance)
    time = t[:, None, None] if isinstance(t, Tensor) and t.ndim else t
    velocity_BLC = velocity_BPC.new_empty(*x_BLC.shape[:2], velocity_BPC.shape[-1])
    velocity_BLC[:, ~given_L] = velocity_BPC
    velocity_BLC[:, given_L] = ((x_BLC[:, given_L] - latents_BGC) / time).to(velocity_BLC.dtype)
    return velocity_BLC
