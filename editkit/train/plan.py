"""What a run will take, before anything is downloaded or allocated: parameters, memory, arithmetic, time."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from editkit import registry
from editkit.errors import EditkitError
from editkit.train.rehearsal import Rehearsal, rehearse
from editkit.train.settings import EditTrainConfig

BYTES = {"float32": 4, "bfloat16": 2}
QUANTIZED_4, QUANTIZED_8 = 0.5 + 4 / 64, 1.0
"""Bytes of a quantized weight; of 4 bits, 64 share a scale of 4 bytes."""
DEVICES = {
    "rtx3090-24g": (24e9, 71e12),
    "rtx4090-24g": (24e9, 165e12),
    "l40s-48g": (48e9, 362e12),
    "a100-80g": (80e9, 312e12),
    "h100-80g": (80e9, 989e12),
    "h200-141g": (141e9, 989e12),
    "b200-192g": (192e9, 2250e12),
}
"""Memory in bytes and dense bf16 operations a second, as their makers give them."""
REACHED = 0.35
"""Share of a maker's figure that training usually reaches; an assumption, not a measurement."""
RESERVED = 1.5e9
"""What a GPU's context, its libraries' workspaces and fragmentation take."""


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """Figures of one run; memory in bytes by part.

    Attributes:
        trainable: parameters.
        total: parameters of the transformer with its adapters.
        tokens: of a sample, text included.
        flops: of an optimizer step, forward and backward.
        memory: by part.
        peak: of one device.
        device: name, or None where none is known.
        capacity: of the device in bytes.
        seconds: of the whole run on it.
        advice: settings that would need less.
    """

    trainable: int
    total: int
    tokens: int
    flops: float
    memory: dict[str, float]
    peak: float
    device: str | None
    capacity: float
    seconds: float | None
    advice: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the peak and what a device reserves are less than it has."""
        return self.device is None or self.peak + RESERVED <= self.capacity


def plan(settings: EditTrainConfig, device: str | None = None) -> TrainPlan:
    """Sketch a run.

    Args:
        settings: of the run.
        device: one of `DEVICES`, or several of them in shards, as 8xh100-80g; the first GPU found where None.

    Raises:
        EditkitError: for an unknown device, or settings that do not fit each other.
    """
    name, shards, capacity, speed = _device(device)
    step, memory, peak = _needs(settings, name is None, shards)
    flops = step.flops * settings.fit.accumulate
    seconds = None if speed is None else flops / (speed * REACHED) * settings.fit.steps
    made = TrainPlan(
        trainable=step.trainable,
        total=step.total,
        tokens=step.tokens,
        flops=flops,
        memory=memory,
        peak=peak,
        device=name,
        capacity=capacity,
        seconds=seconds,
        advice=(),
    )
    return made if made.fits else replace(made, advice=_advice(settings, capacity - RESERVED, shards))


def table(found: TrainPlan, settings: EditTrainConfig) -> str:
    """A plan as text."""
    share = found.trainable / found.total
    lines = [
        f"trains    {found.trainable:,} of {found.total:,} parameters ({share:.2%})",
        f"a step    {settings.fit.samples} samples of {found.tokens} tokens, {found.flops / 1e12:.3g} TFLOP",
    ]
    lines += [f"memory    {part:<24}{size / 1e9:>8.2f} GB" for part, size in found.memory.items()]
    lines.append(f"          {'peak':<24}{found.peak / 1e9:>8.2f} GB")
    if found.device is None:
        return "\n".join([*lines, f"device    none found; name one of {', '.join(DEVICES)} with --device"])
    verdict = "fits" if found.fits else "does not fit"
    lines.append(f"device    {found.device}: {verdict} into {found.capacity / 1e9:.0f} GB")
    if found.seconds is not None:
        hours = found.seconds / 3600
        lines.append(
            f"time      {hours:.1f} h for {settings.fit.steps} steps, if {REACHED:.0%} of its peak is reached"
        )
    return "\n".join([*lines, *(f"would fit {setting}" for setting in found.advice)])


def _device(name: str | None) -> tuple[str | None, int, float, float | None]:
    """Its name, how many there are, and each one's memory and speed."""
    if name is not None:
        count, _, kind = name.rpartition("x") if name[:1].isdigit() else ("1", "", name)
        if kind not in DEVICES or not count.isdigit() or int(count) < 1:
            raise EditkitError(registry.unknown("device called", kind, DEVICES))
        return name, int(count), *DEVICES[kind]
    if not torch.cuda.is_available():
        return None, 1, 0.0, None
    found = torch.cuda.get_device_properties(0)
    return found.name, 1, float(found.total_memory), None


def _needs(settings: EditTrainConfig, on_cpu: bool, shards: int) -> tuple[Rehearsal, dict[str, float], float]:
    """One step, the memory of each device by part, and its peak."""
    step = rehearse(settings)
    memory = _memory(settings, step, shards)
    # Activations go as gradients come, so the two are never there in full at once. Then the optimizer moves
    # all weights together on a GPU, for which it wants as much again, and one by one on a CPU.
    standing = sum(memory.values()) - memory["gradients"] - memory["activations"]
    peak = standing + max(memory["activations"], memory["gradients"] * (1 if on_cpu else 2))
    # Before the first step the encoders are there too, whatever becomes of them.
    peak = max(peak, memory["transformer"] + _encoders(settings, step))
    return step, {part: size for part, size in memory.items() if size}, peak


def _memory(settings: EditTrainConfig, step: Rehearsal, shards: int) -> dict[str, float]:
    """Bytes of one device by part, of several that share the weights."""
    count, kept = step.trainable, step.kept
    memory = {
        "transformer": (step.frozen * _bytes(settings) + count * 4) / shards,
        "autoencoder and encoders": 0.0 if settings.cache_texts else _encoders(settings, step),
        "gradients": count * 4 / shards,
        "optimizer": step.optimizer / shards,
        "average of weights": count * 4 / shards if settings.fit.ema else 0,
        "weights before training": count * 4 / shards if settings.prior_share else 0,
        "activations": kept.needed(settings.gradient_checkpointing, settings.selective_checkpointing),
    }
    if settings.fit.precision == "bf16" and settings.dtype == "float32" and shards == 1:
        # Autocast's copies of float32 weights, which the backward pass needs too.
        memory["activations"] += 2 * (kept.largest if settings.gradient_checkpointing else step.total)
    if shards > 1:
        # One block is in use while the next comes in.
        memory["blocks gathered"] = 2 * kept.largest * _bytes(settings, gathered=True)
    return memory


def _encoders(settings: EditTrainConfig, step: Rehearsal) -> float:
    return float(step.encoders * BYTES[settings.dtype])


def _bytes(settings: EditTrainConfig, gathered: bool = False) -> float:
    """What a frozen weight takes, or any weight that was gathered from shards."""
    quantization = settings.load.get("quantization") or {}
    if quantization.get("load_in_4bit"):
        return QUANTIZED_4
    if quantization:
        return QUANTIZED_8
    return BYTES["bfloat16" if gathered and settings.fit.precision == "bf16" else settings.dtype]


def _advice(settings: EditTrainConfig, room: float, shards: int) -> tuple[str, ...]:
    """The first of some sets of settings that would fit, from the mildest."""
    tried: dict[str, Any] = {}
    told = []
    for name, value, change in (
        ("cache_texts=true", not (settings.fresh or settings.start), {"cache_texts": True}),
        ("gradient_checkpointing=true", True, {"gradient_checkpointing": True}),
        ("dtype=bfloat16", settings.trainable == "lora", {"dtype": "bfloat16"}),
        ("fit.batch=1", True, {"fit": replace(settings.fit, batch=1)}),
    ):
        if not value:
            continue
        tried |= change
        told.append(name)
        if _needs(replace(settings, **tried), False, shards)[-1] <= room:
            return (" ".join(told),)
    return ("none of batch 1, checkpointing and bfloat16 is enough: take a LoRA or a larger device",)
