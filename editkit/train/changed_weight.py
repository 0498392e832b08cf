"""Weight a batch's loss towards the tokens that an edit changes."""

import torch
from torch import Tensor

from editkit.data.batches import EditBatch
from editkit.imaging.canvas import GRID

CHANGED = 0.2
"""Difference of latents, in their own units, from which a token counts as changed."""


def token_weights(batch: EditBatch, heavy: float) -> Tensor | None:
    """Return a batch's loss weights BL, changed tokens with `heavy` times theirs; None means a mean."""
    if heavy == 1 or (context_BLC := _context(batch)) is None:
        return batch.weights_BL
    return changed_weights(batch.x0_BLC, context_BLC, batch.weights_BL, heavy)


def _context(batch: EditBatch) -> Tensor | None:
    """Return the context picture's tokens BLC in the places of the target's; None without or with several.

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
