"""Trains the stages of a list, each in a process of its own, and puts their weights where they are used."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from editkit import adapters, atomic_files, file_locks
from editkit.errors import EditkitError, first_sentence
from editkit.train import stages
from editkit.train.stages import Stage
from editkit.train.stopping import RunStoppedError

HEARTBEAT = 60.0
"""Seconds between two lines on how far a stage is."""


def run(path: Path) -> None:
    """Train what a list names and is not trained yet, and install all of it.

    Raises:
        RunStoppedError: on Ctrl-C and SIGTERM, once the run under way has saved.
        EditkitError: where the list does not fit, is being trained already, or a run fails.
    """
    listed = stages.read_stages(path)
    with _alone(path) as lock, _stoppable(path):
        for number, stage in enumerate(listed):
            _one(stage, partial(_tell, listed, number), lock)


def _tell(listed: list[Stage], number: int) -> None:
    print(stages.progress_line(listed, number), flush=True)


def _one(stage: Stage, tell: Callable[[], None], lock: int) -> None:
    """Train a stage, unless that is done, and install it."""
    origin = stage.origin()
    if stage.finished(origin):
        tell()
    else:
        _set_aside(stage, origin)
        stage.rewind()
        tell()
        _train(stage, origin, tell, lock)
    if stage.about.install:
        install(stage.export, Path(stage.about.install))


def _set_aside(stage: Stage, origin: str) -> None:
    """Rename the output of a run that started from something else, so that the stage begins anew."""
    if stage.recorded().get("origin", origin) == origin:
        return
    aside = stage.output.with_name(f"abandoned-{stage.output.name}")
    shutil.rmtree(aside, ignore_errors=True)
    stage.output.rename(aside)
    print(f"{stage.about.config} now starts from something else; its last run is in {aside}", flush=True)


def _train(stage: Stage, origin: str, tell: Callable[[], None], lock: int) -> None:
    """Train a stage to its end, and record from where it came to what."""
    stage.write(origin=origin)
    _wait(_started(stage, lock), stage, tell)
    digest = stages.weights(stage.export)
    if not digest:
        raise EditkitError(f"The run of {stage.about.config} left no weights in {stage.export}.")
    stage.write(origin=origin, steps=stage.fit.steps, weights=digest)


def _wait(process: "subprocess.Popen[bytes]", stage: Stage, tell: Callable[[], None]) -> None:
    """Wait for a stage's process, and tell now and then how far it is."""
    try:
        while _runs(process):
            tell()
    finally:
        if process.poll() is None:
            process.terminate()  # upon which it saves
            process.wait()
    if process.returncode:
        ended = f"was ended by signal {-process.returncode}"
        how = ended if process.returncode < 0 else "failed for the reason that it gives"
        raise EditkitError(
            f"The training of {stage.about.config} {how}; correct that, then give the same command again."
        )


def _started(stage: Stage, lock: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "editkit", "train", stage.about.config, "fit.resume=latest"]
    # Ctrl-C reaches every process of a terminal, but ends this one alone, which has the other save first.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=[lock])
    finally:
        signal.signal(signal.SIGINT, before)


def _runs(process: "subprocess.Popen[bytes]") -> bool:
    """Wait for a heartbeat, and say whether the process still runs."""
    try:
        process.wait(HEARTBEAT)
    except subprocess.TimeoutExpired:
        return True
    return False


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """A lock on a list; a trainer inherits it, and holds it also where this process is killed."""
    with path.open("rb") as file:
        if file_locks.lock(file, wait=False) is file_locks.Outcome.TAKEN:
            raise EditkitError(f"Another process trains {path} already; wait for it or end it.")
        yield file.fileno()


@contextmanager
def _stoppable(path: Path) -> Iterator[None]:
    """SIGTERM as Ctrl-C, and either as one sentence."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as error:
        raise RunStoppedError(f"The training of {path} was stopped; the same command goes on.") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def install(export: Path, place: Path) -> None:
    """Put exported weights where they are used, whole or not at all; of an adapter its file alone, in bf16.

    Raises:
        EditkitError: where the disk refuses; what was there is then still there.
    """
    try:
        if (export / adapters.FILE).is_file():
            _install_adapter(export, place)
        else:
            with atomic_files.beside(place) as copy:
                shutil.copytree(export, copy)
    except (OSError, SafetensorError) as error:
        raise EditkitError(
            f"The weights in {export} cannot be put into {place} ({first_sentence(error)}); free some space."
        ) from error
    print(f"{export} is installed in {place}", flush=True)


def _install_adapter(export: Path, place: Path) -> None:
    """Metadata stay as they are, since they hold an adapter's scale."""
    tensors, about = adapters.read_adapter(export)
    with atomic_files.beside(place / adapters.FILE) as file:
        save_file({name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}, file, about)
