"""Make plans of some tokens of the canvas, beside kept ones, and of one picture of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from editkit.key_values import KeyValues
from editkit.types import Conditioning, Plan, Text


def plan_of_some(plan: Plan, kept: KeyValues, active_L: Tensor) -> tuple[Plan, Tensor]:
    """Make the plan of the active tokens, beside kept ones; return it with the mask of its tokens.

    A context that attends to itself only is in no kept keys and values; it stays in the plan.
    """
    slots = plan.conditioning
    given_L = torch.zeros_like(active_L) if slots.given_L is None else slots.given_L.to(active_L.device)
    computed_L = active_L | given_L
    places_M = computed_L.nonzero()[:, 0]
    others_M = ~active_L[~given_L]
    sequence_BSC, sequence_ids_S3 = slots.sequence_BSC, slots.sequence_ids_S3
    if sequence_BSC is not None and not slots.context_apart:
        others_M = torch.cat((others_M, others_M.new_ones(sequence_BSC.shape[1])))
        sequence_BSC = sequence_ids_S3 = None
    assert slots.ids_L3 is not None
    part = replace(
        slots,
        channel_BLC=None if slots.channel_BLC is None else slots.channel_BLC[:, places_M],
        ids_L3=slots.ids_L3[places_M],
        sequence_BSC=sequence_BSC,
        sequence_ids_S3=sequence_ids_S3,
        given_L=None if slots.given_L is None else given_L[computed_L],
        held=kept.at(others_M.nonzero()[:, 0]),
    )
    return replace(plan, conditioning=part), computed_L


def row_of(slots: Conditioning, number: int) -> Conditioning:
    """Select one picture's conditioning."""
    rows = slice(number, number + 1)

    def text(given: Text | None) -> Text | None:
        if given is None:
            return None
        return replace(given, tokens_BTD=given.tokens_BTD[rows], pooled_BD=given.pooled_BD[rows])

    def tensor(given: Tensor | None) -> Tensor | None:
        return None if given is None else given[rows]

    return replace(
        slots,
        text=text(slots.text),
        negative=text(slots.negative),
        channel_BLC=tensor(slots.channel_BLC),
        sequence_BSC=tensor(slots.sequence_BSC),
        held=None if slots.held is None else slots.held.row(number),
    )
