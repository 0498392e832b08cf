"""Where training in bf16 is worth it."""

import torch


def bf16_pays(device: str | None = None) -> bool:
    """Whether a kind of device multiplies bf16 faster than float32.

    GPUs do, CPUs only with instructions for it: others convert every number, and a product takes up to ten
    times as long.

    Args:
        device: torch's name of its type, or None for the one that training finds by itself.
    """
    if device is None:
        device = "cuda" if torch.accelerator.is_available() else "cpu"
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported()
