"""Name the formats of quantized weights that are not read."""

from collections.abc import Iterable

from editkit.errors import EditkitError

BESIDE = {
    "wscales": "nunchaku's SVDQuant",
    "smooth_factor": "nunchaku's SVDQuant",
    "qzeros": "GPTQ or AWQ",
    "zero_point": "SDNQ",
    "svd_up": "SDNQ",
}
"""Formats by the last word of a tensor's name that no other format has."""


def check_format(names: Iterable[str]) -> None:
    """Check that no tensor belongs to a format that is not read.

    Raises:
        EditkitError: naming the first layer in such a format.
    """
    names = set(names)
    for name in sorted(names):
        layer, _, word = name.rpartition(".")
        # Norms in native naming have a scale, too, but no weight beside it.
        kind = "SDNQ" if word == "scale" and f"{layer}.weight" in names else BESIDE.get(word)
        if kind:
            raise EditkitError(
                f"{layer} is stored in {kind}, which is not supported; take the file in bf16, fp8, NVFP4, "
                "GGUF or bitsandbytes' 4 bits."
            )
