"""Count a role's weights under loading options: published sizes, quantizers, a user's own files."""

from dataclasses import replace
from pathlib import Path

import torch

from backbones import low_memory
from backbones.file_sizes import file_bytes, folder_bytes, largest_block
from backbones.load_options import FILES, LoadOptions
from backbones.low_memory import BF16, WeightBytes
from backbones.quantized_sizes import CLIP_PLAIN, T5_PLAIN, bytes_of_a_weight
from backbones.specs import PARAMETERS
from editkit.backbone import Family, Role
from editkit.errors import EditkitError

ENCODERS = ("text_encoder", "text_encoder_2")


def family_bytes(family: Family, options: LoadOptions, dtype: torch.dtype) -> list[WeightBytes]:
    """Return the bytes of each role's weights in a precision; roles that share a transformer count once.

    Raises:
        EditkitError: where `role_bytes` raises it.
    """
    kept = {options.key(name, role): (name, role) for name, role in family.roles.items()}
    return [role_bytes(name, role, options, dtype.itemsize) for name, role in kept.values()]


def role_bytes(name: str, role: Role, options: LoadOptions, itemsize: int = BF16) -> WeightBytes:
    """Return the bytes of a role's weights: published ones, or those of its folder, file or quantizer.

    What is not quantized takes `itemsize` bytes a value.

    Raises:
        EditkitError: where a file is missing, damaged or of another kind.
    """
    folder = Path(role.source)
    published = low_memory.published_weights().times(itemsize / BF16)
    own = _folder_weights(folder, itemsize) if folder.is_dir() else published
    transformer, block, outside = _transformer(name, options, own, itemsize)
    clip = _encoder("text_encoder", CLIP_PLAIN, options, itemsize)
    t5 = _encoder("text_encoder_2", T5_PLAIN, options, itemsize)
    given = any(options.quantizer(part) or options.component(part) for part in ENCODERS)
    return WeightBytes(
        transformer=transformer,
        block=block,
        outside=outside,
        encoders=clip + t5 if given else own.encoders,
        vae=own.vae if options.vae is None else given_bytes("vae", options.vae, itemsize),
    )


def _folder_weights(folder: Path, itemsize: int) -> WeightBytes:
    """Return the bytes of a diffusers folder's weights."""
    parts = ("transformer", *ENCODERS, "vae")
    transformer, clip, t5, vae = (folder_bytes(folder / part, itemsize) for part in parts)
    return replace(_in_proportion(transformer), encoders=clip + t5, vae=vae)


def _in_proportion(transformer: float) -> WeightBytes:
    """Return the published bytes, as many times fewer as this transformer is smaller."""
    published = low_memory.published_weights()
    return published.times(transformer / published.transformer)


def _transformer(
    role: str, options: LoadOptions, own: WeightBytes, itemsize: int
) -> tuple[float, float, float]:
    """Return the bytes of a transformer, of its largest block, and outside of blocks."""
    path = options.replacement(role)
    share = bytes_of_a_weight(options.quantizer("transformer"), itemsize) / itemsize
    if path is None:
        return share * own.transformer, share * own.block, share * own.outside
    if path.is_dir():
        sizes = _in_proportion(folder_bytes(path, itemsize))
        return share * sizes.transformer, share * sizes.block, share * sizes.outside
    found = file_bytes(_checked("transformer", path), "transformer", itemsize)
    block, outside = largest_block(found)
    return share * sum(found.values()), share * block, share * outside


def _encoder(part: str, plain: int, options: LoadOptions, itemsize: int) -> float:
    """Return the bytes of a text encoder; `plain` is its number of parameters that are never quantized."""
    quantizer, path = options.quantizer(part), options.component(part)
    if path is not None and not quantizer:
        return given_bytes(part, path, itemsize)
    return bytes_of_a_weight(quantizer, itemsize) * (PARAMETERS[part] - plain) + itemsize * plain


def given_bytes(part: str, path: Path, itemsize: int) -> float:
    """Return the bytes of a model's file or folder.

    Raises:
        EditkitError: where it is missing, damaged or of another kind.
    """
    if path.is_dir():
        return folder_bytes(path, itemsize)
    return sum(file_bytes(_checked(part, path), part, itemsize).values())


def _checked(part: str, path: Path) -> Path:
    """Return the path of a file that exists."""
    if not (path.is_file() and path.suffix in FILES):
        raise EditkitError(
            f"The size of {part}={path} cannot be counted; give a .safetensors or .gguf file that exists."
        )
    return path
