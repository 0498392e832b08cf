"""Check a run before anything of it is made."""

from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train import checkpoints, metrics_log, optim, resuming
from editkit.train.config import FitConfig
from editkit.train.distributed import deepspeed


def check_run(config: FitConfig, settings: Any = None) -> Path | None:
    """The checkpoint to go on from, or None; to be asked before anything that takes long.

    Args:
        config: how the run goes.
        settings: the whole run's, a dataclass; not compared with the checkpoint's where None.

    Raises:
        EditkitError: where there is no such checkpoint, or it is one of other settings, the output cannot be
            made or holds another run, the launcher asks for more of DeepSpeed than works, or a tracker or an
            optimizer is unknown or not installed.
    """
    deepspeed.check(config)
    metrics_log.trackers(config.trackers)
    optim.check(config.optim)
    images.check_folder(config.output)
    output = Path(config.output)
    if config.resume is None and checkpoints.complete(output):
        raise EditkitError(
            f"The folder {output} holds an earlier run; give fit.resume=latest to go on with it, "
            f"or another fit.output."
        )
    found = checkpoints.find(output, config.resume)
    if found and settings is not None:
        resuming.check(found, config, settings)
    return found
