"""Read LoRAs in XLabs' naming with diffusers' own converter."""

import re
from collections.abc import Mapping

from diffusers.loaders.lora_conversion_utils import _convert_xlabs_flux_lora_to_diffusers
from torch import Tensor

from editkit.errors import EditkitError, first_sentence

PREFIX = "diffusion_model."
"""Prefix that ComfyUI puts before XLabs' names."""
KEY = re.compile(
    r"(double_blocks\.\d+\.processor\.(qkv|proj)_lora[12]|single_blocks\.\d+\.processor\.(qkv|proj)_lora)"
    r"\.(down|up)\.weight"
)
"""Pattern of XLabs' keys."""


def is_xlabs(state: Mapping[str, Tensor]) -> bool:
    """Whether there are keys in XLabs' naming."""
    return any(".processor." in key for key in state)


def to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors from XLabs' naming to diffusers' names.

    Raises:
        EditkitError: where a tensor is unknown, is present twice, or has no partner.
    """
    names = [key.removeprefix(PREFIX) for key in state]
    # The converter would give several unknown tensors the same name and keep the last one.
    if strange := [key for key, name in zip(state, names, strict=True) if not KEY.fullmatch(name)]:
        raise EditkitError(
            f"The tensor {strange[0]} is not part of a LoRA in XLabs' naming; give a plain LoRA."
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise EditkitError(f"The tensor {twice[0]} is in the file twice; keep one.")
    try:
        # The converter removes what it has converted from its argument.
        converted: dict[str, Tensor] = _convert_xlabs_flux_lora_to_diffusers(dict(state))
    except (KeyError, ValueError, RuntimeError) as error:
        problem = first_sentence(error)
        raise EditkitError(
            f"The LoRA in XLabs' naming cannot be converted ({problem}); give the whole file."
        ) from error
    # Copies: safetensors cannot save parts that share memory.
    return {key: tensor.clone() for key, tensor in converted.items()}
