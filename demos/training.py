"""The training run of a page: a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demos.run_files import RunFiles
from editkit import config, packages
from editkit.data import check as checks
from editkit.data.check import Check
from editkit.data.datasets import dataset
from editkit.errors import EditkitError
from editkit.train import status
from editkit.train.settings import EditTrainConfig
from editkit.train.status import Status

OUTPUT = Path("out/page")
MOST_STEPS = 1_000_000
CONFIGS = packages.ROOT / "configs"
PLAN_SECONDS = 120
STOPPED = (143, 130, -signal.SIGTERM)
"""Exit statuses of a run that was stopped; the last one of a run that had not begun to listen."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A config that trains an adapter.

    Attributes:
        name: its path below `configs`.
        method: name of the method that it trains.
        words: the comment in its first line.
    """

    name: str
    method: str
    words: str


def recipes(backbone: str) -> dict[str, Recipe]:
    """Find configs that train an adapter of a backbone and whose data exist, by name."""
    found = {}
    plain_first = sorted(CONFIGS.glob("*/*.yaml"), key=lambda path: path.with_suffix(""))
    for path in (each for each in plain_first if each.parent.name == backbone):
        values = config.read_yaml(path)
        fits = values.get("recipe") == "edit" and values.get("backbone") == backbone
        path_of_data = values.get("data", {}).get("path")
        fits = fits and (path_of_data is None or Path(path_of_data).exists())
        if fits and values.get("trainable", "lora") == "lora":
            name = path.relative_to(CONFIGS).as_posix()
            first = path.read_text(encoding="utf-8").splitlines()[0]
            found[name] = Recipe(name=name, method=str(values["method"]), words=first.lstrip("# "))
    return found


def plan(name: str, steps: int, settings: Mapping[str, Any]) -> str:
    """Return the output of `editkit train --plan` for a run.

    Raises:
        EditkitError: where it cannot be planned.
    """
    command = [*_command(name, steps, settings), "--plan"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PLAN_SECONDS, env=_environment()
        )
    except subprocess.TimeoutExpired as error:
        raise EditkitError(f"Planning took over {PLAN_SECONDS} s; ask again when less is running.") from error
    if done.returncode:
        raise EditkitError(_sentence(done.stderr))
    return done.stdout.strip()


def check_pairs(name: str, limit: int) -> Check:
    """Check the first pairs of a config.

    Raises:
        EditkitError: where they cannot be read at all.
    """
    settings = config.build(EditTrainConfig, config.read_yaml(CONFIGS / name))
    return checks.check_dataset(dataset(settings.data), limit)


def new_folder() -> Path:
    """Make a folder for a run's pairs, which must outlive the visit that brought them."""
    folder = OUTPUT.resolve() / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder, prefix=time.strftime("%Y%m%d-%H%M%S-")))


@dataclass(kw_only=True)
class Training:
    """A training run that the page started.

    Attributes:
        recipe: the config that is trained; None before the first run.
        steps: number of steps to train.
        output: folder of the run.
        settings: settings beside the config's, such as those of the visitor's data.
    """

    recipe: Recipe | None = None
    steps: int = 0
    output: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _one: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held from the check that no run is going on until one is; visitors may press Start at once."""

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, recipe: Recipe, steps: int, settings: Mapping[str, Any]) -> Path:
        """Start a new run; return its folder.

        Raises:
            EditkitError: where a run is going on, or the number of steps is none.
        """
        _check_steps(steps)
        name = Path(recipe.name).with_suffix("").as_posix().replace("/", "-")
        with self._one:
            self.check_free()
            self.recipe, self.steps, self.settings = recipe, steps, dict(settings)
            self.output = OUTPUT.resolve() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
            self._run()
            return self.output

    def resume(self, steps: int) -> None:
        """Resume the run from its last checkpoint.

        Raises:
            EditkitError: where a run is going on, or there is none to resume.
        """
        with self._one:
            self.check_free()
            if self.output is None:
                raise EditkitError("There is no run to go on with; start one first.")
            _check_steps(steps)
            self.steps = max(steps, self.steps)
            self._run("fit.resume=latest")

    def stop(self) -> bool:
        """Ask the run to save and end; return whether one was going on."""
        if not self.running or self._process is None:
            return False
        self._process.send_signal(signal.SIGTERM)
        return True

    def end(self) -> None:
        """Stop the run and wait until it has saved."""
        if self.stop() and self._process is not None:
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def status(self) -> Status | None:
        """Return what the run does, from its first second on; None before the first run."""
        if self._process is None or self.output is None:
            return None
        told = RunFiles(folder=self.output).status()
        own = told if told is not None and told.pid == self._process.pid else None
        if self.running:
            return own or Status(steps=self.steps, pid=self._process.pid)
        if own is not None and own.phase in status.OVER:
            return own
        if self._process.returncode in STOPPED:
            return Status(phase=status.STOPPED, reason="it had not begun; press Resume to start it again")
        reason = _sentence(self._log.read_text(encoding="utf-8", errors="replace"))
        return Status(phase=status.FAILED, reason=reason)

    def check_free(self) -> None:
        """Check that no run is going on.

        Raises:
            EditkitError: where one is.
        """
        if self.running:
            raise EditkitError("A run is already going on; stop it first, or wait for its end.")

    def _run(self, *overrides: str) -> None:
        assert self.recipe is not None
        assert self.output is not None
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *_command(self.recipe.name, self.steps, self.settings),
                    f"fit.output={self.output}",
                    *overrides,
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # Ctrl-C then reaches only the page, which lets the run save
            )

    @property
    def _log(self) -> Path:
        """The file of its errors, beside its folder: a run that is refused leaves no folder."""
        assert self.output is not None
        return self.output.with_name(f"{self.output.name}.stderr.txt")


def _check_steps(steps: Any) -> None:
    if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise EditkitError(f"{steps!r} steps are not allowed; give a whole number from 1 to {MOST_STEPS:,}.")


def _command(name: str, steps: int, settings: Mapping[str, Any]) -> list[str]:
    _check_steps(steps)
    often = max(1, steps // 4)
    overrides = {
        "fit.steps": steps,
        "fit.log_every": max(1, min(20, steps // 20)),
        "fit.save_every": often,
        "fit.validate_every": often,
        "validation.examples": 4,
        "fit.trackers": "[]",
        **settings,
    }
    changes = [f"{key}={value}" for key, value in overrides.items()]
    return [sys.executable, "-m", "editkit", "train", str(CONFIGS / name), *changes]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(packages.ROOT)}


def _sentence(errors: str) -> str:
    """Return the last line of a command's errors."""
    lines = errors.strip().splitlines() or ["The run ended without a message."]
    return lines[-1].removeprefix("editkit: ")
