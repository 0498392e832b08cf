"""Checkpoints: folders of safetensors and JSON that are complete or absent; each file has its hash."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from editkit import atomic_files
from editkit.errors import EditkitError, EditkitWarning, first_sentence
from editkit.train.checkpoint_folders import STATE as STATE
from editkit.train.checkpoint_folders import complete as complete
from editkit.train.checkpoint_folders import set_aside as set_aside
from editkit.train.distributed import fsdp
from editkit.train.optim import Ema

SETTINGS = ("peak", "weight_decay", "betas")
"""Settings of an optimizer's groups that a resumed run takes from its config instead of the checkpoint."""


def save(
    output: Path,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    ema: Ema | None,
    keep: int,
    settings: dict[str, Any] | None = None,
    main: bool = True,
) -> Path:
    """Write `checkpoint-<step>` whole, with the settings it is of, then drop the oldest beyond `keep`.

    All processes of a run must call it, since weights may be in shards; the main one writes.
    """
    folder = output / f"checkpoint-{step:07d}"
    tensors = {"weights": fsdp.gathered({name: p.detach() for name, p in parameters.items()}, main)}
    if ema:
        tensors["ema"] = fsdp.gathered(ema.state(), main)
    state: dict[str, Any] = {"step": step, "optimizers": []}
    if settings is not None:
        state["settings"] = settings
    for number, optimizer in enumerate(optimizers):
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        values = {
            f"{index}.{name}": torch.as_tensor(value)
            for index, parameter in enumerate(moved)
            for name, value in optimizer.state.get(parameter, {}).items()
        }
        # Quantized states share tables, and safetensors cannot store shared memory.
        seen: set[int] = set()
        for name, value in values.items():
            if not isinstance(value, DTensor):
                values[name] = value.clone() if value.data_ptr() in seen else value
                seen.add(value.data_ptr())
        tensors[f"optimizer-{number}"] = fsdp.gathered(values, main)
        state["optimizers"].append(optimizer.state_dict()["param_groups"])
    if not main:
        return folder
    try:
        with atomic_files.beside(folder) as partial:
            partial.mkdir()
            for name, values in tensors.items():
                save_file(values, partial / f"{name}.safetensors")
            files = sorted(partial.glob("*.safetensors"))
            state["files"] = {path.name: atomic_files.sha256(path) for path in files}
            (partial / STATE).write_text(json.dumps(state))
    except (OSError, SafetensorError) as error:
        problem = first_sentence(error)
        raise EditkitError(f"{folder} cannot be written ({problem}); free some space and resume.") from error
    for old in complete(output)[:-keep]:
        shutil.rmtree(old)
    return folder


def damage(folder: Path) -> str:
    """Say what is wrong with a checkpoint's files; empty where they are as they were written."""
    try:
        files = json.loads((folder / STATE).read_text())["files"]
        changed = [name for name, digest in files.items() if atomic_files.sha256(folder / name) != digest]
    except (EditkitError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{STATE} or a file that it names cannot be read: {type(error).__name__}"
    return f"{changed[0]} is not what was written" if changed else ""


def steps_done(folder: Path) -> int:
    """Return the number of steps that a checkpoint is of; 0 where it is damaged, which loading it tells."""
    try:
        return int(json.loads((folder / STATE).read_text())["step"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def find(output: Path, resume: str | None) -> Path | None:
    """Find the checkpoint that `resume` names: None, "latest", or a folder.

    "latest" is the newest undamaged one; damaged ones are skipped with a warning.

    Raises:
        EditkitError: where a folder holds no checkpoint, or all checkpoints are damaged.
    """
    if resume is None:
        return None
    if resume == "latest":
        found = complete(output)
        while found and (problem := damage(found[-1])):
            said = f"The checkpoint {found.pop()} is damaged ({problem}) and was skipped."
            warnings.warn(said, EditkitWarning, stacklevel=2)
        if not found and complete(output):
            raise EditkitError(
                f"All checkpoints in {output} are damaged; start again with another fit.output."
            )
        return found[-1] if found else None
    folder = Path(resume)
    if not (folder / STATE).is_file():
        raise EditkitError(f"resume={resume} is not a checkpoint folder; give one, or resume=latest.")
    return folder


def load_checkpoint(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    ema: Ema | None,
) -> int:
    """Restore weights, optimizers and average from a checkpoint; return the number of finished steps.

    Raises:
        EditkitError: where the checkpoint is damaged or belongs to other weights or another optimizer.
    """
    try:
        return _load(folder, parameters, optimizers, ema)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        problem = first_sentence(error)
        raise EditkitError(
            f"The checkpoint {folder} does not fit ({problem}); resume from another."
        ) from error


def _load(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    ema: Ema | None,
) -> int:
    if problem := damage(folder):
        raise ValueError(problem)
    weights = load_file(folder / "weights.safetensors")
    if {name: tuple(w.shape) for name, w in weights.items()} != {
        n: tuple(p.shape) for n, p in parameters.items()
    }:
        raise ValueError("it holds other weights than this config trains")
    with torch.no_grad():
        for name, parameter in parameters.items():
            fsdp.local_shard(parameter).copy_(fsdp.local_shard(fsdp.spread(weights[name], parameter)))
        if ema:
            averages: dict[str, Tensor] = load_file(folder / "ema.safetensors")
            for name, average in averages.items():
                shadow = ema.shadow[name]
                fsdp.local_shard(shadow).copy_(fsdp.local_shard(fsdp.spread(average, shadow)))
    state = json.loads((folder / STATE).read_text())
    for number, (optimizer, groups) in enumerate(zip(optimizers, state["optimizers"], strict=True)):
        own = optimizer.state_dict()["param_groups"]
        # Where settings are kept they tell it, and other versions of torch keep other keys.
        if "settings" not in state and any(set(o) - set(g) for o, g in zip(own, groups, strict=True)):
            raise ValueError(f"it holds the state of another optimizer than {type(optimizer).__name__}")
        restored: dict[int, dict[str, Any]] = {}
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in load_file(folder / f"optimizer-{number}.safetensors").items():
            index, name = key.split(".", 1)
            parameter = moved[int(index)]
            whole = value.shape == parameter.shape and value.ndim > 0
            restored.setdefault(int(index), {})[name] = (
                fsdp.spread(value, parameter) if whole else _integer(value)
            )
        wanted = [{key: group[key] for key in SETTINGS if key in group} for group in optimizer.param_groups]
        optimizer.load_state_dict({"state": restored, "param_groups": groups})
        for group, own in zip(optimizer.param_groups, wanted, strict=True):
            group.update(own)
    return int(state["step"])


def _integer(value: Tensor) -> Tensor | int:
    """Turn a tensor of one integer back into an int."""
    return int(value) if value.ndim == 0 and not value.is_floating_point() else value
