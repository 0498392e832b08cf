"""Look up devices that a run can be planned for."""

import re
from dataclasses import dataclass

from editkit.errors import EditkitError, unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedDevice:
    """Devices of one kind.

    Attributes:
        name: the name that a person gave, with its count, or the name that torch gives a GPU it found.
        kind: key of `KNOWN`, or None.
        count: number of devices that share the run in shards.
        capacity: memory of each device in bytes.
        speed: dense bf16 operations a second of each device, or None if unknown.
    """

    name: str
    kind: str | None
    count: int = 1
    capacity: float
    speed: float | None


KNOWN = {
    "rtx3090-24g": (24e9, 71e12, r"RTX 3090$"),
    "rtx4090-24g": (24e9, 165e12, r"RTX 4090$"),
    "l40s-48g": (48e9, 362e12, r"L40S$"),
    "a100-80g": (80e9, 312e12, r"A100.*80GB"),
    "h100-80g": (80e9, 989e12, r"H100 80GB HBM3$"),
    "h200-141g": (141e9, 989e12, r"H200$"),
    "b200-192g": (192e9, 2250e12, r"B200$"),
}
"""Memory in bytes and dense bf16 operations a second, by their makers, and a pattern for torch's name."""


def by_name(name: str) -> PlannedDevice:
    """Look up a device by name, or several in shards, such as 8xh100-80g.

    Raises:
        EditkitError: if no device has this name.
    """
    count, kind = _split(name)
    if re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", name):
        raise EditkitError(
            f"{name} is a device to run on, not one to plan for; name a GPU: {', '.join(KNOWN)}."
        )
    if kind not in KNOWN or (count is not None and int(count) < 1):
        raise EditkitError(unknown("device called", name if kind in KNOWN else kind, KNOWN))
    capacity, speed, _ = KNOWN[kind]
    return PlannedDevice(name=name, kind=kind, count=int(count or 1), capacity=capacity, speed=speed)


def check_runs(name: str | None) -> None:
    """Refuse a name that is for plans where a device to run on is wanted; this imports no torch.

    Raises:
        EditkitError: for a name of `KNOWN`, or several of one kind.
    """
    if name is not None and _split(name)[1] in KNOWN:
        raise EditkitError(
            f"{name} is a GPU to plan for, with `editkit methods --plan-device {name}`; "
            "to run, give the device cpu, cuda or mps."
        )


def _split(name: str) -> tuple[str | None, str]:
    """Count and kind of a name."""
    count, kind = re.fullmatch(r"(?:(\d+)x)?(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    return count, kind


def first_gpu() -> PlannedDevice | None:
    """Describe the first GPU of this machine, or return None if it has no GPU."""
    import torch  # here, so that names can be checked without it

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return from_torch(properties.name, float(properties.total_memory))


def from_torch(name: str, capacity: float) -> PlannedDevice:
    """Build a device from torch's name and its memory in bytes; add the speed if it is known."""
    kind = next((kind for kind, (_, _, pattern) in KNOWN.items() if re.search(pattern, name)), None)
    return PlannedDevice(
        name=name, kind=kind, capacity=capacity, speed=None if kind is None else KNOWN[kind][1]
    )
