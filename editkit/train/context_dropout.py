"""Leave out tokens of the context at random in training, so that steps cost less."""

from __future__ import annotations

from dataclasses import replace

import torch

from editkit.types import Plan


def drop_context(plan: Plan, share: float, seed: int) -> Plan:
    """Keep a share of the tokens that join the sequence, the same ones for all samples of a batch.

    Args:
        plan: a batch's plan.
        share: share of the tokens to keep, in (0, 1]; at least one is kept.
        seed: seed of the choice.
    """
    slots = plan.conditioning
    if share == 1 or slots.sequence_BSC is None or slots.sequence_ids_S3 is None:
        return plan
    count = slots.sequence_BSC.shape[1]
    kept = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[
        : max(1, round(share * count))
    ]
    places_S = kept.sort().values
    valid_BN = slots.valid_BN
    if valid_BN is not None:  # the canvas first, then the sequence
        own = places_S.to(valid_BN.device)
        valid_BN = torch.cat((valid_BN[:, :-count], valid_BN[:, -count:][:, own]), dim=1)
    fewer = replace(
        slots,
        sequence_BSC=slots.sequence_BSC[:, places_S.to(slots.sequence_BSC.device)],
        sequence_ids_S3=slots.sequence_ids_S3[places_S.to(slots.sequence_ids_S3.device)],
        valid_BN=valid_BN,
    )
    return replace(plan, conditioning=fewer)
