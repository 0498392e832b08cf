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
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from editkit import adapters
from editkit.cli import main
from editkit.errors import EditkitError
from editkit.train import in_order, stages
from tests import ROOT
from tests.command_line import Cli, copied, files, in_process, refused
from tests.random_weights import AUTOENCODER

WEIGHTS = "diffusion_pytorch_model.safetensors"
MODEL = AUTOENCODER | {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4}
STEPS = {"one": 24, "two": 2}
LIST = {
    "stages": [
        {"config": "one.yaml", "export": "out/one/export/vae", "install": "placed/one"},
        {
            "config": "two.yaml",
            "export": "out/two/export/vae",
            "install": "placed/two",
            "starts_from": ["placed/one"],
            "seconds_per_step": 1800,
        },
    ]
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Also for the processes that train, which add up in another order on several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return in_process(capfd, monkeypatch)


def config(name: str, **values: Any) -> dict[str, Any]:
    fit = {"output": f"out/{name}", "steps": STEPS[name], "batch": 1, "save_every": 3, "log_every": 1}
    return {"recipe": "autoencoder", "fit": fit | {"device": "cpu", "precision": "fp32", "keep": 20}} | values


def written(folder: Path, listed: Any = LIST) -> Path:
    """Two configs of a few steps and their list; JSON is YAML."""
    folder.mkdir(exist_ok=True)
    (folder / "one.yaml").write_text(json.dumps(config("one", model=MODEL)))
    (folder / "two.yaml").write_text(json.dumps(config("two", start="placed/one")))
    (folder / "stages.yaml").write_text(json.dumps(listed))
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return written(tmp_path)


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
def test_ctrl_c_saves_and_says_how_to_go_on(place: Path) -> None:
    with running(place) as process:
        os.killpg(process.pid or 0, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 143
    last = steps(place, "one")[-1]
    assert last < STEPS["one"]
    assert (place / "said").read_text() == (
        f"editkit: Training was stopped after step {last} and saved in out/one; fit.resume=latest goes on.\n"
        "editkit: The training of stages.yaml was stopped; the same command goes on.\n"
    )
    assert (place / "out" / "one" / f"checkpoint-{last:07d}" / "state.json").is_file()
    assert not (place / "placed").exists()


# --- What it starts from, and how long it takes ---


def test_a_stage_begins_anew_when_what_it_starts_from_changes(place: Path) -> None:
    with pytest.raises(EditkitError, match=r"placed/one, which two\.yaml starts from, are missing"):
        stages.read_stages(Path("stages.yaml"))[1].origin()
    (place / "placed" / "one").mkdir(parents=True)
    save_file({"a": torch.zeros(2)}, f"placed/one/{WEIGHTS}")

    def origin() -> str:
        return stages.read_stages(Path("stages.yaml"))[1].origin()

    first = origin()
    longer = config("two", start="placed/one")
    longer["fit"]["steps"] = 5
    (place / "two.yaml").write_text(json.dumps(longer))
    assert origin() == first, "more steps go on from the ones before"
    (place / "two.yaml").write_text(json.dumps(longer | {"kl": 1e-3}))
    assert origin() != first
    (place / "two.yaml").write_text(json.dumps(longer))
    save_file({"a": torch.ones(2)}, f"placed/one/{WEIGHTS}")
    assert origin() != first


def test_a_stage_is_finished_as_long_as_its_weights_are_there(place: Path) -> None:
    (stage, _), origin = stages.read_stages(Path("stages.yaml")), "origin"
    stage.export.mkdir(parents=True)
    assert not stage.finished(origin)
    save_file({"a": torch.zeros(2)}, stage.export / WEIGHTS)
    stage.write(origin=origin, steps=24, weights=stages.weights(stage.export))
    assert stage.finished(origin)
    assert not stage.finished("another")
    (stage.export / WEIGHTS).unlink()
    assert not stage.finished(origin)


def test_time_left_is_measured_where_it_can_be(place: Path) -> None:
    listed = stages.read_stages(Path("stages.yaml"))
    assert stages.progress_line(listed, 0) == "stage 1 of 2, one.yaml: step 0 of 24, 1 h 00 min left in all"
    rows = [
        {"step": step, "loss": 1.0, "seconds_per_step": 900.0 if step < 3 else 60.0} for step in range(1, 15)
    ]
    log = place / "out" / "one" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 15, "lo')
    assert stages.progress_line(listed, 0) == "stage 1 of 2, one.yaml: step 14 of 24, 1 h 10 min left in all"
    listed[0].rewind()
    assert listed[0].progress() == (0, 1.0), "without a checkpoint all of it is to be done again"


# --- Installing ---


def test_an_adapter_is_installed_in_bf16_without_its_card(tmp_path: Path) -> None:
    export, place = tmp_path / "export", tmp_path / "placed"
    export.mkdir()
    about = {"lora_adapter_metadata": '{"transformer.lora_alpha": 7}', "format": "pt"}
    state = {"transformer.proj.lora_A.weight": torch.randn(3, 5)}
    save_file(state, export / adapters.FILE, about)
    (export / "README.md").write_text("card")
    in_order.install(export, place)
    assert [path.name for path in place.iterdir()] == [adapters.FILE]
    found = load_file(place / adapters.FILE)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key].bfloat16()) for key in state)
    with safe_open(place / adapters.FILE, "pt") as file:
        assert file.metadata() == about


def test_a_folder_is_installed_instead_of_what_is_there(tmp_path: Path) -> None:
    export, place = tmp_path / "export", tmp_path / "above" / "part"
    (export / "vae").mkdir(parents=True)
    (export / "vae" / WEIGHTS).write_bytes(b"new")
    place.mkdir(parents=True)
    (place / "old.json").write_text("{}")
    (tmp_path / "above" / "link").symlink_to("part")
    in_order.install(export, place)
    assert [path.name for path in place.iterdir()] == ["vae"]
    assert (tmp_path / "above" / "link" / "vae" / WEIGHTS).read_bytes() == b"new"
    assert sorted(path.name for path in place.parent.iterdir()) == ["link", "part"]


def test_a_failed_install_leaves_what_was_there(tmp_path: Path) -> None:
    export, place = tmp_path / "export", tmp_path / "placed"
    for folder, content in ((export, b"new"), (place, b"old")):
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(content)
    (export / "unreadable").symlink_to("nowhere")
    with pytest.raises(EditkitError, match=r"placed .*free some space"):
        in_order.install(export, place)
    assert (place / WEIGHTS).read_bytes() == b"old"
    assert not list(tmp_path.rglob(".*"))


# --- Bad input ---


def test_a_missing_list_is_one_sentence(cli: Cli, place: Path) -> None:
    refused(cli("stages", "none.yaml"), "none.yaml cannot be read")


def test_a_missing_config_is_one_sentence(cli: Cli, place: Path) -> None:
    (place / "two.yaml").unlink()
    refused(cli("stages", "stages.yaml"), "config two.yaml cannot be read")
    assert not (place / "out").exists(), "which is found before the first stage trains"


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"stages": []}, "has no stages"),
        ([1], "must be a mapping"),
        ({"stages": [{"config": "one.yaml"}]}, "mandatory value: export"),
        (
            {"stages": [{"config": "one.yaml", "export": "out/two/export"}]},
            "exports into out/one/export, not",
        ),
        ({"stages": [LIST["stages"][0] | {"install": "one.yaml/below"}]}, "one.yaml is a file"),
    ],
)
def test_a_bad_list_is_one_sentence(listed: Any, words: str, cli: Cli, place: Path) -> None:
    written(place, listed)
    refused(cli("stages", "stages.yaml"), words)


def test_a_bad_config_is_one_sentence(cli: Cli, place: Path) -> None:
    (place / "two.yaml").write_text("recipe: autoencoder\nfit: {setps: 3}")
    refused(cli("stages", "stages.yaml"), "stage two.yaml cannot be trained: .*did you mean 'fit.steps'")


def test_one_process_at_a_time(cli: Cli, place: Path) -> None:
    with Path("stages.yaml").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(cli("stages", "stages.yaml"), "Another process trains stages.yaml already")


# --- The list that is shipped ---


def test_shipped_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    listed = [stage.about for stage in stages.read_stages(Path("configs/tiny/stages.yaml"))]
    written = "out/tiny/vae"  # by editkit.shapesworld.linear_autoencoder, before the first stage
    for number, about in enumerate(listed):
        made = {place for before in listed[:number] for place in (before.export, before.install)}
        for start in set(about.starts_from) - {written}:
            assert any(Path(place).is_relative_to(start) for place in made - {""}), f"{start} comes later"
        place = Path(about.install)
        assert not about.install or (stages.weights(place) and not place.is_symlink())
    placed = [about.install for about in listed if about.install]
    tops = ("backbones", "editkit", "methods")
    for file in (file for top in tops for file in Path(top).rglob("*.safetensors")):
        assert any(file.is_relative_to(place) for place in placed), f"{file} is not among them"


def test_shipped_configs_name_what_they_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for stage in stages.read_stages(Path("configs/tiny/stages.yaml")):
        values, starts = stage.values, stage.about.starts_from
        named = {values.get("adapter"), values.get("fresh", {}).get("vae")} - {None}
        assert named.issubset(starts)
        if values["recipe"] in ("edit", "inpaint") and "fresh" not in values:
            assert any(start.startswith(("backbones/tiny", "out/tiny")) for start in starts)
