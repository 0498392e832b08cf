"""Read the updates of a LoRA in any dialect."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from backbones.lora import coverage, fused_modules, keys, matrices, metadata, xlabs
from backbones.lora.keys import DIALECTS
from backbones.lora.low_rank import LowRankUpdate
from editkit.errors import EditkitError


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """The updates of a LoRA, independent of its file's spelling.

    Attributes:
        dialect: one of `keys.DIALECTS`, or `xlabs`.
        updates: updates by module; native or diffusers' modules, as the dialect has them.
        beside: keys of biases and of DoRA's magnitudes, which a plain LoRA does not have.
        unplaced: keys that are not part of a LoRA on FLUX's linear modules.
    """

    dialect: str
    updates: dict[str, LowRankUpdate]
    beside: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()


def detect_dialect(state: Mapping[str, Tensor]) -> str:
    """Return the dialect of a LoRA's keys.

    Raises:
        EditkitError: where the keys are in no dialect, in two, or of another kind of adapter.
    """
    if xlabs.is_xlabs(state):
        return "xlabs"
    blocks = fused_modules.count_blocks(state)
    places = [
        keys.find_module(stem, blocks) for stem, part in map(keys.split_key, state) if part in ("down", "up")
    ]
    found = {place.dialect for place in places if place}
    if not found:
        if named := coverage.describe_kind(state):
            raise EditkitError(named)
        first = f"; its first key is {next(iter(state))}" if state else ""
        raise EditkitError(
            f"The file holds no LoRA of FLUX's transformer in {' or '.join(DIALECTS)} naming{first}; "
            "give a file with one."
        )
    if len(found) > 1:
        raise EditkitError(f"The file holds LoRAs in {' and '.join(sorted(found))} naming; give one of them.")
    return found.pop()


def read_lora(state: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> Lora:
    """Read a LoRA's updates under the names of its dialect.

    Args:
        state: tensors by key, on any device; an alpha on the meta device counts as the rank.
        about: metadata of the file, where diffusers and peft keep alpha.

    Raises:
        EditkitError: where the dialect is unknown or mixed, matrices are missing, do not fit or are not
            finite, or the metadata cannot be read.
    """
    spoken = detect_dialect(state)
    state = xlabs.to_diffusers(state) if spoken == "xlabs" else state
    blocks = fused_modules.count_blocks(state)
    found: dict[str, dict[str, Tensor]] = {}
    beside, unplaced = [], []
    for key, tensor in state.items():
        stem, part = keys.split_key(key)
        place = keys.find_module(stem, blocks) if part else None
        if place is None:
            unplaced += [] if _without_effect(key, tensor) else [key]
        elif part in found.setdefault(place.module, {}):
            raise EditkitError(f"{place.module} is in the file twice, the second time as {key}; keep one.")
        else:
            found[place.module][part] = tensor
            beside += [key] if part in ("bias", "magnitude") else []
    alpha = metadata.alpha_lookup(about or {})
    updates = {}
    for module, parts in found.items():
        rank = next(iter(parts["down"].shape), 0) if "down" in parts else 0
        other = float(rank) if "alpha" in parts else alpha(module, rank)
        updates[module] = matrices.make_update(module, parts, other)
    if metadata.lora_config(about or {}).get("use_dora") and not any(
        "magnitude" in parts for parts in found.values()
    ):
        raise EditkitError("The file's metadata say DoRA, but it has no magnitudes; give the whole file.")
    return Lora(dialect=spoken, updates=updates, beside=tuple(beside), unplaced=tuple(unplaced))


def read_in_diffusers_names(state: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> Lora:
    """Read a LoRA's updates under the names of diffusers' modules.

    Raises:
        EditkitError: where `read_lora` raises it, and where fused modules cannot be split.
    """
    lora = read_lora(state, about)
    return replace(lora, updates=fused_modules.split(lora.updates))


def _without_effect(key: str, tensor: Tensor) -> bool:
    """Whether a tensor changes nothing: some trainers write all-zero changes of biases and norms."""
    return key.endswith((".diff", ".diff_b")) and not tensor.is_meta and not tensor.any()
