"""LoRAs of FLUX in four dialects, and the way from each to each; `keys` has their other spellings.

| dialect   | names                      | matrices             | alpha                            |
|-----------|----------------------------|----------------------|----------------------------------|
| diffusers | diffusers', `transformer.` | lora_A, lora_B       | rank, or in the file's metadata  |
| kohya     | native, joined by `_`      | lora_down, lora_up   | a tensor                         |
| bfl       | native                     | lora_A, lora_B       | rank; other scales are folded in |
| comfyui   | native, `diffusion_model.` | lora_down, lora_up   | a tensor                         |

Tensors pass bit by bit, except where parts are fused (see `fused_modules`) or a scale is folded in.

diffusers' own converters are used for XLabs' naming alone. Those of the dialects above count on 19 and 38
blocks of width 3072. From kohya they lose the updates of `img_in`, `txt_in`, `time_in` and `vector_in`, whose
keys they leave without prefix, ignore the last layer's alpha, and read alphas, which meta tensors have not;
from BFL they want every module. Tensors of kinds that they do not know are dropped without an error, parts
share memory, which safetensors does not save, and there is no way back. The names are those of
`backbones.conversion.state_dict` instead, as for whole checkpoints.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from backbones.lora import coverage, fused_modules, keys, matrices, metadata, xlabs
from backbones.lora.fused_modules import Update
from backbones.lora.keys import PREFIX, TEXT_ENCODERS
from editkit.adapters import METADATA
from editkit.errors import EditkitError

__all__ = [
    "DIALECTS",
    "METADATA",
    "PREFIX",
    "TEXT_ENCODERS",
    "Lora",
    "Update",
    "dialect",
    "from_diffusers",
    "in_diffusers",
    "read",
    "to_diffusers",
]

DIALECTS = ("diffusers", "kohya", "bfl", "comfyui")
"""Those that can be written."""
WRITTEN = {
    "kohya": ("lora_unet_", "_", "lora_down", "lora_up"),
    "bfl": ("", ".", "lora_A", "lora_B"),
    "comfyui": ("diffusion_model.", ".", "lora_down", "lora_up"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """A LoRA apart from its file's spelling.

    Attributes:
        dialect: one of `DIALECTS`, or `xlabs`.
        updates: by module, native or diffusers' as the dialect has it.
        beside: keys of biases and of DoRA's magnitudes, which a plain LoRA has not.
        unplaced: keys that are no part of a LoRA on FLUX's linear modules.
    """

    dialect: str
    updates: dict[str, Update]
    beside: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()


def dialect(state: Mapping[str, Tensor]) -> str:
    """The dialect of a LoRA's keys.

    Raises:
        EditkitError: where they are of none, or of two, or of another kind of adapter.
    """
    if xlabs.speaks(state):
        return "xlabs"
    blocks = fused_modules.blocks(state)
    places = [keys.place(stem, blocks) for stem, part in map(keys.part, state) if part in ("down", "up")]
    found = {place.dialect for place in places if place}
    if not found:
        if named := coverage.named(state):
            raise EditkitError(named)
        start = f", its keys start with {next(iter(state))}" if state else ""
        raise EditkitError(
            f"There is no LoRA of FLUX's transformer in {' or '.join(DIALECTS)} naming here{start}; "
            "give a file with one."
        )
    if len(found) > 1:
        raise EditkitError(f"There are LoRAs in {' and '.join(sorted(found))} naming here; give one of them.")
    return found.pop()


def read(state: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> Lora:
    """A LoRA's updates as they are named.

    Args:
        state: tensors by key, on any device; an alpha on the meta device counts as the rank.
        about: metadata of the file, where diffusers and peft keep alpha.

    Raises:
        EditkitError: where the dialect is unknown or mixed, matrices are missing, do not fit or are not
            finite, or the metadata cannot be read.
    """
    spoken = dialect(state)
    state = xlabs.in_diffusers(state) if spoken == "xlabs" else state
    blocks = fused_modules.blocks(state)
    found: dict[str, dict[str, Tensor]] = {}
    beside, unplaced = [], []
    for key, tensor in state.items():
        stem, part = keys.part(key)
        place = keys.place(stem, blocks) if part else None
        if place is None:
            unplaced += [] if _without_effect(key, tensor) else [key]
        elif part in found.setdefault(place.module, {}):
            raise EditkitError(f"{place.module} is there twice, the second time as {key}; keep one.")
        else:
            found[place.module][part] = tensor
            beside += [key] if part in ("bias", "magnitude") else []
    alpha = metadata.alpha(about or {})
    updates = {
        module: matrices.update(module, parts, alpha(module, len(parts.get("down", ()))))
        for module, parts in found.items()
    }
    if metadata.config(about or {}).get("use_dora") and not any(
        "magnitude" in parts for parts in found.values()
    ):
        raise EditkitError("The file's metadata say DoRA, but it holds no magnitudes; give the whole file.")
    return Lora(dialect=spoken, updates=updates, beside=tuple(beside), unplaced=tuple(unplaced))


def to_diffusers(state: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> Lora:
    """`read`, with the updates by diffusers' modules.

    Raises:
        EditkitError: as `read`, and where fused modules do not come apart.
    """
    lora = read(state, about)
    return replace(lora, updates=fused_modules.split(lora.updates))


def in_diffusers(
    state: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata of a file as diffusers' pipelines write them; untouched where they are so already.

    A text encoder's part is left out, with a note: FLUX's are shared by all methods.

    Raises:
        EditkitError: as `read`, and where tensors would be lost.
    """
    about = about or {}
    blocks = fused_modules.blocks(state)
    if state and all(_as_written(key, blocks) for key in state):
        metadata.alpha(about)
        if metadata.prefixed(about):
            return state, about
    lora = to_diffusers(keys.without_text_encoders(state), about)
    if lost := lora.unplaced:
        raise EditkitError(
            coverage.named(lost)
            or f"The tensor {lost[0]} is no part of a plain LoRA, one of {len(lost)} such; "
            "give a file with nothing else."
        )
    return from_diffusers(lora.updates, "diffusers")


def _as_written(key: str, blocks: int) -> bool:
    """Whether a key is spelled as diffusers' pipelines do, be it of a module of FLUX or not."""
    stem, part = keys.part(key)
    ends = {"down": ".lora_A.weight", "up": ".lora_B.weight", "bias": ".lora_B.bias"}
    ends["magnitude"] = ".lora_magnitude_vector"
    place = keys.place(stem, blocks)
    known = place is None or (place.dialect == "diffusers" and stem == PREFIX + place.module)
    return known and stem.startswith(PREFIX) and key == stem + ends.get(part, "?")


def from_diffusers(updates: Mapping[str, Update], to: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file in a dialect.

    Args:
        updates: by diffusers' modules; native ones may be among them, and pass to native dialects untouched.
        to: one of `DIALECTS`.

    Raises:
        EditkitError: where there is no such dialect, or updates do not fit each other.
    """
    if to not in DIALECTS:
        raise EditkitError(f"There is no dialect {to!r}; there are {', '.join(DIALECTS)}.")
    if to == "diffusers":
        return _diffusers(fused_modules.split(updates))
    if any(update.beside for update in updates.values()):
        raise EditkitError(f"A DoRA, or a LoRA with biases, cannot be written in the dialect {to!r}.")
    prefix, dot, down, up = WRITTEN[to]
    state: dict[str, Tensor] = {}
    for native, update in fused_modules.join(updates).items():
        update = update.folded() if to == "bfl" else update
        stem = prefix + native.replace(".", dot)
        state |= {f"{stem}.{down}.weight": update.down_rI, f"{stem}.{up}.weight": update.up_Or}
        state |= {} if to == "bfl" else {f"{stem}.alpha": _scalar(update)}
    return state, {}


def _diffusers(updates: Mapping[str, Update]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The file's LoraConfig goes along only where it is not told from the tensors."""
    state = {}
    for module, update in updates.items():
        state[f"{PREFIX}{module}.lora_A.weight"] = update.down_rI
        state[f"{PREFIX}{module}.lora_B.weight"] = update.up_Or
        if update.bias_O is not None:
            state[f"{PREFIX}{module}.lora_B.bias"] = update.bias_O
        if update.magnitude_O is not None:
            state[f"{PREFIX}{module}.lora_magnitude_vector"] = update.magnitude_O
    (rank, _), *others = Counter(update.rank for update in updates.values()).most_common()
    if not others and all(update.alpha == rank for update in updates.values()):
        return state, {}
    (alpha, _), *_ = Counter(update.alpha for update in updates.values()).most_common()
    config = {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{name}": u.rank for name, u in updates.items() if u.rank != rank},
        "alpha_pattern": {f"^{name}": u.alpha for name, u in updates.items() if u.alpha != alpha},
        "target_modules": list(updates),
    }
    config |= {"use_dora": True} if any(u.magnitude_O is not None for u in updates.values()) else {}
    config |= {"lora_bias": True} if any(u.bias_O is not None for u in updates.values()) else {}
    about = {f"{PREFIX}{key}": value for key, value in config.items()}
    return state, {METADATA: json.dumps(about, sort_keys=True)}


def _without_effect(key: str, tensor: Tensor) -> bool:
    """Whether a tensor adds nothing: some trainers write changes of biases and norms that are all zero."""
    return key.endswith((".diff", ".diff_b")) and not tensor.is_meta and not tensor.any()


def _scalar(update: Update) -> Tensor:
    """Alpha in the matrices' dtype, where that holds it."""
    wanted = torch.tensor(update.alpha, dtype=torch.float32)
    narrow = wanted.to(update.down_rI.dtype)
    return narrow if float(narrow) == float(wanted) else wanted
