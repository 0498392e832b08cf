"""The processes of a run: their number, and a group in which they can talk."""

import os
from typing import Any

from editkit.train.config import FitConfig
from editkit.train.distributed import deepspeed


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start(config: FitConfig) -> None:
    """Connect the processes of a launcher, as accelerate will for this config; nothing for one process."""
    if count() == 1:
        return
    from accelerate import PartialState

    if deepspeed.wanted() and config.on_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    PartialState(cpu=config.on_cpu)


def of_first(value: Any) -> Any:
    """Return the first process's value in all processes; all must call it after `start`."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
