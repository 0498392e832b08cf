"""Count the memory that weight files need, from their headers alone."""

import re
from collections import defaultdict
from contextlib import ExitStack
from math import prod
from pathlib import Path

from backbones.conversion.reader import DTYPES, SafetensorsReader
from backbones.conversion.single_file import T5_EMBEDDING, UNUSED, ComponentTensors, open_component
from backbones.low_memory import BF16
from backbones.quantized import PLAIN

UNPACKED = (
    *PLAIN, "img_in", "ffn_down", "shared", "embed_tokens", "token_embd", "token_embedding",
    "position_embedding",
)  # fmt: skip
"""Modules whose weights are dequantized, by their names in every naming: `quantized.PLAIN`, embeddings."""
BLOCK = re.compile(r".*blocks\.\d+\.")


def file_bytes(path: Path, part: str, itemsize: int = BF16) -> dict[str, float]:
    """Return the bytes of each tensor of a file once it is loaded.

    Args:
        path: a .safetensors or .gguf file of one model or of several.
        part: the model: `transformer`, `text_encoder`, `text_encoder_2` or `vae`.
        itemsize: bytes of each value of a tensor that is not quantized, or cannot stay so; plain fp8, which
            has no scales, cannot.

    Raises:
        EditkitError: where the file is damaged or of another kind.
    """
    with open_component(path, part) as found:
        unused = re.compile(UNUSED.get(part, r"(?!)"))
        names = [name for name in found if not unused.fullmatch(name.removeprefix("text_model."))]
        if set(T5_EMBEDDING) <= set(names):
            names.remove(T5_EMBEDDING[1])
        return {name: _packed(found, name) or itemsize * found.on_meta(name).numel() for name in names}


def folder_bytes(folder: Path, itemsize: int = BF16) -> float:
    """Return the bytes of the weights in a diffusers or transformers folder, as `file_bytes` counts them."""
    with ExitStack() as stack:
        found = SafetensorsReader(folder.glob("*.safetensors"), stack)
        plain = {name: found.code(name) in DTYPES for name in found}
        return float(
            sum(itemsize * prod(found.shape(name)) if plain[name] else found.size(name) for name in found)
        )


def largest_block(sizes: dict[str, float]) -> tuple[float, float]:
    """Return the bytes of a transformer's largest block, and those outside of blocks."""
    blocks: defaultdict[str, float] = defaultdict(float)
    for name, size in sizes.items():
        inside = BLOCK.match(name)
        blocks[inside[0] if inside else ""] += size
    outside = blocks.pop("", 0.0)
    return max(blocks.values(), default=0.0), outside


def _packed(found: ComponentTensors, name: str) -> float | None:
    """Return the bytes of a weight that stays quantized, or None."""
    module, _, kind = name.rpartition(".")
    stays = kind == "weight" and module.rpartition(".")[2] not in UNPACKED
    return found.packed_bytes(name) if stays else None
