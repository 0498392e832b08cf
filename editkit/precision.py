"""Decide where bf16 is faster than float32."""


def bf16_pays(device: str | None = None) -> bool:
    """Whether a kind of device multiplies bf16 faster than float32.

    GPUs do. CPUs do only with instructions for bf16: others convert every number, which is slower.

    Args:
        device: torch's name of the device type; None for the one that training chooses.
    """
    import torch  # here, so that a run's settings can be checked without it

    if device is None:
        device = "cuda" if torch.accelerator.is_available() else "cpu"
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported()
