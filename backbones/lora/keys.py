"""Take keys of LoRA files apart: prefix, module of FLUX, and kind of tensor.

Module names are diffusers' or native. They follow any number of the prefixes `DOTTED`; or they are joined by
`_` and follow one of the prefixes `FLAT`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from backbones.lora import fused_modules
from editkit import notes
from editkit.errors import EditkitError

DIALECTS = ("diffusers", "kohya", "bfl", "comfyui")
"""Dialects that can be written."""
PREFIX = "transformer."
"""Prefix of diffusers' names in pipelines' files."""
COMFYUI = ("model.diffusion_model.", "diffusion_model.")
"""Prefixes of native names in ComfyUI's files."""
DOTTED = (PREFIX, "base_model.model.", *COMFYUI)
"""Prefixes before names with dots: diffusers', peft's and ComfyUI's."""
FLAT = ("lora_unet_", "lora_transformer_", "lycoris_")
"""Prefixes before names joined by `_`: kohya's, OneTrainer's and LyCORIS'."""
TEXT_ENCODERS = ("lora_te", "text_encoder", "clip_l.", "t5.")
"""Prefixes of the keys of text encoders' LoRAs."""
SIDES = {"A": "down", "down": "down", "B": "up", "up": "up"}
"""The matrix that a part of a key stands for."""
MATRIX = re.compile(r"(.+)\.lora[._](A|B|down|up)(?:\.(?!expert_\d|bias$|weight$)[\w-]+)?(?:\.weight)?")
"""Pattern of a matrix's key; peft may add the adapter's name, and some trainers leave `.weight` out."""
BESIDE = {
    "alpha": re.compile(r"(.+)\.alpha"),
    "bias": re.compile(r"(.+)\.lora_B(?:\.[\w-]+)?\.bias"),
    "magnitude": re.compile(r"(.+)\.(?:dora_scale|lora_magnitude_vector(?:\.[\w-]+){0,2})"),
}
"""Patterns of the keys that may stand beside the matrices; magnitudes are DoRA's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedModule:
    """The module that a key names.

    Attributes:
        dialect: one of `DIALECTS`.
        module: native or diffusers' name, as the key has it.
    """

    dialect: str
    module: str


def split_key(key: str) -> tuple[str, str]:
    """Split a key into its stem and its kind: `down`, `up`, `alpha`, `bias`, `magnitude`, or empty."""
    if match := MATRIX.fullmatch(key):
        return match[1], SIDES[match[2]]
    for name, pattern in BESIDE.items():
        if match := pattern.fullmatch(key):
            return match[1], name
    return key, ""


def find_module(stem: str, blocks: int) -> NamedModule | None:
    """Find the module that a stem names, in a FLUX with this many blocks of a kind; None if there is none."""
    dotted, flat, parts = _names(blocks)
    for prefix in FLAT:
        if module := flat.get(stem.removeprefix(prefix)) if stem.startswith(prefix) else None:
            return NamedModule(dialect="kohya", module=module)
    comfyui = False
    while prefix := next((each for each in DOTTED if stem.startswith(each)), ""):
        stem, comfyui = stem.removeprefix(prefix), comfyui or prefix in COMFYUI
    native = "comfyui" if comfyui else "bfl"
    if stem in parts:
        return NamedModule(dialect=native, module=parts[stem])
    if stem not in dotted:
        return None
    return NamedModule(dialect=native if dotted[stem] else "diffusers", module=stem)


def without_text_encoders(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the tensors of text encoders, with a note: all methods share FLUX's text encoders.

    Raises:
        EditkitError: where there are no others.
    """
    left = [key for key in state if key.startswith(TEXT_ENCODERS)]
    if left:
        few = left[0] + (f" and {len(left) - 1} more" if left[1:] else "")
        if len(left) == len(state):
            raise EditkitError(f"It adapts text encoders alone ({few}); give a LoRA of the transformer.")
        notes.tell(f"The LoRA's part for text encoders is left out: {few}.")
    return {key: tensor for key, tensor in state.items() if key not in left}


@cache
def _names(blocks: int) -> tuple[dict[str, bool], dict[str, str], dict[str, str]]:
    """Return whether each module name is native; the dotted names by the names joined by `_`; other names.

    The others are OneTrainer's: parts of a fused native module that are numbered, and `img_in.proj`.
    """
    table = fused_modules.module_map(blocks, blocks)
    dotted = {part: False for parts in table.values() for part in parts} | dict.fromkeys(table, True)
    parts = {
        f"{native}.{number}": part
        for native, own in table.items()
        if len(own) > 1
        for number, part in enumerate(own)
    }
    return dotted, {name.replace(".", "_"): name for name in dotted}, parts | {"img_in.proj": "x_embedder"}
