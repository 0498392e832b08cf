"""Estimate the memory of a run by part from the cost of one step."""

from dataclasses import dataclass

from editkit.train.estimate.meta_step import StepCost
from editkit.train.settings import EditTrainConfig

BYTES = {"float32": 4, "bfloat16": 2}
QUANTIZED_4, QUANTIZED_8 = 0.5 + 4 / 64, 1.0
"""Bytes of one quantized weight. 64 weights of 4 bits share one scale of 4 bytes."""
QUANTIZED_PARTS = {"transformer", "text_encoder", "text_encoder_2"}
"""Models that `load.quantization` may name; where it names none, it is the transformer's alone."""
FEATURE_COPIES = 6
"""Copies of a teacher's features: raw and normalized ones of an answer and of the truth, and R1's two."""


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
    memory = _bytes_by_part(settings, step, shards)
    # Activations go as gradients come, so the two are never there in full at once. Then the optimizer moves
    # all weights together on a GPU, for which it wants as much again, and one by one on a CPU.
    standing = sum(memory.values()) - memory["gradients"] - memory["activations"]
    peak = standing + max(memory["activations"], memory["gradients"] * (1 if on_cpu else 2))
    # Before the first step the encoders are there too, whatever becomes of them.
    peak = max(peak, memory["transformer"] + _encoder_bytes(settings, step))
    return MemoryEstimate(memory={part: size for part, size in memory.items() if size}, peak=peak)


def _bytes_by_part(settings: EditTrainConfig, step: StepCost, shards: int) -> dict[str, float]:
    """Count the bytes of one device by part, if `shards` devices share the weights."""
    count, saved = step.trainable, step.saved
    memory = {
        "transformer": (step.frozen * _bytes_per_weight(settings) + count * 4) / shards,
        "autoencoder and encoders": _bytes_beside(settings, step),
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
        memory["blocks gathered"] = 2 * saved.largest_block * _bytes_per_weight(settings, gathered=True)
    return memory


def _bytes_beside(settings: EditTrainConfig, step: StepCost) -> float:
    """Count the bytes of the autoencoder and the text encoders that stay during training."""
    if not settings.cache_texts:
        return _encoder_bytes(settings, step)
    return float(step.autoencoder * BYTES[settings.dtype]) if settings.latents == "on_the_fly" else 0.0


def _encoder_bytes(settings: EditTrainConfig, step: StepCost) -> float:
    return float(step.encoders * BYTES[settings.dtype])


def _bytes_per_weight(settings: EditTrainConfig, gathered: bool = False) -> float:
    """Return the bytes of a frozen weight, or of any weight that was gathered from shards."""
    quantization = settings.load.get("quantization") or {}
    if quantization.keys() & QUANTIZED_PARTS:  # it is given by model
        quantization = quantization.get("transformer") or {}
    if quantization.get("load_in_4bit"):
        return QUANTIZED_4
    if quantization:
        return QUANTIZED_8
    return BYTES["bfloat16" if gathered and settings.fit.precision == "bf16" else settings.dtype]
