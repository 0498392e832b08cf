"""Estimate the memory of a run by part from the cost of one step."""

from dataclasses import dataclass

from editkit import config, registry
from editkit.backbone import provider
from editkit.train.estimate.meta_step import StepCost
from editkit.train.settings import EditTrainConfig

BYTES = {"float32": 4, "bfloat16": 2}
FEATURE_COPIES = 6
"""Copies of a teacher's features: raw and normalized ones of an answer and of the truth, and R1's two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenBytes:
    """The bytes of what a run loads, under its loading options.

    Attributes:
        weight: of a weight of the transformer, the mean of all.
        autoencoder: of the autoencoder.
        encoders: of the text encoders.
    """

    weight: float
    autoencoder: float
    encoders: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """The memory that one device needs, in bytes.

    Attributes:
        memory: bytes by part.
        peak: largest number of bytes in use at once.
    """

    memory: dict[str, float]
    peak: float


def estimate_memory(settings: EditTrainConfig, step: StepCost, on_cpu: bool, shards: int) -> MemoryEstimate:
    """Estimate the memory of each device for a run with this step."""
    loaded = _loaded(settings)
    memory = _bytes_by_part(settings, step, shards, loaded)
    # Activations go as gradients come, so the two are never there in full at once. Then the optimizer moves
    # all weights together on a GPU, for which it wants as much again, and one by one on a CPU.
    standing = sum(memory.values()) - memory["gradients"] - memory["activations"]
    peak = standing + max(memory["activations"], memory["gradients"] * (1 if on_cpu else 2))
    # Before the first step the encoders are there too, whatever becomes of them.
    peak = max(peak, memory["transformer"] + loaded.autoencoder + loaded.encoders)
    return MemoryEstimate(memory={part: size for part, size in memory.items() if size}, peak=peak)


def _loaded(settings: EditTrainConfig) -> FrozenBytes:
    """Count what a run loads."""
    method, itemsize = registry.method(settings.method), BYTES[settings.dtype]
    role = method.role_under(config.build(method.config, settings.options))
    backbone = provider().estimate(settings.backbone, settings.load)
    parts = dict(backbone.component_bytes(role, itemsize))
    return FrozenBytes(
        weight=backbone.weight_bytes(role, itemsize),
        autoencoder=parts.pop("vae", 0.0),
        encoders=sum(parts.values()),
    )


def _bytes_by_part(
    settings: EditTrainConfig, step: StepCost, shards: int, loaded: FrozenBytes
) -> dict[str, float]:
    """Count the bytes of one device by part, if `shards` devices share the weights."""
    count, saved = step.trainable, step.saved
    memory = {
        "transformer": (step.frozen * loaded.weight + count * 4) / shards,
        "autoencoder and encoders": _bytes_beside(settings, loaded),
        "gradients": count * 4 / shards,
        "optimizer": step.optimizer / shards,
        "average of weights": count * 4 / shards if settings.fit.ema else 0,
        "weights before training": count * 4 / shards if settings.teacher_passes else 0,
        "teacher's features": FEATURE_COPIES * step.features,
        "activations": saved.peak_bytes(settings.gradient_checkpointing, settings.selective_checkpointing),
    }
    if settings.fit.precision == "bf16" and settings.dtype == "float32" and shards == 1:
        # Autocast's copies of float32 weights, which the backward pass needs too.
        memory["activations"] += 2 * (saved.largest_block if settings.gradient_checkpointing else step.total)
    if shards > 1:
        # One block is in use while the next comes in.
        plain = BYTES["bfloat16" if settings.fit.precision == "bf16" else settings.dtype]
        gathered = loaded.weight if settings.load.get("quantization") else plain
        memory["blocks gathered"] = 2 * saved.largest_block * gathered
    return memory


def _bytes_beside(settings: EditTrainConfig, loaded: FrozenBytes) -> float:
    """Count the bytes of the autoencoder and the text encoders that stay during training."""
    if not settings.cache_texts:
        return loaded.autoencoder + loaded.encoders
    return loaded.autoencoder if settings.latents == "on_the_fly" else 0.0
