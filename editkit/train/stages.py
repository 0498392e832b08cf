"""Stages of a list that train in order: their progress, and the time that they still take."""

import hashlib
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit import atomic_files, registry
from editkit import config as configs
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train import checkpoints, metrics_log
from editkit.train.config import FitConfig

RECENT = 10
"""Lines of a log whose median tells how long a step takes."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One run of a list."""

    config: str
    """YAML of the run."""
    export: str
    """Folder of what it exports that is wanted further on."""
    install: str = ""
    """Folder to put that in, in place of what is there; nowhere where empty."""
    starts_from: tuple[str, ...] = ()
    """Folders with the weights that it starts from."""
    seconds_per_step: float = 1.0
    """What a step takes, until its own log tells."""


@dataclass(frozen=True, kw_only=True)
class StagesConfig:
    """Runs in the order in which they are trained."""

    stages: list[StageConfig] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage whose config is read."""

    about: StageConfig
    values: dict[str, Any]
    fit: FitConfig

    @property
    def output(self) -> Path:
        """The folder in which its run keeps everything."""
        return Path(self.fit.output)

    @property
    def export(self) -> Path:
        """The folder that is wanted of it."""
        return Path(self.about.export)

    @property
    def record(self) -> Path:
        """The file that says what it started from and, once it is done, what came out."""
        return self.output / "stage.json"

    def recorded(self) -> dict[str, Any]:
        """Read the record; empty for a run that is not begun or was begun by hand."""
        return dict(json.loads(self.record.read_text())) if self.record.is_file() else {}

    def write(self, **values: Any) -> None:
        """Write the record, whole or not at all."""
        with atomic_files.whole(self.record) as file:
            file.write(json.dumps(values).encode())

    def origin(self) -> str:
        """A digest of all that its weights come from, but for how long and how fast it trains.

        Raises:
            EditkitError: where weights that it starts from are missing.
        """
        what = {name: value for name, value in self.values.items() if name != "fit"}
        given = {folder: weights(Path(folder)) for folder in self.about.starts_from}
        if missing := [folder for folder, digest in given.items() if not digest]:
            raise EditkitError(
                f"The weights in {missing[0]}, which {self.about.config} starts from, are missing."
            )
        return hashlib.sha256(json.dumps([what, given], sort_keys=True).encode()).hexdigest()

    def finished(self, origin: str) -> bool:
        """Whether it trained to its end from there, and what came out is still as it was written."""
        done = {"origin": origin, "steps": self.fit.steps, "weights": weights(self.export)}
        return self.recorded() == done

    def rewind(self) -> None:
        """Drop from the log what the run will do again, so that the log tells how far it is."""
        found = checkpoints.complete(self.output)
        metrics_log.trim(self.output / "log.jsonl", int(found[-1].name.rpartition("-")[2]) if found else 0)

    def progress(self) -> tuple[int, float]:
        """The last step that is logged, and the seconds that one takes."""
        path = self.output / "log.jsonl"
        text = path.read_text() if path.is_file() else ""
        # A line that is being written has no end yet.
        rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if not rows:
            return 0, self.about.seconds_per_step
        return rows[-1]["step"], statistics.median(row["seconds_per_step"] for row in rows[-RECENT:])

    def seconds_left(self) -> float:
        """Estimate the seconds of its remaining steps."""
        done, seconds = self.progress()
        return max(0, self.fit.steps - done) * seconds


def read_stages(path: Path) -> list[Stage]:
    """The stages of a list, each checked as far as that goes before anything trains.

    Raises:
        EditkitError: where the list or a config is missing or does not fit.
    """
    found = configs.build(StagesConfig, configs.read_yaml(path)).stages
    if not found:
        raise EditkitError(f"The list {path} has no stages; name their configs under `stages`.")
    return [_stage(each) for each in found]


def _stage(about: StageConfig) -> Stage:
    values = configs.read_yaml(about.config)
    try:
        fit = configs.build(registry.recipe(str(values.get("recipe", "edit"))).CONFIG, values).fit
    except EditkitError as error:
        raise EditkitError(f"The stage {about.config} cannot be trained: {error}") from error
    if not Path(about.export).is_relative_to(f"{fit.output}/export"):
        raise EditkitError(f"The stage {about.config} exports into {fit.output}/export, not {about.export}.")
    for folder in (fit.output, about.install or fit.output):
        images.check_folder(folder)
    return Stage(about=about, values=values, fit=fit)


def weights(folder: Path) -> str:
    """A digest of the weights in a folder and below; empty where there are none."""
    files = sorted(folder.rglob("*.safetensors"))
    about = [[str(file.relative_to(folder)), atomic_files.sha256(file)] for file in files]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest() if files else ""


def progress_line(stages: list[Stage], number: int) -> str:
    """Return how far one of them is and how long all of them still take, in one line."""
    stage = stages[number]
    left = duration(each.seconds_left() for each in stages)
    return (
        f"stage {number + 1} of {len(stages)}, {stage.about.config}: "
        f"step {stage.progress()[0]} of {stage.fit.steps}, {left} left in all"
    )


def duration(seconds: Iterable[float]) -> str:
    """A sum of seconds in hours and minutes."""
    hours, minutes = divmod(round(sum(seconds) / 60), 60)
    return f"{hours} h {minutes:02} min"
