"""Bytes of weights that are quantized on load."""

import re
from collections.abc import Mapping
from typing import Any

HALF = 2
SCALES = 4 / 64
"""Bytes of scales for each weight of few bits: 64 share one of 4 bytes, as NF4 has it."""
FOUR_BITS = 0.5 + SCALES
T5_PLAIN = 24 * 10240 * 4096 + 32128 * 4096
"""Parameters of T5 that stay in bfloat16: the last layer of each block, and the embedding."""
CLIP_PLAIN = (49408 + 77) * 768
"""The same of CLIP: its embeddings."""


def bytes_of_a_weight(quantizer: Mapping[str, Any]) -> float:
    """Bytes of one weight under a value of the loading option `quantization`; of bfloat16 where empty."""
    if not quantizer:
        return HALF
    if quantizer.get("load_in_4bit"):
        return FOUR_BITS
    kinds = (quantizer.get(key) for key in ("weights", "weights_dtype", "quant_type"))
    # Such as int8, float8, Int4WeightOnlyConfig, NVFP4: the first number is that of bits.
    found = re.search(r"\d+", next((str(kind) for kind in kinds if kind), "8"))
    bits = int(found[0]) if found else 8
    return bits / 8 + (SCALES if bits < 8 else 0)
