"""Check a run before it makes or loads anything."""

from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train import checkpoints, metrics_log, optim, resuming
from editkit.train.config import FitConfig
from editkit.train.distributed import deepspeed


def check_run(config: FitConfig, settings: Any = None) -> Path | None:
    """Check a run's config, and return the checkpoint to resume from, or None.

    Args:
        config: length, batches and output of the run.
        settings: all settings of the run, a dataclass, to compare with the checkpoint's; None not to compare.

    Raises:
        EditkitError: if there is no such checkpoint, or it has other settings; if the output cannot be made
            or holds another run; if the launcher asks for parts of DeepSpeed that do not work here; or if a
            tracker or an optimizer is unknown or not installed.
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
