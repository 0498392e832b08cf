"""Check a run before it makes or loads anything."""

from pathlib import Path
from typing import Any

from editkit import config as configs
from editkit import notes, registry
from editkit.data import shard_names
from editkit.data.records import FILES, DataConfig, is_url
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train import checkpoint_folders
from editkit.train.config import FitConfig, OptimConfig
from editkit.train.settings import EditTrainConfig

REMOTE = "huggingface"
"""Kind of dataset whose path may be an id of the Hub."""
ROWS = ("jsonl", "csv", "table")
"""Kinds of datasets that are rows of one file."""
SHARDS = "webdataset"
"""Kind of dataset whose path may be a URL."""

FACTOR_FROM = 0.1
"""Least `optim.lr` that is taken for Prodigy's factor, which is usually 1; rates of AdamW are far lower."""


def check_settings(settings: Any) -> None:
    """Check all of a run's settings that can be checked without torch, hence at once; a note names idle ones.

    Raises:
        EditkitError: where the method or one of its options is unknown, the data are missing, or the output
            cannot be made or holds another run.
    """
    if isinstance(settings, EditTrainConfig):
        if settings.recipe == "edit":
            configs.build(registry.method_config(settings.method), settings.options)
        for name, data in settings.datasets().items():
            check_data(name, data)
            if name == "validation.data" and not settings.fit.validate_every:
                notes.tell("This run does not look at validation.data; give fit.validate_every, such as 500.")
    _tell_rate(settings.fit.optim)
    _check_output(settings.fit)


def check_run(config: FitConfig, settings: Any = None) -> Path | None:
    """Check a run's config, and return the checkpoint to resume from, or None.

    Args:
        config: length, batches and output of the run.
        settings: all settings of the run, a dataclass, to compare with the checkpoint's; None not to compare.

    Raises:
        EditkitError: if there is no such checkpoint, or it has other settings or more steps; if the output
            cannot be made or holds another run; if the launcher asks for parts of DeepSpeed that do not work
            here; or if a tracker or an optimizer is unknown or not installed.
    """
    from editkit.train import checkpoints, metrics_log, optim, resuming
    from editkit.train.distributed import deepspeed

    deepspeed.check_deepspeed(config)
    metrics_log.trackers(config.trackers)
    optim.check_optimizer(config.optim)
    output = _check_output(config)
    found = checkpoints.find(output, config.resume)
    if found and (done := checkpoints.steps_done(found)) > config.steps:
        raise EditkitError(
            f"The checkpoint {found} is of step {done}, and fit.steps={config.steps} ends before it; give "
            "more steps, an earlier checkpoint as fit.resume, or another fit.output."
        )
    if found and settings is not None:
        resuming.check_settings(found, config, settings)
    return found


def _tell_rate(optim: OptimConfig) -> None:
    """Tell a learning rate that is meant for the other kind of optimizer."""
    if optim.name == "prodigy" and optim.lr < FACTOR_FROM:
        notes.tell(
            f"fit.optim.lr={optim.lr:g} is a factor on the rate that prodigy finds, so that next to nothing "
            "is learnt; give fit.optim.lr=1."
        )
    elif optim.name != "prodigy" and optim.lr >= FACTOR_FROM:
        notes.tell(
            f"fit.optim.lr={optim.lr:g} is a factor for prodigy and very high for {optim.name}; give a rate "
            "such as 1e-4, or fit.optim.name=prodigy."
        )


def _check_output(config: FitConfig) -> Path:
    output = images.check_folder(config.output)
    if config.resume is None and checkpoint_folders.complete(output):
        raise EditkitError(
            f"The folder {output} holds an earlier run; give fit.resume=latest to go on with it, "
            f"or another fit.output."
        )
    return output


def check_data(name: str, data: DataConfig) -> None:
    """Check that a dataset's files are there.

    Args:
        name: the setting that describes the dataset, such as `validation.data`.
        data: the dataset.

    Raises:
        EditkitError: where they are not, or a URL cannot be read.
    """
    if data.name not in FILES or data.name == REMOTE:
        return
    if data.path is None:
        raise EditkitError(f"{name}.name={data.name} needs {name}.path, where the records are.")
    if is_url(data.path):
        if data.name != SHARDS:
            raise EditkitError(
                f"{name}.name={data.name} reads files of this machine, not {data.path}; give a path, or "
                f"{name}.name={SHARDS} or {REMOTE}."
            )
        return
    if data.name in ROWS and Path(data.path).is_dir():
        raise EditkitError(
            f"The data {data.path} are a folder, and {name}.name={data.name} reads a file; give "
            f"{name}.name=folders, or the file."
        )
    if not (shard_names.is_here(data.path) if data.name == SHARDS else Path(data.path).exists()):
        raise EditkitError(f"The data {data.path} do not exist; check {name}.path, or make them first.")
