"""The training loop of all jobs: on accelerate, with exact resume."""

import math
import os

import torch

from editkit.train import metrics_log, status, stopping
from editkit.train.config import FitConfig
from editkit.train.job import Job
from editkit.train.run_state import Run
from editkit.train.stopping import RunStoppedError


def fit(job: Job, config: FitConfig) -> float:
    """Train, write checkpoints, export; return the last logged loss.

    A resumed run repeats the uninterrupted one exactly: a sample depends on its index only, and the global
    random state on step and process only. Several processes give the same run as one, as long as the loss is
    a plain mean over samples and the model draws nothing at random.

    Raises:
        RunStoppedError: on SIGTERM or Ctrl-C, once the step is done and a checkpoint written.
        EditkitError: where the loss is not finite or a checkpoint does not fit.
    """
    run = Run(job, config)
    with stopping.noted() as signals:
        _tell(run)
        if run.agreed(_validation_is_due(run) and not _is_validated(run)):  # the run ended during it
            _validate(run, signals)
            if run.agreed(bool(signals)) and run.done < config.steps:
                raise _stopped(run, signals)
        while run.done < config.steps:
            run.step()
            last = run.done == config.steps
            if run.done % config.log_every == 0 or last:
                run.record()
            _tell(run)
            asked = run.agreed(bool(signals))
            saved = run.done % config.save_every == 0 or last or asked
            if saved:
                _save(run)
            if not asked and _validation_is_due(run):
                _validate(run, signals)
                asked = run.agreed(bool(signals))
                if asked and not saved:
                    _save(run)
            if asked and not last:
                raise _stopped(run, signals)
        run.export(run.output / "export")
        run.accelerator.wait_for_everyone()
        for tracker in run.accelerator.trackers:
            tracker.finish()
    return run.loss


def _save(run: Run) -> None:
    run.check_losses()
    run.save()


def _validation_is_due(run: Run) -> bool:
    """Whether the weights of the steps that are done are to be validated."""
    every, last = run.config.validate_every, run.done == run.config.steps
    return every > 0 and run.done > 0 and (run.done % every == 0 or last)


def _is_validated(run: Run) -> bool:
    """Whether the log has the validation of the steps that are done."""
    return metrics_log.holds(run.output / "validation.jsonl", run.done)


def _validate(run: Run, signals: list[int]) -> None:
    """Validate; a signal ends it at once, unless other processes would wait for this one."""
    status.tell(status.VALIDATING)
    try:
        run.validate()
    except stopping.StopRequest as request:
        signals.append(request.number)
    _tell(run)


def _tell(run: Run) -> None:
    detail = "" if math.isnan(run.seconds) else run.summary_line()
    status.tell(status.TRAINING, run.done, run.config.steps, detail)


def _stopped(run: Run, signals: list[int]) -> RunStoppedError:
    said = (
        f"Training was stopped after step {run.done} and saved in {run.config.output}; "
        "fit.resume=latest goes on."
    )
    return RunStoppedError(said, *signals[:1])  # none where another process got the signal


def own_device() -> None:
    """Load everything to the GPU that the launcher chose for this process."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(rank))
