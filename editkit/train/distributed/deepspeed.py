"""Optimizer state in shards over several processes: DeepSpeed's ZeRO, as requested by accelerate's launcher.

Every process has all weights, as in DDP, and a shard of the gradients and of AdamW's moments.
"""

import os
from importlib.util import find_spec
from typing import Any

import torch

from editkit.errors import EditkitError
from editkit.train.config import FitConfig

STAGES = ("1", "2")
"""ZeRO stages: 1 has the optimizer state in shards, 2 the gradients too."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Names of AdamW's moments."""


def wanted() -> bool:
    """Whether the launcher asked for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("1", "true")


def check_deepspeed(config: FitConfig) -> None:
    """Check that a run can use DeepSpeed, where the launcher asks for it.

    Raises:
        EditkitError: where DeepSpeed is not installed or its settings do not work here.
    """
    if not wanted():
        return
    settings = {
        name: os.environ.get(f"ACCELERATE_DEEPSPEED_{name}") for name in ("ZERO_STAGE", "CONFIG_FILE")
    }
    if settings["CONFIG_FILE"]:
        raise EditkitError("deepspeed_config_file is not read; give zero_stage in accelerate's YAML instead.")
    if (stage := settings["ZERO_STAGE"] or "2") not in STAGES:
        raise EditkitError(
            f"zero_stage must be {' or '.join(STAGES)}, not {stage}; for weights in shards launch with "
            "configs/accelerate/fsdp2.yaml."
        )
    for part in ("optimizer", "param"):
        device = os.environ.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part.upper()}_DEVICE", "none")
        if device != "none":
            raise EditkitError(f"offload_{part}_device must be none, not {device}; leave it out.")
    if config.optim.name != "adamw":
        raise EditkitError(
            "optim.name must be adamw under DeepSpeed, which updates all weights as one vector, "
            f"not {config.optim.name}; launch with configs/accelerate/ddp.yaml for others."
        )
    if "LOCAL_RANK" not in os.environ:
        raise EditkitError(
            "DeepSpeed needs accelerate's launcher: "
            "accelerate launch --config_file configs/accelerate/deepspeed.yaml -m editkit train CONFIG.yaml"
        )
    if find_spec("deepspeed") is None:
        raise EditkitError("The launcher asks for DeepSpeed; run: pip install 'editkit[deepspeed]'.")


def plugin(config: FitConfig) -> Any:
    """Make accelerate's plugin for DeepSpeed from the settings of the launcher and of the run."""
    from accelerate import DeepSpeedPlugin, PartialState

    if config.on_cpu:
        # accelerate supports no CPUs here, though DeepSpeed works on them through gloo.
        os.environ["DS_ACCELERATOR"] = "cpu"
        PartialState(cpu=True)
        from deepspeed import ops

        ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would need compiling
    made = DeepSpeedPlugin(gradient_accumulation_steps=config.accumulate, gradient_clipping=config.optim.clip)
    made.deepspeed_config["train_micro_batch_size_per_gpu"] = config.batch
    if config.low:
        # Autocast over float32 weights, as in other runs; gradients are reduced in float32.
        made.deepspeed_config["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        }
    return made


def gather(shards: torch.optim.Optimizer, whole: torch.optim.Optimizer, main: bool) -> None:
    """Fill a whole optimizer's state, on the CPU of the main process; all processes must call it."""
    from deepspeed.utils import safe_get_full_optimizer_state

    for part, group in zip(shards.param_groups, whole.param_groups, strict=True):
        state = shards.state[part["params"][0]]
        for parameter in group["params"]:
            moments = {name: safe_get_full_optimizer_state(parameter, name).cpu() for name in MOMENTS}
            if main:
                whole.state[parameter] = {"step": state["step"], **moments}


def spread(whole: torch.optim.Optimizer, zero_optimizer: Any) -> None:
    """Give DeepSpeed's optimizer the current weights and the state of a whole optimizer, if it has one."""
    from deepspeed.utils import safe_set_full_optimizer_state

    zero_optimizer.refresh_fp32_params()
    for part, group in zip(zero_optimizer.optimizer.param_groups, whole.param_groups, strict=True):
        (flat,) = part["params"]
        steps = [state["step"] for p in group["params"] if (state := whole.state.get(p))]
        moments = {name: torch.zeros_like(flat) for name in MOMENTS}
        zero_optimizer.optimizer.state[flat] = {"step": max(steps, default=torch.tensor(0.0)), **moments}
    # DeepSpeed links states after the first group's step, when other groups have none; so link them now.
    zero_optimizer._lazy_init_hp_params_optimizer_state()
    for parameter, state in whole.state.items():
        for name in MOMENTS:
            safe_set_full_optimizer_state(parameter, state[name], name)
