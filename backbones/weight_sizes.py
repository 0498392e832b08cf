"""Count a role's weights under loading options: published sizes, quantizers, a user's own files."""

from pathlib import Path

from backbones import low_memory
from backbones.file_sizes import file_bytes, largest_block
from backbones.load_options import FILES, LoadOptions
from backbones.low_memory import BF16, WeightBytes
from backbones.quantized_sizes import CLIP_PLAIN, T5_PLAIN, bytes_of_a_weight
from backbones.specs import PARAMETERS
from editkit.errors import EditkitError


def published_or_given(role: str, options: LoadOptions) -> WeightBytes:
    """Return the bytes of a role of FLUX.1, where a file or a quantizer counts instead of bfloat16.

    Raises:
        EditkitError: where a file is missing, damaged or of another kind.
    """
    transformer, block, outside = _transformer(role, options)
    clip, t5 = _encoder("text_encoder", CLIP_PLAIN, options), _encoder("text_encoder_2", T5_PLAIN, options)
    return WeightBytes(
        transformer=transformer,
        block=block,
        outside=outside,
        encoders=clip + t5,
        vae=_given("vae", options.vae) or BF16 * PARAMETERS["vae"],
    )


def _transformer(role: str, options: LoadOptions) -> tuple[float, float, float]:
    """Return the bytes of a transformer, of its largest block, and outside of blocks."""
    path = options.replacement(role)
    share = bytes_of_a_weight(options.quantizer("transformer")) / BF16
    if path is None:
        sizes = low_memory.published_weights()
        return share * sizes.transformer, share * sizes.block, share * sizes.outside
    found = file_bytes(_checked("transformer", path), "transformer")
    block, outside = largest_block(found)
    return share * sum(found.values()), share * block, share * outside


def _encoder(part: str, plain: int, options: LoadOptions) -> float:
    """Return the bytes of a text encoder; `plain` is its number of parameters that are never quantized."""
    quantizer = options.quantizer(part)
    given = _given(part, options.component(part))
    if given is not None and not quantizer:
        return given
    return bytes_of_a_weight(quantizer) * (PARAMETERS[part] - plain) + BF16 * plain


def _given(part: str, path: Path | None) -> float | None:
    return None if path is None else sum(file_bytes(_checked(part, path), part).values())


def _checked(part: str, path: Path) -> Path:
    """Return the path of a file that exists."""
    if not (path.is_file() and path.suffix in FILES):
        raise EditkitError(
            f"An estimate cannot count {part}={path}; give a .safetensors or .gguf file that exists."
        )
    return path
