"""Build the accelerator of a run: precision, devices, shards and trackers."""

from typing import Any

from editkit.train import metrics_log
from editkit.train.config import FitConfig
from editkit.train.distributed import deepspeed, fsdp


def make_accelerator(config: FitConfig) -> Any:
    """Build the accelerator that a config and the launcher ask for."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    return Accelerator(
        mixed_precision="bf16" if config.low and not deepspeed.wanted() else "no",
        gradient_accumulation_steps=config.accumulate,
        cpu=config.on_cpu and not deepspeed.wanted(),
        deepspeed_plugin=deepspeed.plugin(config) if deepspeed.wanted() else None,
        fsdp_plugin=fsdp.plugin(config.low, config.on_cpu) if fsdp.wanted() else None,
        log_with=metrics_log.trackers(config.trackers) or None,
        project_dir=config.output,
    )
