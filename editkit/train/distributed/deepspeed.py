"""Optimizer state in shards over several processes: DeepSpeed's ZeRO, as accelerate's launcher asks for it.

Every process has all of the weights, as under DDP; of their gradients and AdamW's moments it has a part.
"""

import os
from importlib.util import find_spec
from typing import Any

import torch

from editkit.errors import EditkitError
from editkit.train.config import FitConfig

STAGES = ("1", "2")
"""Optimizer state in shards, and gradients too."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's."""


def wanted() -> bool:
    """Whether the launcher asked for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("1", "true")


def check(config: FitConfig) -> None:
    """Refuse what does not work under DeepSpeed.

    Raises:
        EditkitError: where it is not installed, or asked for what this trainer does not do with it.
    """
    if not wanted():
        return
    asked = {name: os.environ.get(f"ACCELERATE_DEEPSPEED_{name}") for name in ("ZERO_STAGE", "CONFIG_FILE")}
    if asked["CONFIG_FILE"]:
        raise EditkitError("deepspeed_config_file is not read; give zero_stage in accelerate's YAML instead.")
    if (stage := asked["ZERO_STAGE"] or "2") not in STAGES:
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
            "optim.name must be adamw under DeepSpeed, which moves all weights as one vector, "
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
    """accelerate's, from the launcher's settings and the run's."""
    from accelerate import DeepSpeedPlugin, PartialState

    if config.device == "cpu":
        # accelerate leaves CPUs out, though DeepSpeed works on them through gloo.
        os.environ["DS_ACCELERATOR"] = "cpu"
        PartialState(cpu=True)
        from deepspeed import ops

        ops.__compatible_ops__["deepspeed_shm_comm"] = False  # which would have to be compiled first
    made = DeepSpeedPlugin(gradient_accumulation_steps=config.accumulate, gradient_clipping=config.optim.clip)
    made.deepspeed_config["train_micro_batch_size_per_gpu"] = config.batch
    if config.low:
        # Autocast over float32 weights, as everywhere else, with no gradient reduced in bf16.
        made.deepspeed_config["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        }
    return made


def gather(shards: torch.optim.Optimizer, whole: torch.optim.Optimizer, main: bool) -> None:
    """Fill a whole optimizer's state from the shards; all processes take part, `main` gets it, on the CPU."""
    from deepspeed.utils import safe_get_full_optimizer_state

    for part, group in zip(shards.param_groups, whole.param_groups, strict=True):
        state = shards.state[part["params"][0]]
        for parameter in group["params"]:
            moments = {name: safe_get_full_optimizer_state(parameter, name).cpu() for name in MOMENTS}
            if main:
                whole.state[parameter] = {"step": state["step"], **moments}


def spread(whole: torch.optim.Optimizer, zero_optimizer: Any) -> None:
    """Give DeepSpeed's optimizer the weights as they are, and a whole optimizer's state, where it has one."""
    from deepspeed.utils import safe_set_full_optimizer_state

    zero_optimizer.refresh_fp32_params()
    for part, group in zip(zero_optimizer.optimizer.param_groups, whole.param_groups, strict=True):
        (flat,) = part["params"]
        steps = [state["step"] for p in group["params"] if (state := whole.state.get(p))]
        moments = {name: torch.zeros_like(flat) for name in MOMENTS}
        zero_optimizer.optimizer.state[flat] = {"step": max(steps, default=torch.tensor(0.0)), **moments}
    # Left to itself it does so once the first group has made a step, when others have no state to be linked.
    zero_optimizer._lazy_init_hp_params_optimizer_state()
    for parameter, state in whole.state.items():
        for name in MOMENTS:
            safe_set_full_optimizer_state(parameter, state[name], name)
