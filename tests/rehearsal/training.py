"""A training run: its checkpoint resumed, and its adapter loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import editkit
from editkit import EditRequest, adapters, config, registry
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from tests.command_line import copied
from tests.pictures import image
from tests.rehearsal.edits import CLOSE, FAR, SEED, adapter_names, bare, latents
from tests.rehearsal.figures import relative, start, tell
from tests.rehearsal.stage import Stage

INSTRUCTION = "make the red circle blue"


def pairs(folder: Path, side: int) -> Path:
    """Two pairs of pictures in folders."""
    for number in range(2):
        for place, name in enumerate(("source", "answer")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            image(side, side, 2 * number + place).save(folder / name / f"{number}.png")
        (folder / "answer" / f"{number}.txt").write_text(INSTRUCTION)
    return folder


def settings(stage: Stage, method: str, options: dict[str, Any], folder: Path, *more: str) -> EditTrainConfig:
    """A LoRA in the precision of the stage, as `configs/flux1-dev` has it."""
    role = registry.method(method).role
    low = stage.dtype == torch.bfloat16
    values = {
        "method": method,
        "backbone": str(stage.folder / role),
        "options": options,
        "dtype": str(stage.dtype).removeprefix("torch."),
        "gradient_checkpointing": True,
        "lora": {"rank": 4},
        "cache": str(folder.parent / "cache"),
        "data": {"name": "folders", "path": str(pairs(folder.parent / "pairs", stage.scale.side))},
        "fit": {
            "output": str(folder),
            "steps": 2,
            "batch": 1,
            "precision": "bf16" if low else "fp32",
            "device": str(stage.device),
            "save_every": 1,
            "log_every": 1,
            "trackers": [],
            "optim": {"lr": 0.01},
        },
    }
    return config.build(EditTrainConfig, values, more)


def trained(stage: Stage, method: str, options: dict[str, Any], folder: Path, steps: int = 2) -> None:
    """The adapter's file gives what the trained network gave; with two steps, a resumed run the same file."""
    start()
    straight = settings(stage, method, options, folder / "straight", f"fit.steps={steps}")
    job = EditJob(straight)
    loss = fit(job, straight.fit)
    tell(f"{method}, {steps} training steps {stage.scale.side}x{stage.scale.side}", f"loss {loss:.3f}")
    export = folder / "straight" / "export" / adapters.FILE
    role, usual = job.role, options | {"adapter": None} if method == "icedit" else options
    asked = EditRequest(
        image=image(stage.scale.side, stage.scale.side),
        instruction=INSTRUCTION,
        method=method,
        seed=SEED,
        steps=1,
    )
    made = {}
    with bare(editkit.Editor(job.backbone), role):
        editor = editkit.Editor(job.backbone, {method: usual})
        editor.use_adapters(adapter_names(editor, role), method=method)
        _, made["memory"] = latents(editor, asked)
        editor.use_adapters([], method=method)
        _, made["base"] = latents(editor, asked)
    editor = editkit.Editor(job.backbone, {method: usual})
    with bare(editor, role):
        editor.load_adapter(export, method)
        _, made["file"] = latents(editor, asked)
    assert relative(made["memory"], made["base"]) > FAR
    assert relative(made["file"], made["memory"]) < CLOSE
    tell(f"{method}, the adapter's file", relative(made["file"], made["memory"]))
    del job, editor
    assert (folder / "straight" / f"checkpoint-{steps:07}").is_dir()
    if steps == 2:
        resumed(stage, method, options, folder)


def resumed(stage: Stage, method: str, options: dict[str, Any], folder: Path) -> None:
    """A run that goes on from the first step's checkpoint."""
    copied(folder / "straight" / "checkpoint-0000001", folder / "stopped" / "checkpoint-0000001")
    stopped = settings(stage, method, options, folder / "stopped", "fit.resume=latest")
    fit(EditJob(stopped), stopped.fit)
    first, second = (load_file(folder / name / "export" / adapters.FILE) for name in ("straight", "stopped"))
    assert first.keys() == second.keys()
    assert any(tensor.abs().sum() > 0 for key, tensor in first.items() if ".lora_B" in key)
    if stage.device.type == "cpu":
        assert all(torch.equal(first[key], second[key]) for key in first)
    else:  # whose sums have no fixed order
        assert all(relative(first[key], second[key]) < 0.1 for key in first if bool(second[key].any()))
    tell(f"{method}, resumed after one step", "the same adapter")
