"""The training loop of all jobs: on accelerate, with exact resume."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from editkit.errors import EditkitError
from editkit.train.config import FitConfig
from editkit.train.job import Job
from editkit.train.run_state import Run


class StoppedError(EditkitError):
    """An error for a run that was told to stop; its checkpoint is written."""

    status = 143
    """Exit status of a process that SIGTERM ended."""


def fit(job: Job, config: FitConfig) -> float:
    """Train, write checkpoints, export; return the last logged loss.

    A resumed run repeats the uninterrupted one exactly: a sample depends on its index only, and the global
    random state on step and process only. Several processes give the same run as one, as long as the loss is
    a plain mean over samples and the model draws nothing at random.

    Raises:
        StoppedError: on SIGTERM, once the step is done and a checkpoint written.
        EditkitError: where the loss is not finite or a checkpoint does not fit.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    run = Run(job, config)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _asked_to_stop() as stop, Progress(*columns, disable=not run.main) as progress:
        bar = progress.add_task("training", total=config.steps, completed=run.done)
        while run.done < config.steps:
            run.step()
            last = run.done == config.steps
            if run.done % config.log_every == 0 or last:
                run.record()
                progress.update(bar, description=run.summary_line())
            asked = run.agreed(bool(stop))
            if run.done % config.save_every == 0 or last or asked:
                run.check_losses()
                run.save()
            if config.validate_every and not asked and (run.done % config.validate_every == 0 or last):
                run.validate()
            progress.update(bar, completed=run.done)
            if asked and not last:
                raise StoppedError(
                    f"Training was stopped after step {run.done} and saved in {config.output}; "
                    "fit.resume=latest goes on."
                )
    run.export(run.output / "export")
    run.accelerator.wait_for_everyone()
    for tracker in run.accelerator.trackers:
        tracker.finish()
    return run.loss


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Catch SIGTERM within the block; the list holds the signal's number once it has arrived."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread gets signals
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def own_device() -> None:
    """Load everything to the GPU that the launcher chose for this process."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(rank))
