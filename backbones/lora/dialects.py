"""LoRAs of FLUX in four dialects, and the way from each to each.

| dialect   | names                      | matrices             | alpha                            |
|-----------|----------------------------|----------------------|----------------------------------|
| diffusers | diffusers', `transformer.` | lora_A, lora_B       | rank, or in the file's metadata  |
| kohya     | native, joined by `_`      | lora_down, lora_up   | a tensor                         |
| bfl       | native                     | lora_A, lora_B       | rank; other scales are folded in |
| comfyui   | native, `diffusion_model.` | lora_down, lora_up   | a tensor                         |

Tensors pass bit by bit, except where parts are fused (see `fused_modules`) or a scale is folded in.

diffusers' own converters are not used. They count on 19 and 38 blocks of width 3072. From kohya they lose
the updates of `img_in`, `txt_in`, `time_in` and `vector_in`, whose keys they leave without prefix, ignore the
last layer's alpha, and read alphas, which meta tensors have not; from BFL they want every module. Tensors of
kinds that they do not know are dropped without an error, parts share memory, which safetensors does not save,
and there is no way back. The names are those of `backbones.conversion.state_dict` instead, as for whole
checkpoints.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from backbones.lora import fused_modules
from backbones.lora.fused_modules import Update
from editkit import notes
from editkit.errors import EditkitError

METADATA, PREFIX = "lora_adapter_metadata", "transformer."
DIALECTS = ("diffusers", "kohya", "bfl", "comfyui")
MATRICES = {
    ".lora_A.weight": "down", ".lora_down.weight": "down",
    ".lora_B.weight": "up", ".lora_up.weight": "up", ".alpha": "alpha",
}  # fmt: skip
WRITTEN = {
    "kohya": ("lora_unet_", "_", "lora_down", "lora_up"),
    "bfl": ("", ".", "lora_A", "lora_B"),
    "comfyui": ("diffusion_model.", ".", "lora_down", "lora_up"),
}
READ = (
    ("diffusers", PREFIX, "."), ("diffusers", "", "."), ("kohya", "lora_transformer_", "_"),
)  # fmt: skip
"""Spellings of diffusers' names: dialect, prefix, and what stands for a dot."""
READ_NATIVE = (
    ("kohya", "lora_unet_", "_"), ("comfyui", "diffusion_model.", "."),
    ("comfyui", "model.diffusion_model.", "."), ("bfl", "", "."), ("bfl", "base_model.model.", "."),
)  # fmt: skip
TEXT_ENCODERS = ("lora_te", "text_encoder")
"""What keys of text encoders' LoRAs start with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """A LoRA apart from its file's spelling.

    Attributes:
        dialect: one of `DIALECTS`.
        updates: by module, native or diffusers' as the dialect has it.
        unplaced: keys that are no part of a plain LoRA on FLUX's linear modules.
    """

    dialect: str
    updates: dict[str, Update]
    unplaced: tuple[str, ...] = ()


def dialect(state: Mapping[str, Tensor]) -> str:
    """The dialect of a LoRA's keys.

    Raises:
        EditkitError: where they are of none, or of two.
    """
    places = _places(fused_modules.blocks(state))
    found = {places[stem][0] for stem, matrix in map(_part, state) if matrix and stem in places}
    if not found:
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
        about: metadata of the file, where diffusers keeps alpha.

    Raises:
        EditkitError: where the dialect is unknown or mixed, matrices are missing, do not fit or are not
            finite, or the metadata cannot be read.
    """
    spoken, places = dialect(state), _places(fused_modules.blocks(state))
    found: dict[str, dict[str, Tensor]] = {}
    unplaced = []
    for key, tensor in state.items():
        stem, matrix = _part(key)
        if not matrix or stem not in places:
            unplaced.append(key)
        elif matrix in found.setdefault(places[stem][1], {}):
            raise EditkitError(f"{places[stem][1]} is there twice, the second time as {key}; keep one.")
        else:
            found[places[stem][1]][matrix] = tensor
    alpha = _declared(about or {})
    updates = {module: _update(module, matrices, alpha) for module, matrices in found.items()}
    return Lora(dialect=spoken, updates=updates, unplaced=tuple(unplaced))


def to_diffusers(state: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> Lora:
    """`read`, with the updates by diffusers' modules.

    Raises:
        EditkitError: as `read`, and where fused modules do not come apart.
    """
    lora = read(state, about)
    return Lora(dialect=lora.dialect, updates=fused_modules.split(lora.updates), unplaced=lora.unplaced)


def in_diffusers(
    state: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata of a file as diffusers reads them; untouched where they are no LoRA of FLUX.

    A text encoder's part is left out, with a note: FLUX's are shared by all methods.

    Raises:
        EditkitError: as `read`, and where tensors would be lost.
    """
    if all(key.startswith(PREFIX) and not key.endswith(".alpha") for key in state):
        return state, about or {}
    try:
        dialect(state)
    except EditkitError:
        return state, about or {}  # diffusers says better what is wrong with it
    lora = to_diffusers(state, about)
    lost = [key for key in lora.unplaced if not key.startswith(TEXT_ENCODERS)]
    if lost:
        raise EditkitError(
            f"{len(lost)} tensors are of no plain LoRA ({', '.join(lost[:3])}); give one that is."
        )
    if lora.unplaced:
        notes.tell("The LoRA's part for text encoders is left out.")
    return from_diffusers(lora.updates, "diffusers")


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
    about = {f"{PREFIX}{key}": value for key, value in config.items()}
    return state, {METADATA: json.dumps(about, sort_keys=True)}


@cache
def _places(count: int) -> dict[str, tuple[str, str]]:
    """Stem of a key -> dialect and module."""
    places = {}
    for native, parts in fused_modules.modules(count, count).items():
        spellings = [(native, READ_NATIVE), *((part, READ) for part in parts)]
        for module, ways in spellings:
            for spoken, prefix, dot in ways:
                places[prefix + module.replace(".", dot)] = (spoken, module)
    return places


def _part(key: str) -> tuple[str, str]:
    for end, matrix in MATRICES.items():
        if key.endswith(end):
            return key.removesuffix(end), matrix
    return key, ""


def _update(module: str, matrices: Mapping[str, Tensor], alpha: Callable[[str, int], float]) -> Update:
    if lacking := {"down", "up"} - set(matrices):
        raise EditkitError(f"{module} lacks its {' and '.join(sorted(lacking))} matrix; give the whole file.")
    down_rI, up_Or = matrices["down"], matrices["up"]
    if down_rI.ndim != 2 or up_Or.ndim != 2 or not len(down_rI) or down_rI.shape[0] != up_Or.shape[1]:
        shapes = f"{tuple(down_rI.shape)} and {tuple(up_Or.shape)}"
        raise EditkitError(f"{module} has matrices of {shapes}, which share no rank; give a sound file.")
    value = alpha(module, len(down_rI))
    if "alpha" in matrices and not matrices["alpha"].is_meta:
        if matrices["alpha"].numel() != 1:
            raise EditkitError(f"{module} has {matrices['alpha'].numel()} alphas; give one.")
        value = float(matrices["alpha"])
    sound = [tensor.is_meta or bool(tensor.float().isfinite().all()) for tensor in (down_rI, up_Or)]
    if not all(sound) or not math.isfinite(value):
        raise EditkitError(f"{module} holds values that are not finite; the file is damaged.")
    return Update(down_rI=down_rI, up_Or=up_Or, alpha=value)


def _declared(about: Mapping[str, str]) -> Callable[[str, int], float]:
    """Alpha by module and rank, as the file's LoraConfig has it."""
    try:
        values = json.loads(about.get(METADATA, "{}")).items()
        config = {k.removeprefix(PREFIX): value for k, value in values if k.startswith(PREFIX)}
        patterns = {str(key): float(value) for key, value in (config.get("alpha_pattern") or {}).items()}
        common = None if config.get("lora_alpha") is None else float(config["lora_alpha"])
    except (ValueError, TypeError, AttributeError) as error:
        raise EditkitError(f"The metadata {METADATA} cannot be read; remove them or mend them.") from error
    if config.get("use_dora"):
        raise EditkitError("The file holds a DoRA, which is no plain LoRA; give one without.")

    def alpha(module: str, rank: int) -> float:
        from peft.utils.other import get_pattern_key

        value = patterns.get(get_pattern_key(list(patterns), module), common) if patterns else common
        return float(rank) if value is None else value * (rank**0.5 if config.get("use_rslora") else 1)

    return alpha


def _scalar(update: Update) -> Tensor:
    """Alpha in the matrices' dtype, where that holds it."""
    wanted = torch.tensor(update.alpha, dtype=torch.float32)
    narrow = wanted.to(update.down_rI.dtype)
    return narrow if float(narrow) == float(wanted) else wanted
