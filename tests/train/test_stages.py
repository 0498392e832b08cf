"""Behaviour: a list of stages is trained in order, goes on after a kill, and installs what comes out."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit.cli import main
from editkit.errors import EditkitError
from editkit.train import in_order, stages
from tests.command_line import Cli, copied, files
from tests.train.stage_list import STEPS, WEIGHTS, config, written


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Also for the processes that train, which add up in another order on several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


# --- Training ---


def command(folder: Path) -> None:
    """`editkit stages` as a shell starts it: in a process group of its own."""
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open("said", os.O_CREAT | os.O_WRONLY), 2)
    sys.stderr = sys.__stderr__
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["editkit", "stages", "stages.yaml"]
    main()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[BaseProcess]:
    """The command, once it has written a checkpoint of the first stage."""
    # Forked, which is much faster than another Python that imports everything.
    process = multiprocessing.get_context("fork").Process(target=command, args=(folder,))
    process.start()
    deadline = time.monotonic() + 120
    first = folder / "out" / "one" / "checkpoint-0000003"
    try:
        while not first.exists() and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert first.exists()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def steps(folder: Path, name: str) -> list[int]:
    lines = (folder / "out" / name / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def in_this_process() -> list[str]:
    """Run the list and return the lines that it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        in_order.run(Path("stages.yaml"))
    return printed.getvalue().splitlines()


@dataclass(frozen=True)
class Trained:
    """A list that was killed in its first stage and run again."""

    folder: Path
    before: dict[Path, int]
    """When what the kill left was written."""
    lines: list[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = written(tmp_path_factory.mktemp("stages"))
    other = folder / "out" / "two"
    other.mkdir(parents=True)
    (other / "stage.json").write_text('{"origin": "something else"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(in_order, "HEARTBEAT", 0.05)
        with running(folder) as process:
            os.killpg(process.pid or 0, signal.SIGKILL)
        with Path("stages.yaml").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # waits until the one that trained is gone too
        left = folder.glob("out/one/checkpoint-*/weights.safetensors")
        before = {path: path.stat().st_mtime_ns for path in left}
        return Trained(folder=folder, before=before, lines=in_this_process())


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_as_without(
    trained: Trained, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < len(trained.before) < STEPS["one"] // 3
    assert all(path.stat().st_mtime_ns == when for path, when in trained.before.items())
    assert steps(trained.folder, "one") == list(range(1, STEPS["one"] + 1))
    monkeypatch.chdir(written(tmp_path / "whole"))
    for name in STEPS:
        assert cli("train", f"{name}.yaml").status == 0
        copied(Path(f"out/{name}/export/vae"), Path(f"placed/{name}"))
        ours, theirs = (load_file(at / "placed" / name / WEIGHTS) for at in (trained.folder, Path()))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    first, second = (load_file(f"placed/{name}/{WEIGHTS}") for name in STEPS)
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_lines_tell_how_far_it_is(trained: Trained) -> None:
    found = [
        re.match(r"stage (\d) of 2, (\w+).yaml: step (\d+) of (\d+), (.*) left", x) for x in trained.lines
    ]
    told = [match.groups() for match in found if match]
    assert {(number, name, of) for number, name, _, of, _ in told} == {("1", "one", "24"), ("2", "two", "2")}
    done = [int(step) for number, _, step, _, _ in told if number == "1"]
    assert done == sorted(done)
    assert done[0] == 3 * len(trained.before), "as far as the last checkpoint"
    assert done[-1] > done[0], "and on from there"
    assert {left for number, *_, left in told if number == "1"} == {"1 h 00 min"}, "what two.yaml takes"
    assert "out/one/export/vae is installed in placed/one" in trained.lines


@pytest.mark.slow
def test_a_run_from_something_else_is_set_aside(trained: Trained) -> None:
    assert "two.yaml now starts from something else; its last run is in out/abandoned-two" in trained.lines
    assert json.loads((trained.folder / "out/abandoned-two/stage.json").read_text()) == {
        "origin": "something else"
    }


@pytest.mark.slow
def test_a_finished_list_trains_nothing(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.folder)
    before = {path: path.stat().st_mtime_ns for path in trained.folder.glob("out/*/**/*")}
    installed = files(trained.folder / "placed")
    (trained.folder / "placed" / "one" / WEIGHTS).write_bytes(b"lost")
    lines = in_this_process()
    assert {path: path.stat().st_mtime_ns for path in trained.folder.glob("out/*/**/*")} == before
    assert files(trained.folder / "placed") == installed
    assert [line.partition(": ")[2] for line in lines if line.startswith("stage")] == [
        "step 24 of 24, 0 h 00 min left in all",
        "step 2 of 2, 0 h 00 min left in all",
    ]


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(two_stages: Path) -> None:
    with running(two_stages) as process:
        os.killpg(process.pid or 0, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 143
    last = steps(two_stages, "one")[-1]
    assert last < STEPS["one"]
    assert (two_stages / "said").read_text() == (
        f"editkit: Training was stopped after step {last} and saved in out/one; fit.resume=latest goes on.\n"
        "editkit: The training of stages.yaml was stopped; the same command goes on.\n"
    )
    assert (two_stages / "out" / "one" / f"checkpoint-{last:07d}" / "state.json").is_file()
    assert not (two_stages / "placed").exists()


# --- What it starts from, and how long it takes ---


def test_a_stage_begins_anew_when_what_it_starts_from_changes(two_stages: Path) -> None:
    with pytest.raises(EditkitError, match=r"placed/one, which two\.yaml starts from, are missing"):
        stages.read_stages(Path("stages.yaml"))[1].origin()
    (two_stages / "placed" / "one").mkdir(parents=True)
    save_file({"a": torch.zeros(2)}, f"placed/one/{WEIGHTS}")

    def origin() -> str:
        return stages.read_stages(Path("stages.yaml"))[1].origin()

    first = origin()
    longer = config("two", start="placed/one")
    longer["fit"]["steps"] = 5
    (two_stages / "two.yaml").write_text(json.dumps(longer))
    assert origin() == first, "more steps go on from the ones before"
    (two_stages / "two.yaml").write_text(json.dumps(longer | {"kl": 1e-3}))
    assert origin() != first
    (two_stages / "two.yaml").write_text(json.dumps(longer))
    save_file({"a": torch.ones(2)}, f"placed/one/{WEIGHTS}")
    assert origin() != first


def test_a_stage_is_finished_as_long_as_its_weights_are_there(two_stages: Path) -> None:
    (stage, _), origin = stages.read_stages(Path("stages.yaml")), "origin"
    stage.export.mkdir(parents=True)
    assert not stage.finished(origin)
    save_file({"a": torch.zeros(2)}, stage.export / WEIGHTS)
    stage.write(origin=origin, steps=24, weights=stages.weights(stage.export))
    assert stage.finished(origin)
    assert not stage.finished("another")
    (stage.export / WEIGHTS).unlink()
    assert not stage.finished(origin)


def test_time_left_is_measured_where_it_can_be(two_stages: Path) -> None:
    listed = stages.read_stages(Path("stages.yaml"))
    assert stages.progress_line(listed, 0) == "stage 1 of 2, one.yaml: step 0 of 24, 1 h 00 min left in all"
    rows = [
        {"step": step, "loss": 1.0, "seconds_per_step": 900.0 if step < 3 else 60.0} for step in range(1, 15)
    ]
    log = two_stages / "out" / "one" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 15, "lo')
    assert stages.progress_line(listed, 0) == "stage 1 of 2, one.yaml: step 14 of 24, 1 h 10 min left in all"
    listed[0].rewind()
    assert listed[0].progress() == (0, 1.0), "without a checkpoint all of it is to be done again"
