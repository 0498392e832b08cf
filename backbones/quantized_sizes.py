"""Compute the bytes of weights that are quantized on load."""

import re
from collections.abc import Mapping
from typing import Any

from backbones.low_memory import BF16

SCALES = 4 / 64
"""Bytes of scales for each weight of fewer than 8 bits: as in NF4, 64 weights share a scale of 4 bytes."""
FOUR_BITS = 0.5 + SCALES
"""Bytes of a weight in NF4."""
T5_PLAIN = 24 * 10240 * 4096 + 32128 * 4096
"""Parameters of T5 that are never quantized: the last layer of each block, and the embedding."""
CLIP_PLAIN = (49408 + 77) * 768
"""Parameters of CLIP that are never quantized: its embeddings."""


def bytes_of_a_weight(quantizer: Mapping[str, Any], itemsize: int = BF16) -> float:
    """Return the bytes of one weight.

    Args:
        quantizer: the loading option `quantization` of one model; empty where the weight is not quantized.
        itemsize: bytes of a weight that is not quantized.
    """
    if not quantizer:
        return itemsize
    if quantizer.get("load_in_4bit"):
        return FOUR_BITS
    kinds = (quantizer.get(key) for key in ("weights", "weights_dtype", "quant_type"))
    # In names such as int8, float8, Int4WeightOnlyConfig and NVFP4, the first number is the bits.
    found = re.search(r"\d+", next((str(kind) for kind in kinds if kind), "8"))
    bits = int(found[0]) if found else 8
    return bits / 8 + (SCALES if bits < 8 else 0)
