"""What a run will take, before anything is downloaded or allocated: parameters, memory, arithmetic, time."""

from dataclasses import dataclass, replace

from editkit.train.estimate import devices
from editkit.train.estimate.memory import needs
from editkit.train.estimate.meta_step import rehearse
from editkit.train.estimate.suggestions import advice
from editkit.train.settings import EditTrainConfig

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
    """Estimate what a run needs.

    Args:
        settings: of the run.
        device: one of `devices.KNOWN`, or several of them in shards, as 8xh100-80g; the first GPU found
            where None.

    Raises:
        EditkitError: for an unknown device, or settings that do not fit each other.
    """
    chosen = devices.found() if device is None else devices.named(device)
    if settings.fit.precision == "auto":
        low = chosen is not None or settings.fit.low
        settings = replace(settings, fit=replace(settings.fit, precision="bf16" if low else "fp32"))
    step = rehearse(settings)
    needed = needs(settings, step, chosen is None, chosen.count if chosen else 1)
    flops = step.flops * settings.fit.accumulate
    speed = chosen.speed if chosen else None
    made = TrainPlan(
        trainable=step.trainable,
        total=step.total,
        tokens=step.tokens,
        flops=flops,
        memory=needed.memory,
        peak=needed.peak,
        device=chosen.name if chosen else None,
        capacity=chosen.capacity if chosen else 0.0,
        seconds=None if speed is None else flops / (speed * REACHED) * settings.fit.steps,
        advice=(),
    )
    if chosen is None or made.fits:
        return made

    rehearsed = {_decisive(settings): step}

    def peak(changed: EditTrainConfig, shards: int) -> float:
        key = _decisive(changed)
        if key not in rehearsed:
            rehearsed[key] = rehearse(changed)
        return needs(changed, rehearsed[key], False, shards).peak

    return replace(made, advice=(advice(settings, chosen, chosen.capacity - RESERVED, peak),))


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
        return "\n".join(
            [*lines, f"device    none found; name one of {', '.join(devices.KNOWN)} with --device"]
        )
    verdict = "fits" if found.fits else "does not fit"
    lines.append(f"device    {found.device}: {verdict} into {found.capacity / 1e9:.0f} GB")
    if found.seconds is not None:
        hours = found.seconds / 3600
        lines.append(
            f"time      {hours:.1f} h for {settings.fit.steps} steps, if {REACHED:.0%} of its peak is reached"
        )
    return "\n".join([*lines, *(f"would fit {setting}" for setting in found.advice)])


def _decisive(settings: EditTrainConfig) -> tuple[int, str, str]:
    """What a rehearsal depends on, of all that advice changes."""
    return settings.fit.batch, settings.fit.precision, settings.fit.optim.name
