"""Folders of checkpoints in a run's folder. Importing this loads no torch."""

import shutil
from pathlib import Path

STATE = "state.json"


def set_aside(output: Path, step: int) -> None:
    """Rename checkpoints of later steps than this one, so that none of them counts as the latest."""
    for folder in output.glob("checkpoint-*"):
        number = folder.name.removeprefix("checkpoint-")
        if number.isdigit() and int(number) > step:
            aside = output / f"abandoned-{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def complete(output: Path) -> list[Path]:
    """List the complete checkpoints of a run, oldest first."""
    return sorted(path for path in output.glob("checkpoint-*") if (path / STATE).is_file())
