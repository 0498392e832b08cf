"""The training loop, one for everything that trains: accelerate underneath, exact resume on top."""

import json
import math
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from editkit import images
from editkit.errors import EditkitError, first_sentence
from editkit.registry import unknown
from editkit.train import checkpoints
from editkit.train.optim import Ema, OptimConfig, optimizers, rate


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long, how large, how precise, and where it is kept."""

    output: str = "out/train"
    steps: int = 1000
    batch: int = 16
    """Samples in one forward pass of one process."""
    accumulate: int = 1
    """Forward passes to an optimizer step."""
    precision: str = "bf16"
    """`bf16` (autocast over fp32 weights) or `fp32`."""
    ema: float = 0.0
    """Decay of the moving average of weights, which is what gets exported; 0 keeps none."""
    seed: int = 0
    save_every: int = 500
    keep: int = 2
    log_every: int = 20
    validate_every: int = 0
    """Steps between looks at held-out edits; the best weights so far are kept in `best`. 0 for none."""
    spike: float = 20.0
    """Stop where a batch's loss is so many times the mean logged last; 0 for never."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where figures go besides log.jsonl: accelerate's names, such as tensorboard and wandb."""
    resume: str | None = None
    """`latest`, or a checkpoint folder."""
    device: str | None = None
    """`cpu`, or null for what accelerate finds."""
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        if self.validate_every < 0 or self.spike < 0:
            raise ValueError("fit.validate_every and fit.spike must not be negative")
        for name in ("steps", "batch", "accumulate", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"fit.{name} must be at least 1, not {getattr(self, name)}")
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"fit.precision must be bf16 or fp32, not {self.precision!r}")
        if self.device not in (None, "cpu"):
            raise ValueError(
                f"fit.device must be cpu or null, for what accelerate finds, not {self.device!r}"
            )

    @property
    def samples(self) -> int:
        """Samples of one optimizer step, over all processes."""
        return self.batch * self.accumulate * int(os.environ.get("WORLD_SIZE", "1"))


class Job(ABC):
    """What `fit` trains. The objective's forward takes a batch and returns the loss."""

    objective: nn.Module

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Any:
        """The samples at these places of an endless, deterministic stream, as one batch."""

    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Figures of the weights as they are, by name; pictures go into the folder. None by default."""
        return {}

    def keep(self, indices: Sequence[int], folder: Path) -> bool:
        """Write a batch out for people to look at; whether that was done, which it is not by default."""
        return False

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the trained weights as they are now, for use."""


def check(config: FitConfig) -> Path | None:
    """The checkpoint to go on from, or None; to be asked before anything that takes long.

    Raises:
        EditkitError: where there is no such checkpoint, the output cannot be made, or it holds another run.
    """
    images.check_folder(config.output)
    output = Path(config.output)
    if config.resume is None and checkpoints.everything(output):
        raise EditkitError(
            f"The folder {output} holds an earlier run; give fit.resume=latest to go on with it, "
            f"or another fit.output."
        )
    return checkpoints.find(output, config.resume)


class StoppedError(EditkitError):
    """The run was told to stop, and its checkpoint is written."""

    status = 143
    """What a process that SIGTERM ended gives its parent."""


def fit(job: Job, config: FitConfig) -> float:
    """Train, checkpoint, export; returns the last logged loss.

    A sample depends on its index alone and the global random state on step and process alone, so a resumed
    run repeats what an uninterrupted one would have done. Several processes repeat one as far as the loss is
    a plain mean over samples and nothing is dropped at random.

    Raises:
        StoppedError: on SIGTERM, once the step is done and a checkpoint written.
        EditkitError: where the loss stops being finite or a checkpoint does not fit.
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
                progress.update(bar, description=f"loss {run.loss:.4f}")
            asked = run.agreed(bool(stop))
            if run.done % config.save_every == 0 or last or asked:
                run.check_losses()
                if run.main:
                    run.save()
            if (
                run.main
                and not asked
                and config.validate_every
                and (run.done % config.validate_every == 0 or last)
            ):
                run.validate()
            progress.update(bar, completed=run.done)
            if asked and not last:
                raise StoppedError(
                    f"Training was stopped after step {run.done} and saved in {config.output}; "
                    "fit.resume=latest goes on."
                )
    if run.main:
        export(job, run.ema, run.output / "export")
    run.accelerator.wait_for_everyone()
    for tracker in run.accelerator.trackers:
        tracker.finish()
    return run.loss


class Run:
    """A job's weights, optimizers and average, and how far they are.

    Attributes:
        done: optimizer steps so far.
        loss: the last one logged.
        main: whether this process writes.
    """

    def __init__(self, job: Job, config: FitConfig) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        self.job, self.config, self.output = job, config, Path(config.output)
        found = check(config)
        AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
        self.accelerator = Accelerator(
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            gradient_accumulation_steps=config.accumulate,
            cpu=config.device == "cpu",
            log_with=_trackers(config.trackers) or None,
            project_dir=config.output,
        )
        self.accelerator.init_trackers("tracked")
        self.main: bool = self.accelerator.is_main_process
        self.output.mkdir(parents=True, exist_ok=True)
        self.parameters = {name: p for name, p in job.objective.named_parameters() if p.requires_grad}
        self.optimizers = optimizers(self.parameters.items(), config.optim)
        self.objective, *self._prepared = self.accelerator.prepare(job.objective, *self.optimizers)
        self.ema = Ema(self.parameters, config.ema) if config.ema else None
        self.done = checkpoints.load(found, self.parameters, self.optimizers, self.ema) if found else 0
        self.loss = math.nan
        self._log = self.output / "log.jsonl"
        if self.main:
            checkpoints.set_aside(self.output, self.done)
            _trim(self._log, self.done)
            self.loss = last_figures(self.output).get("loss", math.nan)
        self._best: dict[str, float] | None = None
        if self.main and config.validate_every:
            _trim(self.output / "validation.jsonl", self.done)
            self._best = _best(self.output / "validation.jsonl")
        # Losses stay tensors until they are logged, so that an accelerator is not waited for at every step.
        self._losses: list[Tensor] = []
        self._clock = time.perf_counter()

    def step(self) -> None:
        """One optimizer step."""
        _set_rates(self.optimizers, rate(self.done, self.config.steps, self.config.optim))
        self._losses += _step(
            self.job, self.objective, self._prepared, self.accelerator, self.config, self.done
        )
        if self.ema:
            self.ema.update(self.done)
        self.done += 1

    def agreed(self, asked: bool) -> bool:
        """Whether any process was asked to stop, so that all of them stop after the same step."""
        if self.accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum") > 0)

    def record(self) -> None:
        """Log the mean loss since the last time.

        Raises:
            EditkitError: where it is not finite.
        """
        self.check_losses()
        mean = torch.stack(self._losses).mean()
        self.loss = float(self.accelerator.reduce(mean, reduction="mean"))
        seconds = (time.perf_counter() - self._clock) / (len(self._losses) / self.config.accumulate)
        if self.main:
            record = {"step": self.done, "loss": round(self.loss, 6), "seconds_per_step": round(seconds, 4)}
            _append(self._log, record)
        self.accelerator.log({"loss": self.loss, "seconds per step": seconds}, step=self.done)
        self._losses, self._clock = [], time.perf_counter()

    def check_losses(self) -> None:
        """Stop at the first batch whose loss is no number or far above the others, and keep it."""
        limit = self.config.spike * self.loss if self.config.spike and math.isfinite(self.loss) else math.inf
        first = self.done - len(self._losses) // self.config.accumulate
        if not self._losses:
            return
        losses = torch.stack(self._losses).tolist()
        # All processes stop where one has to, or the others would wait for it.
        if not self.agreed(any(not math.isfinite(loss) or loss > limit for loss in losses)):
            return
        for place, loss in enumerate(losses):
            if math.isfinite(loss) and loss <= limit:
                continue
            step, micro = divmod(place, self.config.accumulate)
            folder = self.output / f"batch-{first + step + 1:07d}"
            indices = _indices(self.config, self.accelerator, first + step, micro)
            kept = f" (the batch is in {folder})" if self.job.keep(indices, folder) else ""
            problem = f"{self.loss:.3g} before" if math.isfinite(loss) else "no number"
            raise EditkitError(
                f"The loss is {loss:.3g} at step {first + step + 1}, {problem}{kept}; look at the data, "
                "lower the learning rate, or set fit.spike=0, and resume."
            )
        raise EditkitError(f"Another process stopped by step {self.done}; see what it says.")

    def validate(self) -> None:
        """Look at held-out edits with the weights that would be exported, and keep the best."""
        with averaged(self.ema):
            figures = self.job.validate(self.done, self.output / "validation")
        if not figures:
            return
        _append(self.output / "validation.jsonl", {"step": self.done} | figures)
        self.accelerator.log(figures, step=self.done)
        if better(figures, self._best):
            self._best = figures
            export(self.job, self.ema, self.output / "best")

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            EditkitError: where the weights are not finite or it cannot be written.
        """
        if not all(torch.isfinite(p).all() for p in self.parameters.values()):
            # No such checkpoint could be resumed from, and it would push out one that can.
            raise EditkitError(
                f"The weights are not finite at step {self.done}; lower the learning rate and resume."
            )
        keep = self.config.keep
        checkpoints.save(self.output, self.done, self.parameters, self.optimizers, self.ema, keep)


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Holds a signal's number once SIGTERM has come, which ends nothing by itself within."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def export(job: Job, ema: Ema | None, folder: Path) -> None:
    """Write the job's weights for use: the moving average where there is one.

    Raises:
        EditkitError: where they cannot be written.
    """
    try:
        with averaged(ema):
            job.export(folder)
    except (OSError, SafetensorError) as error:
        problem = first_sentence(error)
        raise EditkitError(f"{folder} cannot be written ({problem}); free some space and resume.") from error


@contextmanager
def averaged(ema: Ema | None) -> Iterator[None]:
    """The moving average in place of the weights, where there is one."""
    if ema:
        ema.swap()
    try:
        yield
    finally:
        if ema:
            ema.swap()


def better(figures: dict[str, float], best: dict[str, float] | None) -> bool:
    """Whether these figures beat the best so far: by success where it is counted, else by the first."""
    if best is None or not all(map(math.isfinite, best.values())):
        return True
    if "success" in figures and "success" in best:
        return figures["success"] > best["success"]
    name = next(iter(figures))
    return figures[name] < best[name]


def last_figures(output: Path) -> dict[str, float]:
    """What a run logged last: loss, and figures of its validation."""
    found: dict[str, float] = {}
    for name in ("log.jsonl", "validation.jsonl"):
        path = output / name
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines:
            found |= json.loads(lines[-1])
    return found


def _trackers(names: Sequence[str]) -> list[str]:
    """Those that are installed; a missing TensorBoard is no reason not to train."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if strange := [name for name in names if name not in LOGGER_TYPE_TO_CLASS]:
        raise EditkitError(unknown("tracker", strange[0], LOGGER_TYPE_TO_CLASS))
    found = [name for name in names if name != "tensorboard" or find_spec("tensorboard")]
    for name in found:
        if not find_spec(name):
            raise EditkitError(f"The tracker {name} is not installed; run: pip install {name}")
    return found


def own_device() -> None:
    """Make a launcher's choice of GPU for this process the one that everything is loaded to."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(rank))


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(record) + "\n")


def _trim(log: Path, start: int) -> None:
    """Drop what was logged after the checkpoint that the run goes on from; everything, for a new run."""
    lines = log.read_text().splitlines(keepends=True) if start and log.is_file() else []
    kept = (line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start)
    partial = log.with_name(f".{log.name}.partial")
    partial.write_text("".join(kept))
    os.replace(partial, log)


def _best(path: Path) -> dict[str, float] | None:
    """The best figures of a run that goes on."""
    best = None
    for line in path.read_text().splitlines():
        figures = {name: value for name, value in json.loads(line).items() if name != "step"}
        best = figures if better(figures, best) else best
    return best


def _indices(config: FitConfig, accelerator: Any, step: int, micro: int) -> range:
    """The samples of one forward pass of this process."""
    passes = (step * config.accumulate + micro) * accelerator.num_processes + accelerator.process_index
    return range(passes * config.batch, (passes + 1) * config.batch)


def _set_rates(movers: list[torch.optim.Optimizer], factor: float) -> None:
    for mover in movers:
        for group in mover.param_groups:
            group["lr"] = group["peak"] * factor


def _step(
    job: Job, objective: nn.Module, movers: list[Any], accelerator: Any, config: FitConfig, step: int
) -> list[Tensor]:
    """One optimizer step; returns the detached loss of each forward pass."""
    torch.manual_seed(hash((config.seed, step, accelerator.process_index)) % 2**63)
    losses = []
    for micro in range(config.accumulate):
        with accelerator.accumulate(objective):
            loss = objective(job.batch(_indices(config, accelerator, step, micro)))
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(objective.parameters(), config.optim.clip)
            for mover in movers:
                mover.step()
                mover.zero_grad()
        losses.append(loss.detach())
    return losses
