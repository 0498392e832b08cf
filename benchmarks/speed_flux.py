"""Operations of FLUX.1 Kontext's own network, full and saved steps, counted on the meta device."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.speed_operations import counted
from editkit import config, registry
from editkit.backbone import Backbone, provider
from editkit.inference.partial_plan import plan_of_some
from editkit.key_values import KeyValues
from editkit.types import EditInputs, Plan

SHARES = (0.05, 0.1, 0.2, 0.4)
FULL, LAST, DRAFT = 3, 1, 4
"""Full steps of an edit with a region, at its start and end; steps of a draft, after which one full step is
enough."""


@torch.no_grad()
def report(side: int, steps: int) -> None:
    """Print TFLOP of a step and of an edit, by the share of the canvas that goes on."""
    backbone = provider().estimate("flux1-dev", {})
    backbone.transformer("kontext")
    joint, cached = (planned(backbone, side, context) for context in ("joint", "cached"))
    x_BLC = torch.empty(1, side * side // 256, 64, device="meta")
    kept = KeyValues()
    keeping = replace(joint, conditioning=replace(joint.conditioning, kept=kept))
    whole = teraflops(backbone, x_BLC, keeping)
    first = teraflops(backbone, x_BLC, cached)  # with the pass over the context
    later = teraflops(backbone, x_BLC, cached)
    small = teraflops(backbone, x_BLC[:, : x_BLC.shape[1] // 4], planned(backbone, side // 2, "joint"))
    print(f"FLUX.1 Kontext [dev], {side}x{side}, {x_BLC.shape[1]} + {x_BLC.shape[1]} tokens, {steps} steps")
    print("| | TFLOP a step | a step saves | TFLOP an edit | an edit saves |\n" + "| --- " * 5 + "|")
    line("exact, as in diffusers", whole, whole, whole * steps, whole * steps)
    line("cached context, first edit of a picture", later, whole, first + later * (steps - 1), whole * steps)
    line("cached context, further edits", later, whole, later * steps, whole * steps)
    for share in SHARES:
        active_L = torch.zeros(x_BLC.shape[1], dtype=torch.bool)
        active_L[: round(share * len(active_L))] = True
        part, computed_L = plan_of_some(joint, kept, active_L)
        saved = teraflops(backbone, x_BLC[:, computed_L.nonzero()[:, 0]], part)
        edit = whole * (FULL + LAST) + saved * (steps - FULL - LAST)
        line(f"region of {share:.0%} after {FULL} steps", saved, whole, edit, whole * steps)
        edit = small * DRAFT + whole * (1 + LAST) + saved * (steps - 1 - LAST)
        line(
            f"region of {share:.0%}, draft of {DRAFT} steps at half the side",
            saved,
            whole,
            edit,
            whole * steps,
        )


def planned(backbone: Backbone, side: int, context: str) -> Plan:
    """A plan of one picture of this size."""
    method = registry.method("kontext")
    made = method.conditioner(backbone, config.build(method.config, {"context": context, "sizes": "exact"}))
    picture = torch.zeros(1, 3, side, side, device="meta")
    plan = made.plan(EditInputs(prompts=("make it blue",), source_BCHW=picture))
    ids_L3 = backbone.grid_ids(side, side)
    return replace(plan, conditioning=replace(plan.conditioning, ids_L3=ids_L3))


def teraflops(backbone: Backbone, x_BLC: Tensor, plan: Plan) -> float:
    """Count the operations of one velocity."""
    return counted(lambda: backbone.velocity(x_BLC, 0.5, plan, 2.5))[0] / 1e12


def line(name: str, step: float, whole: float, edit: float, full: float) -> None:
    """Print one row."""
    print(f"| {name} | {step:.1f} | {whole / step:.2f} | {edit:.0f} | {full / edit:.2f} |")
