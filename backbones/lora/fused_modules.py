"""Low-rank updates of FLUX's linear modules, from one naming's modules to the other's.

Black Forest Labs' naming fuses what diffusers keeps apart: q, k and v, and in single blocks the MLP's
first layer. Names and shapes tell everything: blocks may be of any number and width, and meta tensors do.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from backbones.conversion import state_dict
from editkit.errors import EditkitError

BLOCK = re.compile(r"blocks[._](\d{1,3})[._]")
SWAPPED = {name.removesuffix(".weight") for name in state_dict.SWAPPED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What is added to a module's weight: down (r, I) and up (O, r), scaled by alpha / r.

    Attributes:
        down_rI: the first matrix.
        up_Or: the second one.
        alpha: the scale times the rank.
        bias_O: added to the module's bias, at the same scale; None for a plain LoRA.
        magnitude_O: the length of each row of the new weight, of a DoRA; None for a plain LoRA.
    """

    down_rI: Tensor
    up_Or: Tensor
    alpha: float
    bias_O: Tensor | None = None
    magnitude_O: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rows of down, columns of up."""
        return self.down_rI.shape[0]

    @property
    def scale(self) -> float:
        """Alpha by rank."""
        return self.alpha / self.rank

    @property
    def beside(self) -> bool:
        """Whether it is more than a plain LoRA's."""
        return self.bias_O is not None or self.magnitude_O is not None

    def folded(self) -> "Update":
        """The same with a scale of 1: exact where the scale is a power of two, else rounded to the dtype."""
        if self.alpha == self.rank:
            return self
        up_Or = (self.up_Or.float() * self.scale).to(self.up_Or.dtype)
        return replace(self, up_Or=up_Or, alpha=float(self.rank))


def nearest(down_rI: Tensor, up_Or: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Matrices of at most this rank whose product is nearest to that of the given ones.

    By way of the factors alone, so that no full-size matrix is ever made.
    """
    left, upper = torch.linalg.qr(up_Or.float())
    right, lower = torch.linalg.qr(down_rI.float().T)
    u, sizes, v = torch.linalg.svd(upper @ lower.T)
    root = sizes[:rank].sqrt()
    return root[:, None] * (right @ v[: len(root)].T).T, left @ u[:, : len(root)] * root


def cut(update: Update, rank: int) -> Update:
    """The nearest update of at most this rank, of the same scale; itself where it has no more."""
    if update.rank <= rank:
        return update
    down_rI, up_Or = nearest(update.down_rI, update.up_Or, rank)
    return Update(
        down_rI=down_rI.to(update.down_rI.dtype),
        up_Or=up_Or.to(update.up_Or.dtype),
        alpha=update.scale * rank,
    )


def size(down_rI: Tensor, up_Or: Tensor) -> float:
    """The squared Frobenius norm of a product, from its factors' Gram matrices."""
    down_rI, up_Or = down_rI.float(), up_Or.float()
    return float(((up_Or.T @ up_Or) * (down_rI @ down_rI.T)).sum().clamp(min=0))


@cache
def modules(doubles: int, singles: int) -> dict[str, tuple[str, ...]]:
    """Native linear module -> diffusers' modules that hold its rows, from the top."""
    return {
        native.removesuffix(".weight"): tuple(part.removesuffix(".weight") for part in parts)
        for native, parts in state_dict.key_map(doubles, singles, guidance=True).items()
        if native.endswith(".weight")
    }


def blocks(names: Iterable[str]) -> int:
    """How many blocks of a kind there must be for these names."""
    found = (BLOCK.search(name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def split(updates: Mapping[str, Update]) -> dict[str, Update]:
    """The same by diffusers' modules; those that are named so already stay as they are.

    Where each rank of a fused update belongs to one part, as `join` stacks them, each part gets its own back;
    otherwise each gets its rows of up and a copy of down. A part without any rank is left out, unless it has
    a bias or magnitudes.

    Raises:
        EditkitError: where rows do not divide, or two updates are for one module.
    """
    count = blocks(updates)
    table, result = modules(count, count), dict[str, Update]()
    for name, update in updates.items():
        for part, piece in _apart(name, table[name], update) if name in table else [(name, update)]:
            if part in result:
                raise EditkitError(f"There are two updates of {part}; keep one.")
            result[part] = piece
    return result


def join(updates: Mapping[str, Update]) -> dict[str, Update]:
    """The same by native modules; those that are named so already stay as they are.

    Parts with one down matrix in common share it. Others are stacked: their ranks add up, and up is zero
    where rows and ranks belong to different parts. Both are exact; meta tensors are always stacked.

    Raises:
        EditkitError: where parts do not fit each other, or two updates are for one module.
    """
    count, rest, result = blocks(updates), dict(updates), dict[str, Update]()
    for native, parts in modules(count, count).items():
        present = {part: rest.pop(part) for part in parts if part in rest}
        if native in rest and present:
            raise EditkitError(f"There are two updates of {native}; keep one.")
        if native in rest:
            result[native] = rest.pop(native)
        elif present:
            result[native] = _together(native, parts, present)
    if rest:
        raise EditkitError(f"{next(iter(rest))} is no linear module of FLUX.")
    return result


def shares(parts: tuple[str, ...]) -> list[int]:
    """Rows of each part of a fused module, in widths."""
    return [state_dict.MLP_RATIO if part.endswith(".proj_mlp") else 1 for part in parts]


def _apart(native: str, parts: tuple[str, ...], update: Update) -> Iterator[tuple[str, Update]]:
    if len(parts) == 1:
        yield parts[0], _swapped(native, update)
        return
    units = shares(parts)
    rows = len(update.up_Or)
    if rows % sum(units):
        raise EditkitError(f"{native} has {rows} rows, which is no multiple of {sum(units)}.")
    sizes = [unit * rows // sum(units) for unit in units]
    pieces = torch.split(update.up_Or, sizes)
    biases, magnitudes = _rows(update.bias_O, sizes), _rows(update.magnitude_O, sizes)
    for part, up, kept, bias, magnitude in zip(parts, pieces, _kept(pieces), biases, magnitudes, strict=True):
        piece = replace(update, bias_O=bias, magnitude_O=magnitude)
        if kept.all() or update.beside:
            # Copies: tensors that share memory could be neither saved by safetensors nor trained apart.
            yield part, replace(piece, down_rI=update.down_rI.clone(), up_Or=up.clone())
        elif kept.any():
            alpha = update.alpha * int(kept.sum()) / update.rank
            yield part, Update(down_rI=update.down_rI[kept], up_Or=up[:, kept].contiguous(), alpha=alpha)


def _rows(vector_O: Tensor | None, sizes: list[int]) -> list[Tensor | None]:
    """Each part's own copy of its rows of a vector."""
    return (
        [None] * len(sizes) if vector_O is None else [rows.clone() for rows in torch.split(vector_O, sizes)]
    )


def _kept(pieces: Iterable[Tensor]) -> Tensor:
    """Which ranks belong to which part, (parts, r): as they are stacked, or all to all."""
    pieces = list(pieces)
    every = torch.ones(len(pieces), pieces[0].shape[1], dtype=torch.bool)
    if pieces[0].is_meta:
        return every
    used = torch.stack([piece.float().ne(0).any(0) for piece in pieces])
    return used if used.any() and used.sum(0).max() == 1 else every


def _together(native: str, parts: tuple[str, ...], present: Mapping[str, Update]) -> Update:
    if len(parts) == 1:
        return _swapped(native, present[parts[0]])
    units = dict(zip(parts, shares(parts), strict=True))
    widths = {len(update.up_Or) / units[part] for part, update in present.items()}
    inputs = {update.down_rI.shape[1] for update in present.values()}
    if len(widths) > 1 or len(inputs) > 1:
        raise EditkitError(f"{', '.join(present)} differ in width; give a sound file.")
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
    return Update(down_rI=down_rI, up_Or=up_Or, alpha=first.alpha * len(down_rI) / first.rank)


def _swapped(native: str, update: Update) -> Update:
    if native not in SWAPPED:
        return update
    if len(update.up_Or) % 2:
        raise EditkitError(f"{native} has {len(update.up_Or)} rows, which is no multiple of 2.")
    return replace(
        update,
        up_Or=_turned(update.up_Or),
        bias_O=None if update.bias_O is None else _turned(update.bias_O),
        magnitude_O=None if update.magnitude_O is None else _turned(update.magnitude_O),
    )


def _turned(rows: Tensor) -> Tensor:
    """The second half of the rows before the first."""
    return torch.cat(rows.chunk(2)[::-1])


def _same(one: Tensor, other: Tensor) -> bool:
    if one.is_meta or other.is_meta:
        return False
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.float(), other.float())
