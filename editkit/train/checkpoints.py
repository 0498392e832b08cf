"""Checkpoints: a folder that is complete or absent, safetensors and JSON only, each file with its hash."""

import json
import os
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
from editkit.train.distributed import fsdp
from editkit.train.optim import Ema

STATE = "state.json"
SETTINGS = ("peak", "weight_decay", "betas")
"""What the config says of an optimizer's groups, also where a run goes on under another one."""


def save(
    output: Path,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    ema: Ema | None,
    keep: int,
    main: bool = True,
) -> Path:
    """Write `checkpoint-<step>` whole, then drop the oldest beyond `keep`.

    All processes of a run call it, since none may have all of the weights; the main one writes.
    """
    folder = output / f"checkpoint-{step:07d}"
    partial = output / f".{folder.name}.partial"
    tensors = {"weights": fsdp.gathered({name: p.detach() for name, p in parameters.items()}, main)}
    if ema:
        tensors["ema"] = fsdp.gathered(ema.state(), main)
    state: dict[str, Any] = {"step": step, "optimizers": []}
    for number, optimizer in enumerate(optimizers):
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        values = {
            f"{index}.{name}": torch.as_tensor(value)
            for index, parameter in enumerate(moved)
            for name, value in optimizer.state.get(parameter, {}).items()
        }
        # Quantized states share their tables, which safetensors does not have.
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
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, values in tensors.items():
            save_file(values, partial / f"{name}.safetensors")
        state["files"] = {
            path.name: atomic_files.sha256(path) for path in sorted(partial.glob("*.safetensors"))
        }
        (partial / STATE).write_text(json.dumps(state))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        problem = first_sentence(error)
        raise EditkitError(f"{folder} cannot be written ({problem}); free some space and resume.") from error
    for old in complete(output)[:-keep]:
        shutil.rmtree(old)
    return folder


def set_aside(output: Path, step: int) -> None:
    """Rename checkpoints behind a step from which the run goes on, so that none of them is the latest."""
    for folder in output.glob("checkpoint-*"):
        number = folder.name.removeprefix("checkpoint-")
        if number.isdigit() and int(number) > step:
            aside = output / f"abandoned-{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(folder, aside)


def complete(output: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(path for path in output.glob("checkpoint-*") if (path / STATE).is_file())


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint's files; empty where they are as they were written."""
    try:
        files = json.loads((folder / STATE).read_text())["files"]
        changed = [name for name, digest in files.items() if atomic_files.sha256(folder / name) != digest]
    except (EditkitError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{STATE} or a file that it names cannot be read: {type(error).__name__}"
    return f"{changed[0]} is not what was written" if changed else ""


def find(output: Path, resume: str | None) -> Path | None:
    """The checkpoint that `resume` names: None, "latest", or a folder.

    The latest is the newest that is sound; damaged ones are named in a warning and passed over.

    Raises:
        EditkitError: where a folder is named that holds no checkpoint, or all there are are damaged.
    """
    if resume is None:
        return None
    if resume == "latest":
        found = complete(output)
        while found and (problem := damage(found[-1])):
            said = f"The checkpoint {found.pop()} is damaged ({problem}) and passed over."
            warnings.warn(said, EditkitWarning, stacklevel=2)
        if not found and complete(output):
            raise EditkitError(f"No checkpoint in {output} is sound; start anew with another fit.output.")
        return found[-1] if found else None
    folder = Path(resume)
    if not (folder / STATE).is_file():
        raise EditkitError(f"resume={resume} is not a checkpoint folder; give one, or resume=latest.")
    return folder


def load(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    ema: Ema | None,
) -> int:
    """Restore everything from a checkpoint and return the number of finished steps.

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
        restored: dict[int, dict[str, Any]] = {}
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in load_file(folder / f"optimizer-{number}.safetensors").items():
            index, name = key.split(".", 1)
            parameter = moved[int(index)]
            whole = value.shape == parameter.shape and value.ndim > 0
            restored.setdefault(int(index), {})[name] = (
                fsdp.spread(value, parameter) if whole else _counted(value)
            )
        wanted = [{key: group[key] for key in SETTINGS if key in group} for group in optimizer.param_groups]
        optimizer.load_state_dict({"state": restored, "param_groups": groups})
        for group, own in zip(optimizer.param_groups, wanted, strict=True):
            group.update(own)
    return int(state["step"])


def _counted(value: Tensor) -> Tensor | int:
    """A whole number as it was before it was written among tensors."""
    return int(value) if value.ndim == 0 and not value.is_floating_point() else value
