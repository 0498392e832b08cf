"""Check a run before anything of it is made."""

from pathlib import Path

from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train import checkpoints, metrics_log, optim
from editkit.train.config import FitConfig
from editkit.train.distributed import deepspeed


def check_run(config: FitConfig) -> Path | None:
    """Check a run's options, and return the checkpoint to go on from, or None.

    Raises:
        EditkitError: where the checkpoint is missing, the output cannot be made or holds another run, the
            launcher's settings of DeepSpeed do not work, or a tracker or optimizer is unknown or not
            installed.
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
    return checkpoints.find(output, config.resume)
