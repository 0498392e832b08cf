"""Keep the settings of a run in its checkpoints, and compare them when a run resumes."""

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError, EditkitWarning
from editkit.train import checkpoint_folders, checkpoints
from editkit.train.config import FitConfig

FREE = (
    *(f"fit.{name}" for name in ("output", "resume", "allow_changes", "steps", "batch", "accumulate")),
    *(f"fit.{name}" for name in ("save_every", "keep", "log_every", "validate_every", "spike", "trackers")),
    *(f"fit.{name}" for name in ("precision", "device")),
    *(f"fit.optim.{name}" for name in ("lr", "muon_lr", "betas", "weight_decay", "clip")),
    *(f"fit.optim.{name}" for name in ("schedule", "warmup", "decay")),
    *("evaluation", "validation", "cache", "cache_texts"),
    *("gradient_checkpointing", "selective_checkpointing"),
    *("compile", "load.attention", "load.compile", "load.offload"),
)
"""Settings that may change freely: where and how fast a run goes, how it is watched, and its rates."""
FIXED = ("fit.optim.name", "fit.optim.lr_of")
"""Settings that decide what the optimizer's state means."""
PRECISION = "fit.precision"
"""The precision of a run, which a resumed run keeps where it is `auto`."""
CONTENT = ".content"
"""Ending of the names under which checkpoints keep hashes: of each dataset, and of `WEIGHTS`."""
WEIGHTS = "backbone"
"""The setting that names the weights which a run begins from."""
SAMPLES = "fit.samples"
"""Samples of an optimizer step: fit.batch times fit.accumulate times processes."""


def kept(settings: Any) -> dict[str, Any]:
    """Return the settings that decide what a run learns, by their dotted names, in JSON's types."""
    found = {name: value for name, value in _flat(asdict(settings)) if not _among(name, FREE)}
    derived = {SAMPLES: settings.fit.samples, PRECISION: settings.fit.precision}
    plain: dict[str, Any] = json.loads(json.dumps(found | derived, default=str))
    return plain


def precision_of(folder: Path) -> str:
    """Return the precision that a checkpoint's run had; `auto` where it does not say."""
    try:
        state = json.loads((folder / checkpoints.STATE).read_text())
        return str(state["settings"][PRECISION])
    except (OSError, ValueError, LookupError, TypeError):
        return "auto"


def check_settings(folder: Path, fit: FitConfig, settings: Any) -> None:
    """Refuse to resume a checkpoint with other settings than it was made with.

    A warning instead names the changes that `fit.allow_changes` allows. A checkpoint without settings gives a
    warning, too.

    Raises:
        EditkitError: if a setting differs that may not change.
    """
    try:
        state = json.loads((folder / checkpoints.STATE).read_text())
    except (OSError, ValueError):
        return  # loading it says what is wrong
    if not isinstance(state, dict) or "files" not in state:
        return
    before = state.get("settings")
    if isinstance(before, dict):
        before = {name: value for name, value in before.items() if not name.endswith(CONTENT)}
    if before is None:
        remark = f"The checkpoint {folder} keeps no settings; make sure that this run has the same as before."
        warnings.warn(remark, EditkitWarning, stacklevel=2)
        return
    now, usual = kept(settings), kept(type(settings)())
    apart = {
        name: (before.get(name, usual.get(name)), now.get(name, usual.get(name)))
        for name in sorted({*before, *now})
    }
    apart = {
        name: values for name, values in apart.items() if values[0] != values[1] and not _among(name, FREE)
    }
    refused = [name for name in apart if _among(name, FIXED) or not _among(name, fit.allow_changes)]
    if refused:
        were = ", ".join(f"{name}={_shown(apart[name][0])}" for name in refused)
        are = ", ".join(f"{name}={_shown(apart[name][1])}" for name in refused)
        fixed = any(_among(name, FIXED) for name in refused)
        way = "" if fixed else f", give fit.allow_changes=[{','.join(refused)}] to go on so"
        raise EditkitError(
            f"The checkpoint {folder} is of {were}, and this run has {are}{_explained(refused)}; resume with "
            f"the same{way}, or start anew with another fit.output."
        )
    for name, (was, value) in apart.items():
        remark = f"The run goes on with {name}={_shown(value)}; its checkpoint has {_shown(was)}."
        warnings.warn(remark, EditkitWarning, stacklevel=2)


def check_content(fit: FitConfig, name: str, content: str) -> None:
    """Refuse to resume a run whose files were changed; a warning where `fit.allow_changes` allows it.

    Args:
        fit: says which checkpoint the run resumes, if any.
        name: the dataset's name in the settings, or `backbone` for the weights.
        content: the hash of a dataset's words, and of names and sizes of its files; that of weights.

    Raises:
        EditkitError: if the checkpoint keeps another hash.
    """
    if fit.resume is None:
        return
    # `checkpoints.find` would hash all files of the newest checkpoint once more.
    complete = checkpoint_folders.complete(Path(fit.output))
    found = Path(fit.resume) if fit.resume != "latest" else next(reversed(complete), Path(fit.output))
    try:
        before = json.loads((found / checkpoints.STATE).read_text())["settings"][name + CONTENT]
    except (OSError, ValueError, LookupError, TypeError):
        return  # it keeps none, or loading it says what is wrong
    if before == content:
        return
    what, parts = ("weights", "") if name == WEIGHTS else ("records", "words, or names or sizes of ")
    changed = f"The {what} of {name} are others than those of the checkpoint {found}"
    if not _among(name + CONTENT, fit.allow_changes):
        raise EditkitError(
            f"{changed}: {parts}files were changed; restore them, give "
            f"fit.allow_changes=[{name}{CONTENT}] to go on so, or start anew with another fit.output."
        )
    warnings.warn(f"{changed}; the run goes on with them.", EditkitWarning, stacklevel=2)


def _explained(names: Iterable[str]) -> str:
    return " (fit.batch x fit.accumulate x processes)" if SAMPLES in names else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _among(name: str, names: Iterable[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in names)


def _shown(value: Any) -> str:
    return json.dumps(value)
