"""The training run of a page: a process of its own, whose files the page reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit import config, packages
from editkit.errors import EditkitError

OUTPUT = Path("out/page")
MOST_STEPS = 1_000_000
CONFIGS = packages.ROOT / "configs"
PLAN_SECONDS = 120
SAVED = (0, 143)
"""Exit statuses of a run that is done or was stopped."""


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
    for path in sorted(CONFIGS.rglob("*.yaml")):
        values = config.read(path)
        fits = values.get("recipe") == "edit" and values.get("backbone") == backbone
        path_of_data = values.get("data", {}).get("path")
        fits = fits and (path_of_data is None or Path(path_of_data).exists())
        if fits and values.get("trainable", "lora") == "lora":
            name = path.relative_to(CONFIGS).as_posix()
            first = path.read_text(encoding="utf-8").splitlines()[0]
            found[name] = Recipe(name=name, method=str(values["method"]), words=first.lstrip("# "))
    return found


def plan(name: str, steps: int) -> str:
    """Return the output of `editkit train --plan` for a run.

    Raises:
        EditkitError: where it cannot be planned.
    """
    done = subprocess.run(
        [*_command(name, steps), "--plan"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PLAN_SECONDS,
        env=_environment(),
    )
    if done.returncode:
        raise EditkitError(_sentence(done.stderr))
    return done.stdout.strip()


@dataclass(kw_only=True)
class Training:
    """A training run and its files.

    Attributes:
        recipe: the config that is trained; None before the first run.
        steps: number of steps to train.
        output: folder of the run.
    """

    recipe: Recipe | None = None
    steps: int = 0
    output: Path | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, recipe: Recipe, steps: int) -> None:
        """Start a new run in a folder of its own.

        Raises:
            EditkitError: where a run is going on.
        """
        self._free()
        name = Path(recipe.name).with_suffix("").as_posix().replace("/", "-")
        self.recipe, self.steps = recipe, steps
        self.output = OUTPUT.resolve() / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._run()

    def resume(self, steps: int) -> None:
        """Resume the run from its last checkpoint.

        Raises:
            EditkitError: where a run is going on, or there is none to resume.
        """
        self._free()
        if self.output is None or not self.output.is_dir():
            raise EditkitError("There is no run to go on with; start one first.")
        self.steps = max(steps, self.steps)
        self._run("fit.resume=latest")

    def stop(self) -> bool:
        """Ask the run to save and end after its step; return whether one was going on."""
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

    def problem(self) -> str:
        """Return the error of a failed run; empty otherwise."""
        if self._process is None or self.running or self._process.returncode in SAVED or self.output is None:
            return ""
        return _sentence(self._log().read_text(encoding="utf-8", errors="replace"))

    def figures(self) -> list[dict[str, Any]]:
        """Return the loss by step on training data and on held-out data."""
        logs = (("training", "log.jsonl", "loss"), ("held out", "validation.jsonl", "held-out loss"))
        return [
            {"step": row["step"], "loss": row[key], "of": name}
            for name, file, key in logs
            for row in self._read(file)
        ]

    def step(self) -> int:
        """Return the last logged step."""
        logged = self._read("log.jsonl")
        return int(logged[-1]["step"]) if logged else 0

    def pictures(self) -> list[Path]:
        """List the sheets of held-out edits, newest first."""
        return sorted(self.output.glob("validation/step-*.png"), reverse=True) if self.output else []

    def adapter(self) -> Path | None:
        """Return the folder of the trained adapter: the export, or the best so far."""
        folders = [self.output / name for name in ("export", "best")] if self.output else []
        return next((folder for folder in folders if folder.is_dir()), None)

    def _free(self) -> None:
        if self.running:
            raise EditkitError("A run is already going on; stop it first, or wait for its end.")

    def _run(self, *overrides: str) -> None:
        assert self.recipe is not None
        assert self.output is not None
        self.output.mkdir(parents=True, exist_ok=True)
        with self._log().open("wb") as log:
            self._process = subprocess.Popen(
                [*_command(self.recipe.name, self.steps), f"fit.output={self.output}", *overrides],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # Ctrl-C then reaches only the page, which lets the run save
            )

    def _log(self) -> Path:
        assert self.output is not None
        return self.output / "stderr.txt"

    def _read(self, name: str) -> list[dict[str, Any]]:
        path = self.output / name if self.output else None
        if path is None or not path.is_file():
            return []
        # The last line may be incomplete.
        return [
            json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")
        ]


def _command(name: str, steps: int) -> list[str]:
    if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise EditkitError(f"{steps} steps are not allowed; give 1 to {MOST_STEPS:,}.")
    often = max(1, steps // 4)
    overrides = {
        "fit.steps": steps,
        "fit.log_every": max(1, min(20, steps // 20)),
        "fit.save_every": often,
        "fit.validate_every": often,
        "validation.examples": 4,
        "fit.trackers": "[]",
    }
    changes = [f"{key}={value}" for key, value in overrides.items()]
    return [sys.executable, "-m", "editkit", "train", str(CONFIGS / name), *changes]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(packages.ROOT)}


def _sentence(errors: str) -> str:
    """Return the last line of a command's errors."""
    lines = errors.strip().splitlines() or ["The run ended without a message."]
    return lines[-1].removeprefix("editkit: ")
