"""The state of a run: weights, optimizers and average, step by step, with exact resume."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from editkit import atomic_files
from editkit.errors import EditkitError, first_sentence
from editkit.train import checkpoints, metrics_log, resuming, stopping
from editkit.train.config import FitConfig
from editkit.train.distributed import deepspeed, fsdp
from editkit.train.distributed.accelerator import make_accelerator
from editkit.train.distributed.failure import FollowingError
from editkit.train.job import Job
from editkit.train.optim import Ema, make_optimizers, rate, set_training
from editkit.train.optimizer_step import sample_indices, set_rates, take_step
from editkit.train.preflight import check_run

RECENT = 10
"""Number of logged losses with which a batch's loss is compared."""


class Run:
    """A run: a job's weights, optimizers and average, and the number of steps done.

    Attributes:
        done: number of optimizer steps done.
        loss: the last logged loss.
        seconds: the last logged seconds of a step.
        main: whether this process writes files.
        sharded: whether weights are in shards.
    """

    def __init__(self, job: Job, config: FitConfig) -> None:
        self.job, self.config, self.output = job, config, Path(config.output)
        self.sharded = fsdp.wanted()
        found = check_run(config, job.settings)
        self.accelerator = make_accelerator(config)
        self.accelerator.init_trackers("tracked")
        self.main: bool = self.accelerator.is_main_process
        self.output.mkdir(parents=True, exist_ok=True)
        if self.sharded and (rows := job.weight_rows()):
            fsdp.shard(job.objective, self.accelerator, rows)
        self.optimizers = make_optimizers(job.objective.named_parameters(), config.optim)
        self.objective, *self._prepared = self.accelerator.prepare(job.objective, *self.optimizers)
        # After prepare, which replaces parameters by their shards.
        self.parameters = {name: p for name, p in job.objective.named_parameters() if p.requires_grad}
        job.placed()
        set_training(self.optimizers, True)
        self.ema = Ema(self.parameters, config.ema) if config.ema else None
        whole = self._whole_optimizers()
        self.done = checkpoints.load_checkpoint(found, self.parameters, whole, self.ema) if found else 0
        if deepspeed.wanted():
            deepspeed.spread(whole[0], self._prepared[0].optimizer)
        self.seconds = math.nan
        self._log = self.output / "log.jsonl"
        if self.main:
            checkpoints.set_aside(self.output, self.done)
            atomic_files.clean(self.output)
            metrics_log.trim(self._log, self.done)
        self._recent = deque(metrics_log.recent_losses(self._log, RECENT) if self.main else (), maxlen=RECENT)
        self.loss = self._recent[-1] if self._recent else math.nan
        self._best: dict[str, float] | None = None
        if config.validate_every:
            if self.main:
                metrics_log.trim(self.output / "validation.jsonl", self.done)
            self.accelerator.wait_for_everyone()
            self._best = metrics_log.best_of(self.output / "validation.jsonl")
        # Losses stay tensors until they are logged, so that steps do not wait for an accelerator.
        self._losses: list[Tensor] = []
        self._clock = time.perf_counter()

    def _whole_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers; under DeepSpeed, whose states are in shards, new ones over whole weights."""
        if not deepspeed.wanted():
            return self.optimizers
        return make_optimizers(self.job.objective.named_parameters(), self.config.optim)

    def step(self) -> None:
        """Take one optimizer step.

        Raises:
            EditkitError: where DeepSpeed skipped it, since the gradients are not finite.
        """
        set_rates(self.optimizers, rate(self.done, self.config.steps, self.config.optim))
        self._losses += take_step(
            self.job, self.objective, self._prepared, self.accelerator, self.config, self.done
        )
        if self.ema:
            self.ema.update(self.done)
        self.done += 1
        if any(optimizer.step_was_skipped for optimizer in self._prepared):
            self.check_losses()  # says more, if the loss is the reason
            raise EditkitError(
                f"The gradients are not finite at step {self.done}; lower the learning rate and resume."
            )

    def agreed(self, asked: bool) -> bool:
        """Whether any process was asked to stop, so that all of them stop after the same step."""
        if self.accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum") > 0)

    def record(self) -> None:
        """Log the mean loss since the last record.

        Raises:
            EditkitError: where a loss is not finite.
        """
        self.check_losses()
        mean = torch.stack(self._losses).mean()
        self.loss = float(self.accelerator.reduce(mean, reduction="mean"))
        self._recent.append(self.loss)
        seconds = (time.perf_counter() - self._clock) / (len(self._losses) / self.config.accumulate)
        own = self.job.figures()
        self._write(self._log, {"loss": round(self.loss, 6), "seconds_per_step": round(seconds, 4)} | own)
        self.accelerator.log({"loss": self.loss, "seconds per step": seconds} | own, step=self.done)
        self.seconds = seconds
        self._losses, self._clock = [], time.perf_counter()

    def _write(self, path: Path, figures: dict[str, float]) -> None:
        """Append figures to a log, if there are any; if that fails, all processes save and stop."""
        problem = None
        try:
            if self.main and figures:
                metrics_log.append(path, {"step": self.done} | figures)
        except EditkitError as error:
            problem = error
        if self.agreed(problem is not None):
            self.save()
            raise problem or FollowingError(f"Another process stopped at step {self.done}; see its message.")

    def summary_line(self) -> str:
        """Describe loss, speed and memory in one line."""
        speed = f"{self.seconds:.2f} s a step, {self.config.samples / self.seconds:.1f} samples a second"
        return f"loss {self.loss:.4f}, {speed}, {metrics_log.memory() / 1e9:.1f} GB"

    def check_losses(self) -> None:
        """Stop at the first batch whose loss is not finite or far above the others, and write it.

        Raises:
            EditkitError: for such a batch.
        """
        before = max(self._recent, default=math.inf)  # losses differ between the datasets of a mixture
        limit = self.config.spike * before if self.config.spike else math.inf
        first = self.done - len(self._losses) // self.config.accumulate
        if not self._losses:
            return
        losses = torch.stack(self._losses).tolist()
        # All processes stop together, or the others would wait for one.
        if not self.agreed(any(not math.isfinite(loss) or loss > limit for loss in losses)):
            return
        for place, loss in enumerate(losses):
            if math.isfinite(loss) and loss <= limit:
                continue
            late, micro = divmod(place, self.config.accumulate)
            number = first + late + 1
            folder = self.output / f"batch-{number:07d}"
            places = sample_indices(self.config, self.accelerator, number - 1, micro)
            kept = f" (the batch is in {folder})" if self.job.keep(places, folder) else ""
            problem = f"{before:.3g} before" if math.isfinite(loss) else "no number"
            raise EditkitError(
                f"The loss is {loss:.3g} at step {number}, {problem}{kept}; look at the data, "
                "lower the learning rate, or set fit.spike=0, and resume."
            )
        raise FollowingError(f"Another process stopped at step {self.done}; see its message.")

    def validate(self) -> None:
        """Validate the weights that would be exported, and export them if they are the best so far."""
        figures: dict[str, float] = {}
        if self.main or self.sharded:
            alone = self.accelerator.num_processes == 1  # else others would wait for the one that stops
            with self._averaged(), stopping.at_once() if alone else nullcontext():
                # With weights in shards all processes must take part, or one would wait for others.
                figures = self.job.validate(self.done, self.output / "validation" if self.main else None)
        self._write(self.output / "validation.jsonl", figures)
        if not figures:
            return
        self.accelerator.log(figures, step=self.done)
        if metrics_log.better(figures, self._best):
            self._best = figures
            self.export(self.output / "best")

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Use the moving average instead of the weights within the block, where there is one."""
        set_training(self.optimizers, False)
        if self.ema:
            self.ema.swap()
        try:
            yield
        finally:
            if self.ema:
                self.ema.swap()
            set_training(self.optimizers, True)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            EditkitError: where the weights are not finite or the checkpoint cannot be written.
        """
        finite = all(torch.isfinite(fsdp.local_shard(p)).all() for p in self.parameters.values())
        if self.agreed(not finite):
            # Nobody can resume from such a checkpoint, and it would replace a good one.
            raise EditkitError(
                f"The weights are not finite at step {self.done}; lower the learning rate and resume."
            )
        whole = self._whole_optimizers()
        if deepspeed.wanted():
            deepspeed.gather(self.optimizers[0], whole[0], self.main)
        checkpoints.save(
            self.output,
            self.done,
            self.parameters,
            whole,
            self.ema,
            self.config.keep,
            None if self.job.settings is None else resuming.kept(self.job.settings) | dict(self.job.contents),
            self.main,
        )

    def export(self, folder: Path) -> None:
        """Export the job's weights for use, or their moving average where there is one.

        Raises:
            EditkitError: where they cannot be written.
        """
        try:
            whole = self.job.objective, self.main, self.job.exports_frozen
            with self._averaged(), fsdp.whole_weights(*whole):
                if self.main:
                    self.job.export(folder)
        except (OSError, SafetensorError) as error:
            problem = first_sentence(error)
            raise EditkitError(
                f"{folder} cannot be written ({problem}); free some space and resume."
            ) from error
