"""Decide where bf16 is faster than float32."""

import time
from functools import cache

SECONDS = 1.0
"""Time for comparing both precisions."""
SIZES = {"cpu": (512, 256)}
OTHER_SIZE = (1024, 3072)
"""Tokens and width of the block that is timed, by kind of device. A GPU is not busy with smaller ones."""


def bf16_pays(device: str | None = None) -> bool:
    """Whether a kind of device has instructions for bf16.

    GPUs do. CPUs without them convert every number, which is slower. This does not change from run to run.

    Args:
        device: torch's name of the device type; None for the one that training chooses.
    """
    import torch  # here, so that a run's settings can be checked without it

    return _kind(device) != "cpu" or torch.cpu._is_avx512_bf16_supported()


def faster_in_bf16(device: str | None = None) -> bool:
    """Whether a transformer block's forward and backward pass is faster in bf16 than in float32, as timed."""
    found = times(device)
    return found["bf16"] < found["fp32"]


def times(device: str | None = None) -> dict[str, float]:
    """Time a transformer block's forward and backward pass; return the best seconds by precision.

    The times are taken once in a process.

    Args:
        device: torch's name of the device type; None for the one that training chooses.
    """
    return _block_seconds(_kind(device))


@cache
def _block_seconds(kind: str) -> dict[str, float]:
    import torch

    tokens, width = SIZES.get(kind, OTHER_SIZE)
    with torch.random.fork_rng([] if kind == "cpu" else None, device_type=kind):
        block = torch.nn.TransformerEncoderLayer(
            width, width // 64, 4 * width, dropout=0.0, batch_first=True, norm_first=True, device=kind
        )
        x_BLD = torch.randn(1, tokens, width, device=kind)

    def once(low: bool) -> float:
        start = time.perf_counter()
        with torch.autocast(kind, torch.bfloat16, enabled=low):
            loss = block(x_BLD).float().square().mean()
        loss.backward()
        loss.item()  # waits for the device
        return time.perf_counter() - start

    for low in (False, True):
        once(low)
    found: dict[bool, list[float]] = {False: [], True: []}
    end = time.perf_counter() + SECONDS
    while not found[True] or time.perf_counter() < end:
        for low, seconds in found.items():
            seconds.append(once(low))
    return {"fp32": min(found[False]), "bf16": min(found[True])}


def _kind(device: str | None) -> str:
    import torch

    if device is not None:
        return device
    accelerator = torch.accelerator.current_accelerator()
    return "cpu" if accelerator is None else accelerator.type
