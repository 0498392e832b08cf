"""Training resumes to the bit, and refuses checkpoints of others."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from editkit import EditkitError
from editkit.train import checkpoints
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.stopping import RunStoppedError
from tests.command_line import copied
from tests.train.runs import assert_same, losses, train

RESUMES = {
    "full": ("full", "fit.ema=0.9", "fit.accumulate=2"),
    "muon": (
        "full",
        "fit.ema=0.9",
        "text_encoders=true",
        "fit.optim.name=muon",
        "options.prompt_dropout=0.3",
    ),
    "lora": ("lora", "lora.dropout=0.2", "fit.optim.warmup=6", "data.kinds.caption=1.0"),
    "prodigy": ("lora", "fit.optim.name=prodigy", "fit.optim.lr=1.0", "fit.optim.weight_decay=0.01"),
    "8 bits": ("full", "fit.optim.name=adamw8bit", "fit.optim.weight_decay=0.01"),
    "free": ("lora", "fit.optim.name=schedulefree", "fit.optim.warmup=3"),
    "directions": ("lora", "lora.dora=true", "lora.rslora=true"),
    "experts": (
        "lora",
        "method=icedit",
        "fresh.transformer.in_channels=384",
        "options.moe.rank=3",
        "options.moe.noise=0.5",
        "options.moe.balance=0.01",
    ),
}


@pytest.mark.parametrize("kind", RESUMES)
def test_a_resumed_run_is_the_uninterrupted_one(settings: Any, tmp_path: Path, kind: str) -> None:
    trainable, *overrides = RESUMES[kind]
    overrides += ["fit.steps=3", "fit.save_every=2"]
    _, whole = train(settings("whole", *overrides, trainable=trainable))
    resumed = tmp_path / "resumed"
    shutil.copytree(whole / "checkpoint-0000002", resumed / "checkpoint-0000002")
    shutil.copy(whole / "log.jsonl", resumed)
    train(settings("resumed", "fit.resume=latest", *overrides, trainable=trainable))
    assert_same(whole / "checkpoint-0000003", resumed / "checkpoint-0000003")
    assert losses(whole) == losses(resumed)
    assert len(losses(whole)) == 3


def test_a_short_run_is_the_beginning_of_a_long_one(settings: Any) -> None:
    trainable, *overrides = RESUMES["muon"]
    long, short = (
        train(settings(name, f"fit.steps={steps}", "fit.save_every=2", *overrides, trainable=trainable))[1]
        for name, steps in (("long", 4), ("short", 2))
    )
    assert [path.name for path in checkpoints.complete(short)] == ["checkpoint-0000002"]
    assert_same(long / "checkpoint-0000002", short / "checkpoint-0000002")


LINEAR = ("fit.steps=6", "fit.save_every=2", "fit.optim.schedule=linear", "fit.log_every=3")


@pytest.fixture(scope="module")
def whole(configured: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with three checkpoints; to be read only."""
    return train(configured(tmp_path_factory.mktemp("whole"), *LINEAR))[1]


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(
    settings: Any, whole: Path, tmp_path: Path
) -> None:
    """The schedule and the log are those of the whole run, though it died between two checkpoints."""
    killed = tmp_path / "killed"
    shutil.copytree(whole / "checkpoint-0000002", killed / "checkpoint-0000002")
    # It had logged step 3, died while it wrote a checkpoint, and left one that was cut short by hand.
    shutil.copy(whole / "log.jsonl", killed)
    shutil.copytree(whole / "checkpoint-0000004", killed / ".0123456789abcdef.part")
    shutil.copytree(whole / "checkpoint-0000006", killed / "checkpoint-0000006")
    (killed / "checkpoint-0000006" / "state.json").unlink()
    train(settings("killed", "fit.resume=latest", *LINEAR))
    assert_same(whole / "checkpoint-0000006", killed / "checkpoint-0000006")
    assert losses(killed).keys() == {3, 6}
    assert losses(killed)[6] == losses(whole)[6]
    assert not list(killed.glob(".*.part"))


def test_what_counts_as_a_checkpoint(tmp_path: Path) -> None:
    for name, complete in (
        ("checkpoint-0000002", True),
        ("checkpoint-0000010", True),
        ("checkpoint-0000020", False),
    ):
        (tmp_path / name).mkdir()
        if complete:
            (tmp_path / name / "state.json").write_text('{"files": {}}')
    (tmp_path / ".0123456789abcdef.part").mkdir()
    (tmp_path / ".0123456789abcdef.part" / "state.json").write_text("{}")
    assert checkpoints.find(tmp_path, "latest") == tmp_path / "checkpoint-0000010"
    assert checkpoints.find(tmp_path, None) is None
    assert checkpoints.find(tmp_path / "nothing", "latest") is None
    assert checkpoints.find(tmp_path, str(tmp_path / "checkpoint-0000002")) == tmp_path / "checkpoint-0000002"
    with pytest.raises(EditkitError, match="resume"):
        checkpoints.find(tmp_path, str(tmp_path / "checkpoint-0000020"))


@pytest.mark.parametrize("name", ["optimizer-0.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(settings: Any, whole: Path, tmp_path: Path, name: str) -> None:
    last = copied(whole, tmp_path / "broken") / "checkpoint-0000006"
    good = (last / name).read_bytes()
    (last / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.warns(UserWarning, match=r"checkpoint-0000006 is damaged .* was skipped"):
        train(settings("broken", "fit.resume=latest", *LINEAR))
    assert_same(whole / "checkpoint-0000006", last)


def test_told_to_stop_it_saves_first(settings: Any) -> None:
    """SIGTERM, as schedulers send it, in the middle of a run; the rest is what it would have been."""
    overrides = ("fit.steps=4", "fit.save_every=4", "fit.log_every=1", "fit.optim.schedule=linear")
    _, whole = train(settings("whole", *overrides))
    stopped = settings("stopped", *overrides)
    job = EditJob(stopped)
    draw = job.batch

    def batch(indices: Any) -> Any:
        if indices[0] >= 4:
            signal.raise_signal(signal.SIGTERM)
        return draw(indices)

    job.batch = batch
    with pytest.raises(RunStoppedError, match=r"after step 2 .* fit\.resume=latest"):
        fit(job, stopped.fit)
    output = Path(stopped.fit.output)
    assert [path.name for path in checkpoints.complete(output)] == ["checkpoint-0000002"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(settings("stopped", "fit.resume=latest", *overrides))
    assert_same(whole / "checkpoint-0000004", output / "checkpoint-0000004")
    assert losses(whole) == losses(output)


def test_checkpoints_beyond_keep_are_dropped(settings: Any) -> None:
    _, output = train(settings("run", "fit.steps=5", "fit.save_every=1", "fit.keep=2", trainable="lora"))
    assert [path.name for path in checkpoints.complete(output)] == [
        "checkpoint-0000004",
        "checkpoint-0000005",
    ]


def test_a_checkpoint_of_other_weights_is_refused(settings: Any) -> None:
    train(settings("run", "fit.steps=1", trainable="lora"))
    for name, value in (("trainable", "full"), ("lora.rank", 2)):
        allowed = ("fit.resume=latest", f"fit.allow_changes=[{name}]")
        with pytest.raises(EditkitError, match="other weights"), pytest.warns(UserWarning, match=name):
            train(settings("run", "fit.steps=2", *allowed, f"{name}={value}", trainable="lora"))


def test_a_checkpoint_of_another_optimizer_is_refused(settings: Any) -> None:
    train(settings("run", "fit.steps=1"))
    for override in ("fit.ema=0.9", "fit.optim.name=muon"):
        with pytest.raises(EditkitError, match="checkpoint"):
            train(settings("run", "fit.steps=2", "fit.resume=latest", override))
