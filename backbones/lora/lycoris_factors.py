"""Read the factors of LoKr and LoHa adapters of FLUX, in any spelling.

| kind | update of a weight                  | tensors                                          | arXiv      |
|------|-------------------------------------|--------------------------------------------------|------------|
| LoKr | kron(w1, w2) alpha / r              | lokr_w1 (l, m), lokr_w2 (k, n), or _a, _b of it  | 2309.14859 |
| LoHa | (w1_a w1_b) * (w2_a w2_b) alpha / r | hada_w1_a (O, r), hada_w1_b (r, I), and w2's     | 2108.06098 |

A LoKr of two whole factors has a scale of 1 whatever its alpha is, as in LyCORIS.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from torch import Tensor

from backbones.lora import fused_modules, keys, metadata
from editkit.errors import EditkitError

PART = re.compile(r"(.+)\.((?:lokr|hada)_\w+)(?:\.[\w-]+)?")
"""Pattern of a factor's key."""
ROWS = {"LoKr": ("lokr_w1", "lokr_w1_a"), "LoHa": ("hada_w1_a", "hada_w2_a")}
"""Tensors whose rows are split where a fused module is split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Factors:
    """The factors of a module's update.

    Attributes:
        kind: LoKr or LoHa.
        tensors: tensors by peft's names.
        rank: rank of the factors that are products of two matrices; 1 where none is.
        scale: factor of the update.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    rank: int
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of outputs and inputs of the module."""
        if self.kind == "LoHa":
            return self.tensors["hada_w1_a"].shape[0], self.tensors["hada_w1_b"].shape[1]
        (rows, columns), (more_rows, more_columns) = self._factor("lokr_w1"), self._factor("lokr_w2")
        return rows * more_rows, columns * more_columns

    def _factor(self, name: str) -> tuple[int, int]:
        """Return the shape of a factor of a LoKr."""
        whole = self.tensors.get(name)
        left, right = (
            (whole, whole) if whole is not None else (self.tensors[name + "_a"], self.tensors[name + "_b"])
        )
        return left.shape[0], right.shape[1]

    def rows(self, sizes: list[int]) -> list["Factors"] | None:
        """Split the update into parts of these rows; None where a Kronecker product cannot be split there."""
        unit = self._factor("lokr_w2")[0] if self.kind == "LoKr" else 1
        if any(size % unit for size in sizes):
            return None
        counts = [size // unit for size in sizes]
        cut = {
            name: torch.split(self.tensors[name], counts) for name in ROWS[self.kind] if name in self.tensors
        }
        return [
            replace(self, tensors={**self.tensors, **{name: pieces[number] for name, pieces in cut.items()}})
            for number in range(len(sizes))
        ]


def kind(state: Mapping[str, Tensor]) -> str:
    """Return LoKr or LoHa, or an empty string where the tensors are neither."""
    names = {match[2].partition("_")[0] for key in state if (match := PART.fullmatch(key))}
    return {"lokr": "LoKr", "hada": "LoHa"}[names.pop()] if len(names) == 1 else ""


def dialect(state: Mapping[str, Tensor]) -> str:
    """Return the dialect of the first factor's key, which must be of a module of FLUX."""
    blocks = fused_modules.count_blocks(state)
    places = (keys.find_module(match[1], blocks) for key in state if (match := PART.fullmatch(key)))
    return next(place.dialect for place in places if place)


def read_factors(state: Mapping[str, Tensor], about: Mapping[str, str]) -> dict[str, Factors]:
    """Read the factors by module, native or diffusers' as the file names them.

    Raises:
        EditkitError: where tensors are missing or unexpected, do not fit each other, or are not finite.
    """
    config, sort, blocks = metadata.lora_config(about), kind(state), fused_modules.count_blocks(state)
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in keys.without_text_encoders(state).items():
        match = PART.fullmatch(key)
        stem, part = (match[1], match[2]) if match else keys.split_key(key)
        place = keys.find_module(stem, blocks)
        if place is None or not (match or part == "alpha"):
            raise EditkitError(
                f"The tensor {key} is not part of a {sort} on FLUX's linear modules; "
                "give a file with nothing else."
            )
        if part in found.setdefault(place.module, {}):
            raise EditkitError(f"{place.module} is in the file twice, the second time as {key}; keep one.")
        found[place.module][part] = tensor
    return {module: _factors(module, sort, parts, config) for module, parts in found.items()}


def _factors(module: str, sort: str, parts: dict[str, Tensor], config: Mapping[str, Any]) -> Factors:
    """Make the factors of one module from its tensors."""
    alpha = parts.pop("alpha", None)
    _check(module, sort, parts)
    if alpha is not None and alpha.numel() != 1:
        raise EditkitError(f"{module} has {alpha.numel()} alphas; give one.")
    low = next((parts[name] for name in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if name in parts), None)
    rank = 1 if low is None else len(low)
    scale = 1.0 if low is None or alpha is None else float(alpha) / rank
    if "alpha" in config:  # peft's config: it also scales two whole factors
        scale = _config_value(config, "alpha", module) / (_config_value(config, "r", module) or math.nan)
    if not scale or not math.isfinite(scale):
        raise EditkitError(
            f"{module} has a scale of {scale:g}, with which it changes nothing useful; give another file."
        )
    return Factors(kind=sort, tensors=parts, rank=rank, scale=scale)


def _check(module: str, sort: str, parts: Mapping[str, Tensor]) -> None:
    """Check that a module's tensors are complete, fit each other and are finite."""
    pairs = ("hada_w1", "hada_w2") if sort == "LoHa" else ("lokr_w1", "lokr_w2")
    wanted: set[str] = set()
    for pair in pairs:
        wanted |= {pair} if sort == "LoKr" and pair in parts else {f"{pair}_a", f"{pair}_b"}
    if parts.keys() != wanted:
        lacking, strange = sorted(wanted - parts.keys()), sorted(parts.keys() - wanted)
        problem = f"lacks {lacking[0]}" if lacking else f"has {strange[0]}, which linear modules do not have"
        raise EditkitError(f"{module} of the {sort} {problem}; give the whole file.")
    shapes = {name: tuple(tensor.shape) for name, tensor in parts.items()}
    fit = all(len(shape) == 2 and all(shape) for shape in shapes.values())
    fit = fit and all(shapes[f"{p}_a"][1] == shapes[f"{p}_b"][0] for p in pairs if f"{p}_a" in parts)
    if sort == "LoHa":
        fit = fit and all(shapes[f"hada_w1_{side}"] == shapes[f"hada_w2_{side}"] for side in "ab")
    if not fit:
        raise EditkitError(
            f"{module} of the {sort} has tensors that do not fit each other; give an undamaged file."
        )
    if not all(tensor.float().isfinite().all() for tensor in parts.values()):
        raise EditkitError(f"{module} holds values that are not finite; the file is damaged.")


def _config_value(config: Mapping[str, Any], field: str, module: str) -> float:
    """Return a field of peft's config, which patterns may change for some modules."""
    try:
        patterns = dict(config.get({"r": "rank_pattern"}.get(field, "alpha_pattern")) or {})
        return float(patterns.get(get_pattern_key(list(patterns), module), config[field]))
    except (KeyError, TypeError, ValueError, re.error) as error:
        raise EditkitError(f"The adapter's config has no valid {field}; correct it.") from error


def split(factors: Mapping[str, Factors]) -> dict[str, Factors]:
    """Split the factors of native modules among diffusers' modules.

    Raises:
        EditkitError: where a fused module cannot be split, or a module gets two updates.
    """
    blocks = fused_modules.count_blocks(factors)
    table, result = fused_modules.module_map(blocks, blocks), dict[str, Factors]()
    for module, each in factors.items():
        for part, piece in (
            _split_factors(module, table[module], each) if module in table else [(module, each)]
        ):
            if part in result:
                raise EditkitError(f"There are two updates of {part}; keep one.")
            result[part] = piece
    return result


def _split_factors(native: str, parts: tuple[str, ...], factors: Factors) -> list[tuple[str, Factors]]:
    """Split a native module's factors among diffusers' modules, whose rows may be in another order."""
    swapped = native in fused_modules.SWAPPED
    if len(parts) == 1 and not swapped:
        return [(parts[0], factors)]
    units, rows = [1, 1] if swapped else fused_modules.row_shares(parts), factors.shape[0]
    pieces = None if rows % sum(units) else factors.rows([unit * rows // sum(units) for unit in units])
    if pieces is None:
        raise EditkitError(
            f"{native} has its rows in other places in diffusers, and this {factors.kind}'s product cannot "
            "be split there; give one that was trained on diffusers' modules."
        )
    if not swapped:
        return list(zip(parts, pieces, strict=True))
    turned = {
        name: torch.cat([pieces[1].tensors[name], pieces[0].tensors[name]])
        for name in ROWS[factors.kind]
        if name in factors.tensors
    }
    return [(parts[0], replace(factors, tensors={**factors.tensors, **turned}))]
