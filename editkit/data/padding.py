"""Samples of several canvas sizes as one batch: padded, with the padding masked out of attention.

Tokens are told apart by their position ids, not by their order. So each sample's tokens go to their ids'
places among all ids of the batch, and what a sample lacks is padding that nothing attends to: its velocity is
that of the sample alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.types import Conditioning, Plan, Text


def places(ids: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """All different rows of several lists of position ids, in order, and where each list's rows are in it."""
    every_N3 = torch.unique(torch.cat(list(ids)), dim=0)
    found = {tuple(row): place for place, row in enumerate(every_N3.tolist())}
    return every_N3, [torch.tensor([found[tuple(row)] for row in each.tolist()]) for each in ids]


def padded(tokens_BLC: Tensor, places_L: Tensor, count: int) -> Tensor:
    """Tokens at their places among `count`; zeros elsewhere."""
    wide = tokens_BLC.new_zeros(tokens_BLC.shape[0], count, *tokens_BLC.shape[2:])
    wide[:, places_L.to(wide.device)] = tokens_BLC
    return wide


def plans(
    pieces: Sequence[Plan], ids: Sequence[Tensor], sizes: Sequence[int]
) -> tuple[Plan, list[Tensor], int]:
    """One plan, without text, for samples of several.

    Args:
        pieces: arranged plans.
        ids: each one's position ids of its canvas, L3.
        sizes: how many samples each has.

    Returns:
        The plan, for each piece the places of its canvas' tokens, and how many places there are.

    Raises:
        EditkitError: where some join their pictures on channels and others do not.
    """
    slots = [piece.conditioning for piece in pieces]
    ids_N3, where = places(ids)
    valid_BN = torch.cat([_there(each, len(ids_N3), size) for each, size in zip(where, sizes, strict=True)])
    channels = [slot.channel_BLC for slot in slots if slot.channel_BLC is not None]
    if len(channels) not in (0, len(slots)):
        raise EditkitError("These samples fill different slots of the network; train them apart.")
    channel_BLC = None
    if channels:
        at_place = zip(channels, where, strict=True)
        channel_BLC = torch.cat([padded(tensor, places_L, len(ids_N3)) for tensor, places_L in at_place])
    sequence_BSC, sequence_ids_S3 = None, None
    with_context = [slot.sequence_ids_S3 for slot in slots if slot.sequence_ids_S3 is not None]
    if with_context:
        sequence_ids_S3, found = places(with_context)
        like = next(slot.sequence_BSC for slot in slots if slot.sequence_BSC is not None)
        contexts, valid = [], []
        for slot, size in zip(slots, sizes, strict=True):
            own = torch.zeros(0, dtype=torch.long) if slot.sequence_BSC is None else found.pop(0)
            tokens = slot.sequence_BSC
            if tokens is None:
                tokens = like.new_zeros(size, 0, like.shape[-1])
            contexts.append(padded(tokens, own, len(sequence_ids_S3)))
            valid.append(_there(own, len(sequence_ids_S3), size))
        sequence_BSC = torch.cat(contexts)
        valid_BN = torch.cat((valid_BN, torch.cat(valid)), dim=1)
    device = ids_N3.device
    conditioning = Conditioning(
        channel_BLC=channel_BLC,
        sequence_BSC=sequence_BSC,
        sequence_ids_S3=sequence_ids_S3,
        ids_L3=ids_N3,
        valid_BN=valid_BN.to(device),
    )
    return replace(pieces[0], conditioning=conditioning), where, len(ids_N3)


def texts(pieces: Sequence[Text]) -> Text:
    """Texts of several pieces as one.

    Raises:
        EditkitError: where they differ in length.
    """
    first = pieces[0]
    if any(piece.tokens_BTD.shape[1] != first.tokens_BTD.shape[1] for piece in pieces):
        raise EditkitError("These samples have prompts of different numbers of units; train them apart.")
    tokens_BTD, pooled_BD = (
        torch.cat([getattr(piece, name) for piece in pieces]) for name in ("tokens_BTD", "pooled_BD")
    )
    return replace(first, tokens_BTD=tokens_BTD, pooled_BD=pooled_BD)


def _there(places_L: Tensor, count: int, samples: int) -> Tensor:
    valid_N = torch.zeros(count, dtype=torch.bool)
    valid_N[places_L] = True
    return valid_N.expand(samples, -1)
