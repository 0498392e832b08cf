"""Suggest settings that make a run fit into memory."""

from collections.abc import Callable, Iterator
from dataclasses import asdict

from editkit import config
from editkit.errors import EditkitError
from editkit.gpus import PlannedDevice
from editkit.train.settings import EditTrainConfig

NF4 = (
    "load.quantization.type=BitsAndBytesConfig",
    "load.quantization.load_in_4bit=true",
    "load.quantization.bnb_4bit_quant_type=nf4",
    "load.quantization.bnb_4bit_compute_dtype=bfloat16",
)
SHARDS = (2, 4, 8)
LAUNCH = "(in shards: accelerate launch --config_file configs/accelerate/fsdp2.yaml)"
NOTHING_FITS = (
    "none of batch 1, checkpointing, bfloat16, 4 bits and shards is enough: take a LoRA or a larger device"
)

Peak = Callable[[EditTrainConfig, int], float]
"""Peak memory in bytes, from a run's settings and the number of devices."""


def suggest_settings(settings: EditTrainConfig, device: PlannedDevice, room: float, peak: Peak) -> str:
    """Return the mildest settings that fit, in the command line's form, or say that none fits."""
    told: list[str] = []
    least = settings
    for changes in _mildest_first(settings, device.count > 1):
        try:
            changed = config.build(EditTrainConfig, asdict(settings), [*told, *changes])
        except EditkitError:  # they do not go together with what is set
            continue
        if changed == least:
            continue
        told, least = [*told, *changes], changed
        if peak(least, device.count) <= room:
            return " ".join(told)
    if device.kind is not None and settings.trainable != "lora":
        for count in SHARDS:
            if count > device.count and peak(least, count) <= room:
                return " ".join([*told, f"--plan-device {count}x{device.kind}", LAUNCH])
    return NOTHING_FITS


def _mildest_first(settings: EditTrainConfig, shards: bool) -> Iterator[tuple[str, ...]]:
    """Yield changes, mildest first; each adds to the ones before."""
    fit = settings.fit
    yield ("cache_texts=true",)
    yield ("gradient_checkpointing=true",)
    yield ("fit.precision=bf16",)
    yield ("dtype=bfloat16",)
    yield "fit.batch=1", f"fit.accumulate={fit.batch * fit.accumulate}"
    # Neither weights of 4 bits nor bitsandbytes' optimizers work in shards.
    if settings.trainable == "lora" and not (shards or settings.load.get("quantization")):
        yield *NF4, *(("fit.optim.name=adamw8bit",) if fit.optim.name == "adamw" else ())
