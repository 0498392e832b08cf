"""Pad samples of several canvas sizes into one batch, and mask the padding out of attention.

The network knows a token by its position ids, not by its order. So a batch has one place for each different
id, and each sample's tokens go to the places of their ids. The other places are padding that nothing attends
to, so each sample's velocity is the same as alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.types import Conditioning, Plan, Text


def merge_ids(ids: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Merge lists of position ids, L3; return the different ids, N3, and the places of each list's ids."""
    every_N3 = torch.unique(torch.cat(list(ids)), dim=0)
    found = {tuple(row): place for place, row in enumerate(every_N3.tolist())}
    return every_N3, [torch.tensor([found[tuple(row)] for row in each.tolist()]) for each in ids]


def pad_tokens(tokens_BLC: Tensor, places_L: Tensor, count: int) -> Tensor:
    """Put tokens at their places among `count` places, with zeros elsewhere."""
    wide = tokens_BLC.new_zeros(tokens_BLC.shape[0], count, *tokens_BLC.shape[2:])
    wide[:, places_L.to(wide.device)] = tokens_BLC
    return wide


def merge_plans(
    pieces: Sequence[Plan], ids: Sequence[Tensor], sizes: Sequence[int]
) -> tuple[Plan, list[Tensor], int]:
    """Merge plans into one without text.

    Args:
        pieces: the plans.
        ids: position ids of each plan's canvas, L3.
        sizes: number of samples of each plan.

    Returns:
        The plan, the places of each piece's canvas tokens, and the number of places.

    Raises:
        EditkitError: if some plans join their pictures on channels and others do not.
    """
    slots = [piece.conditioning for piece in pieces]
    ids_N3, where = merge_ids(ids)
    valid_BN = torch.cat([_valid(each, len(ids_N3), size) for each, size in zip(where, sizes, strict=True)])
    channel_BLC = _merge_channels(slots, where, len(ids_N3))
    if len(slots) > 1 and any(slot.given_L is not None for slot in slots):
        raise EditkitError(
            "Samples of different sizes cannot share a batch where a panel's keys and values are computed "
            "once (context=cached); use pictures of one size, or context=joint."
        )
    sequence_BSC, sequence_ids_S3 = None, None
    if any(slot.sequence_BSC is not None for slot in slots):
        sequence_BSC, sequence_ids_S3, valid_BS = _merge_sequences(slots, sizes)
        valid_BN = torch.cat((valid_BN, valid_BS), dim=1)
    conditioning = Conditioning(
        channel_BLC=channel_BLC,
        sequence_BSC=sequence_BSC,
        sequence_ids_S3=sequence_ids_S3,
        ids_L3=ids_N3,
        valid_BN=valid_BN.to(ids_N3.device),
        context_apart=any(slot.context_apart for slot in slots),
        given_L=slots[0].given_L,
    )
    return replace(pieces[0], conditioning=conditioning), where, len(ids_N3)


def _merge_channels(slots: Sequence[Conditioning], where: Sequence[Tensor], count: int) -> Tensor | None:
    """Put the tensors that join on channels at the places of their canvases, BNC.

    Raises:
        EditkitError: if some plans have such tensors and others do not.
    """
    channels = [slot.channel_BLC for slot in slots if slot.channel_BLC is not None]
    if len(channels) not in (0, len(slots)):
        raise EditkitError("These samples fill different slots of the network; train them apart.")
    if not channels:
        return None
    at_place = zip(channels, where, strict=True)
    return torch.cat([pad_tokens(tensor, places_L, count) for tensor, places_L in at_place])


def _merge_sequences(slots: Sequence[Conditioning], sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the tokens that join on the sequence: tokens BSC, their ids S3, and which are no padding, BS."""
    ids_S3, found = merge_ids([slot.sequence_ids_S3 for slot in slots if slot.sequence_ids_S3 is not None])
    like = next(slot.sequence_BSC for slot in slots if slot.sequence_BSC is not None)
    contexts, valid = [], []
    for slot, size in zip(slots, sizes, strict=True):
        own = torch.zeros(0, dtype=torch.long) if slot.sequence_BSC is None else found.pop(0)
        tokens = slot.sequence_BSC
        if tokens is None:
            tokens = like.new_zeros(size, 0, like.shape[-1])
        contexts.append(pad_tokens(tokens, own, len(ids_S3)))
        valid.append(_valid(own, len(ids_S3), size))
    return torch.cat(contexts), ids_S3, torch.cat(valid)


def merge_texts(pieces: Sequence[Text]) -> Text:
    """Merge the texts of several groups of samples into one batch.

    Raises:
        EditkitError: if they differ in length.
    """
    first = pieces[0]
    if any(piece.tokens_BTD.shape[1] != first.tokens_BTD.shape[1] for piece in pieces):
        raise EditkitError("These samples have prompts with different numbers of units; train them apart.")
    tokens_BTD, pooled_BD = (
        torch.cat([getattr(piece, name) for piece in pieces]) for name in ("tokens_BTD", "pooled_BD")
    )
    return replace(first, tokens_BTD=tokens_BTD, pooled_BD=pooled_BD)


def _valid(places_L: Tensor, count: int, samples: int) -> Tensor:
    """Mark the places that are not padding, BN."""
    valid_N = torch.zeros(count, dtype=torch.bool)
    valid_N[places_L] = True
    return valid_N.expand(samples, -1)
