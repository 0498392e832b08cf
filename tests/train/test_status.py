"""The status of a run: what its file says in each phase, at each end, and when nobody writes it any more."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from editkit import EditkitError
from editkit.train import status, stopping
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.stopping import RunStoppedError, StopRequest

ABOUT = {"steps": 4, "method": "kontext", "backbone": "tiny"}


def read_status(folder: Path) -> status.Status:
    found = status.read_status(folder)
    assert found is not None
    return found


def test_phases_of_a_run(settings: Any, tmp_path: Path) -> None:
    few = ("data.count=8", "fit.validate_every=4", "validation.examples=2")
    chosen = settings("run", f"cache={tmp_path / 'cache'}", *few)
    seen: list[tuple[str, int, int]] = []
    with status.reporting(tmp_path / "run", ABOUT, lambda now: seen.append((now.phase, now.done, now.total))):
        fit(EditJob(chosen), chosen.fit)
    phases = list(dict.fromkeys(phase for phase, _, _ in seen))
    assert phases == ["loading weights", "reading data", "encoding latents", "training", "validating", "done"]
    assert [done for phase, done, _ in seen if phase == "encoding latents"] == list(range(9))
    assert {total for phase, _, total in seen if phase == "training"} == {4}
    last = read_status(tmp_path / "run")
    assert (last.phase, last.done, last.total, last.reason) == ("done", 4, 4, "")
    assert last.detail.startswith("loss ")
    assert not last.alive


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    folder = tmp_path / "kept" / "made" / "run"
    with pytest.raises(EditkitError), status.reporting(folder, ABOUT):
        raise EditkitError("It cannot be.")
    assert list((tmp_path / "kept").iterdir()) == []


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    """The second one is refused, and leaves the first one's files alone."""
    folder = tmp_path / "run"
    with status.reporting(folder, ABOUT):
        status.tell(status.TRAINING, 3, 4)
        before = read_status(folder)
        with pytest.raises(EditkitError, match="Another run trains"), status.reporting(folder, ABOUT):
            raise AssertionError("two runs train in one folder")
        assert read_status(folder) == before
    with status.reporting(folder, ABOUT):
        status.tell(status.TRAINING, 4, 4)


def test_a_run_that_fails_in_training_says_why(tmp_path: Path) -> None:
    def run() -> None:
        status.tell(status.TRAINING, 3, 4)
        raise EditkitError("The loss is no number.")

    with pytest.raises(EditkitError), status.reporting(tmp_path / "run", ABOUT):
        run()
    last = read_status(tmp_path / "run")
    assert last.words() == "failed: The loss is no number."
    assert (last.done, last.total) == (3, 4)


def test_a_killed_run_is_seen_to_be_gone(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    one = status.Status(phase=status.TRAINING, done=3, total=4, pid=ended.pid)
    assert not one.alive
    assert (
        one.words() == "ended without a word while training step 3 of 4; resume it from its last checkpoint"
    )
    assert dataclasses.replace(one, pid=os.getpid()).alive
    far = dataclasses.replace(one, host="elsewhere")
    assert far.alive
    assert not dataclasses.replace(far, updated=far.updated - 2 * status.SILENT).alive


def test_runs_below_a_folder(tmp_path: Path) -> None:
    for name in ("old", "a/new"):
        with status.reporting(tmp_path / name, ABOUT):
            pass
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / status.FILE).write_text("{")
    assert list(status.runs(tmp_path)) == [tmp_path / "a" / "new", tmp_path / "old"]


def test_signals_stop_at_once_or_are_noted() -> None:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with pytest.raises(StopRequest) as stopped, stopping.at_once():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.number == signal.SIGTERM
    with stopping.noted() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt, match="stopped at once"):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_a_signal_ends_validation(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that was validated is saved, and the run says so."""
    chosen = settings("run", "fit.steps=4", "fit.validate_every=2", "validation.examples=1")
    job = EditJob(chosen)

    def validate(step: int, folder: Path | None) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("validation goes on")

    monkeypatch.setattr(job, "validate", validate)
    with pytest.raises(RunStoppedError, match="after step 2 and saved") as stopped:
        fit(job, chosen.fit)
    assert stopped.value.status == 130
    assert (Path(chosen.fit.output) / "checkpoint-0000002").is_dir()
