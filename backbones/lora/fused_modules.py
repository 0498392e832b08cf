"""Split and join low-rank updates between the modules of Black Forest Labs' naming and diffusers'.

Black Forest Labs' naming fuses what diffusers keeps apart: q, k and v, and in single blocks the MLP's first
layer. Names and shapes are enough to do this, for any number and width of blocks, and for meta tensors.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from backbones.conversion import key_map
from backbones.lora.low_rank import LowRankUpdate
from editkit.errors import EditkitError

BLOCK = re.compile(r"blocks[._](\d{1,3})[._]")
"""Pattern of a block's number in a name."""
SWAPPED = {name.removesuffix(".weight") for name in key_map.SWAPPED}
"""Native modules whose rows are shift, then scale; diffusers' rows are scale, then shift."""


@cache
def module_map(doubles: int, singles: int) -> dict[str, tuple[str, ...]]:
    """Return diffusers' modules that hold a native module's rows, from top to bottom, by native name."""
    return {
        native.removesuffix(".weight"): tuple(part.removesuffix(".weight") for part in parts)
        for native, parts in key_map.key_map(doubles, singles, guidance=True).items()
        if native.endswith(".weight")
    }


def count_blocks(names: Iterable[str]) -> int:
    """Return the smallest number of blocks of a kind in which all of these names exist."""
    found = (BLOCK.search(name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def split(updates: Mapping[str, LowRankUpdate]) -> dict[str, LowRankUpdate]:
    """Split the updates of native modules among diffusers' modules; updates of diffusers' modules stay.

    Where each rank of a fused update belongs to one part, as `join` stacks them, each part gets its own ranks
    back. Otherwise each part gets its rows of up and a copy of down. A part without any rank is left out,
    unless it has a bias or magnitudes.

    Raises:
        EditkitError: where rows cannot be divided, or a module gets two updates.
    """
    count = count_blocks(updates)
    table, result = module_map(count, count), dict[str, LowRankUpdate]()
    for name, update in updates.items():
        for part, piece in _split_update(name, table[name], update) if name in table else [(name, update)]:
            if part in result:
                raise EditkitError(f"There are two updates of {part}; keep one.")
            result[part] = piece
    return result


def join(updates: Mapping[str, LowRankUpdate]) -> dict[str, LowRankUpdate]:
    """Join the updates of diffusers' modules for native modules; updates of native modules stay.

    Parts with the same down matrix share it. Others are stacked: their ranks add up, and up is zero where
    rows and ranks belong to different parts. Both ways are exact; meta tensors are always stacked.

    Raises:
        EditkitError: where parts do not fit each other, or a module gets two updates.
    """
    count, rest, result = count_blocks(updates), dict(updates), dict[str, LowRankUpdate]()
    for native, parts in module_map(count, count).items():
        present = {part: rest.pop(part) for part in parts if part in rest}
        if native in rest and present:
            raise EditkitError(f"There are two updates of {native}; keep one.")
        if native in rest:
            result[native] = rest.pop(native)
        elif present:
            result[native] = _join_updates(native, parts, present)
    if rest:
        raise EditkitError(f"{next(iter(rest))} is not a linear module of FLUX.")
    return result


def row_shares(parts: tuple[str, ...]) -> list[int]:
    """Return the rows of each part of a fused module, in widths of the transformer."""
    return [key_map.MLP_RATIO if part.endswith(".proj_mlp") else 1 for part in parts]


def _split_update(
    native: str, parts: tuple[str, ...], update: LowRankUpdate
) -> Iterator[tuple[str, LowRankUpdate]]:
    """Yield diffusers' modules with their part of a native module's update."""
    if len(parts) == 1:
        yield parts[0], _swapped(native, update)
        return
    units = row_shares(parts)
    rows = len(update.up_Or)
    if rows % sum(units):
        raise EditkitError(f"{native} has {rows} rows, which is not a multiple of {sum(units)}.")
    sizes = [unit * rows // sum(units) for unit in units]
    pieces = torch.split(update.up_Or, sizes)
    biases, magnitudes = _rows(update.bias_O, sizes), _rows(update.magnitude_O, sizes)
    for part, up, kept, bias, magnitude in zip(
        parts, pieces, _ranks_by_part(pieces), biases, magnitudes, strict=True
    ):
        piece = replace(update, bias_O=bias, magnitude_O=magnitude)
        if kept.all() or update.has_extras:
            # Copies: safetensors cannot save tensors that share memory, nor can they be trained separately.
            yield part, replace(piece, down_rI=update.down_rI.clone(), up_Or=up.clone())
        elif kept.any():
            alpha = update.alpha * int(kept.sum()) / update.rank
            yield (
                part,
                LowRankUpdate(down_rI=update.down_rI[kept], up_Or=up[:, kept].contiguous(), alpha=alpha),
            )


def _rows(vector_O: Tensor | None, sizes: list[int]) -> list[Tensor | None]:
    """Copy each part's rows of a vector."""
    return (
        [None] * len(sizes) if vector_O is None else [rows.clone() for rows in torch.split(vector_O, sizes)]
    )


def _ranks_by_part(pieces: Iterable[Tensor]) -> Tensor:
    """Return which ranks belong to which part, bool (parts, r): as `join` stacks them, or all to all."""
    pieces = list(pieces)
    every = torch.ones(len(pieces), pieces[0].shape[1], dtype=torch.bool)
    if pieces[0].is_meta:
        return every
    used = torch.stack([piece.float().ne(0).any(0) for piece in pieces])
    return used if used.any() and used.sum(0).max() == 1 else every


def _join_updates(native: str, parts: tuple[str, ...], present: Mapping[str, LowRankUpdate]) -> LowRankUpdate:
    """Join the updates of a native module's parts."""
    if len(parts) == 1:
        return _swapped(native, present[parts[0]])
    units = dict(zip(parts, row_shares(parts), strict=True))
    widths = {len(update.up_Or) / units[part] for part, update in present.items()}
    inputs = {update.down_rI.shape[1] for update in present.values()}
    if len(widths) > 1 or len(inputs) > 1:
        raise EditkitError(f"{', '.join(present)} differ in width; give an undamaged file.")
    if len({update.scale for update in present.values()}) > 1:
        present = {part: update.folded() for part, update in present.items()}
    first, *others = present.values()
    shared = all(_same(update.down_rI, first.down_rI) for update in others)
    down_rI = first.down_rI if shared else torch.cat([update.down_rI for update in present.values()])
    width = int(widths.pop())
    up_Or = first.up_Or.new_zeros(width * sum(units.values()), len(down_rI))
    row = rank = 0
    for part, unit in units.items():
        if part in present:
            up_r = up_Or[row : row + unit * width]
            (up_r if shared else up_r[:, rank : rank + present[part].rank]).copy_(present[part].up_Or)
            rank += present[part].rank
        row += unit * width
    return LowRankUpdate(down_rI=down_rI, up_Or=up_Or, alpha=first.alpha * len(down_rI) / first.rank)


def _swapped(native: str, update: LowRankUpdate) -> LowRankUpdate:
    """Swap the halves of an update's rows where the native module has them the other way round."""
    if native not in SWAPPED:
        return update
    if len(update.up_Or) % 2:
        raise EditkitError(f"{native} has {len(update.up_Or)} rows, which is not a multiple of 2.")
    return replace(
        update,
        up_Or=_swap_halves(update.up_Or),
        bias_O=None if update.bias_O is None else _swap_halves(update.bias_O),
        magnitude_O=None if update.magnitude_O is None else _swap_halves(update.magnitude_O),
    )


def _swap_halves(rows: Tensor) -> Tensor:
    """Put the second half of the rows before the first."""
    return torch.cat(rows.chunk(2)[::-1])


def _same(one: Tensor, other: Tensor) -> bool:
    if one.is_meta or other.is_meta:
        return False
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.float(), other.float())
