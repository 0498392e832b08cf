"""Plan a run's parameters, memory, arithmetic and time before anything is downloaded or allocated."""

from dataclasses import dataclass, replace

from editkit import gpus
from editkit.data import shard_names
from editkit.data.datasets import dataset
from editkit.data.records import FILES, DataConfig
from editkit.train.estimate.memory import estimate_memory
from editkit.train.estimate.meta_step import step_cost
from editkit.train.estimate.suggestions import suggest_settings
from editkit.train.settings import EditTrainConfig

MANY = 160
"""Times that a pair is seen beyond which a run learns its pairs by heart; a rule of thumb."""
UTILIZATION = 0.35
"""Share of a maker's figure that training usually reaches; an assumption, not a measurement."""
OVERHEAD = 1.5e9
"""Bytes for a GPU's context, its libraries' workspaces and fragmentation."""


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """The figures of one run.

    Attributes:
        trainable: number of trained parameters.
        total: number of parameters of the transformer with its adapters.
        samples: number of samples of an optimizer step, over all devices.
        tokens: number of tokens of a sample, text included.
        flops: operations of an optimizer step on one device, forward and backward.
        memory: bytes of one device by part.
        peak: largest number of bytes in use at once on one device.
        device: name of the device, or None if there is none.
        capacity: memory of the device in bytes.
        seconds: time of the whole run, or None if the device's speed is unknown.
        pairs: number of training pairs, or None where they are not here.
        seen: how often each pair is seen, or None.
        advice: settings that need less memory, or None if the run fits.
    """

    trainable: int
    total: int
    samples: int
    tokens: int
    flops: float
    memory: dict[str, float]
    peak: float
    device: str | None
    capacity: float
    seconds: float | None
    pairs: int | None
    seen: float | None
    advice: str | None

    @property
    def fits(self) -> bool:
        """Whether the peak and the device's overhead fit into its memory."""
        return self.device is None or self.peak + OVERHEAD <= self.capacity


def plan(settings: EditTrainConfig, device: str | None = None) -> TrainPlan:
    """Estimate the cost of a run.

    Args:
        settings: settings of the run.
        device: one of `gpus.KNOWN`, or several of them in shards, as 8xh100-80g; the first GPU found
            where None.

    Raises:
        EditkitError: if the device is unknown, or settings contradict each other.
    """
    chosen = gpus.first_gpu() if device is None else gpus.by_name(device)
    if settings.fit.precision == "auto":
        low = chosen is not None or settings.fit.low
        settings = replace(settings, fit=replace(settings.fit, precision="bf16" if low else "fp32"))
    step = step_cost(settings)
    needed = estimate_memory(settings, step, chosen is None, chosen.count if chosen else 1)
    flops, fit = step.flops * settings.fit.accumulate, settings.fit
    # Several devices take a batch each, though one process alone makes this plan.
    samples = fit.batch * fit.accumulate * chosen.count if chosen and chosen.count > 1 else fit.samples
    pairs = count_pairs(settings.data)
    speed = chosen.speed if chosen else None
    made = TrainPlan(
        trainable=step.trainable,
        total=step.total,
        samples=samples,
        tokens=step.tokens,
        flops=flops,
        memory=needed.memory,
        peak=needed.peak,
        device=chosen.name if chosen else None,
        capacity=chosen.capacity if chosen else 0.0,
        seconds=None if speed is None else flops / (speed * UTILIZATION) * settings.fit.steps,
        pairs=pairs,
        seen=None if pairs is None else times_seen(settings, samples, pairs),
        advice=None,
    )
    if chosen is None or made.fits:
        return made

    costs = {_step_key(settings): step}

    def peak(changed: EditTrainConfig, shards: int) -> float:
        key = _step_key(changed)
        if key not in costs:
            costs[key] = step_cost(changed)
        return estimate_memory(changed, costs[key], False, shards).peak

    return replace(made, advice=suggest_settings(settings, chosen, chosen.capacity - OVERHEAD, peak))


def count_pairs(data: DataConfig) -> int | None:
    """Count the pairs of a dataset; None where its files are not here, as nothing is downloaded for a plan.

    Raises:
        EditkitError: where the files cannot be read.
    """
    if data.name in FILES and not (data.path and shard_names.is_here(data.path)):
        return None
    return len(dataset(data))


def times_seen(settings: EditTrainConfig, samples: int, pairs: int) -> float:
    """Return how often a run sees each pair of `data`, whose share of the batches a mixture divides."""
    weight = 1 + sum(mixed.weight for mixed in settings.mixture.values())
    return settings.fit.steps * samples / (weight * pairs)


def _step_key(settings: EditTrainConfig) -> tuple[int, str, str]:
    """Return the settings that advice changes and that a step's cost depends on."""
    return settings.fit.batch, settings.fit.precision, settings.fit.optim.name
