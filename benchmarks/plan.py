"""The plan's memory beside what a run really takes at its peak, on this CPU.

    python benchmarks/plan.py

Real is the sum of all weights, optimizer states and averages, and the highest sum of allocations that torch's
profiler sees within a step. Two backbones: tiny, and a FLUX of about 100 M parameters with random weights.
"""

import tempfile
from pathlib import Path
from typing import Any

from diffusers import FluxTransformer2DModel
from torch.profiler import ProfilerActivity, profile

from editkit import config
from editkit.train.estimate.plan import plan
from editkit.train.finetune import EditJob
from editkit.train.run_state import Run
from editkit.train.settings import EditTrainConfig

MIDDLE = {
    "in_channels": 64,
    "num_layers": 4,
    "num_single_layers": 8,
    "attention_head_dim": 64,
    "num_attention_heads": 10,
    "joint_attention_dim": 128,
    "pooled_projection_dim": 64,
    "guidance_embeds": True,
    "axes_dims_rope": [16, 24, 24],
}
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("LoRA", {"trainable": "lora"}),
    ("full", {"trainable": "full"}),
    ("full, checkpointing", {"trainable": "full", "gradient_checkpointing": True}),
    (
        "full, selective",
        {"trainable": "full", "gradient_checkpointing": True, "selective_checkpointing": True},
    ),
)


def main() -> None:
    """Print a row for each case."""
    with tempfile.TemporaryDirectory() as folder:
        middle = Path(folder) / "middle"
        FluxTransformer2DModel.from_config(MIDDLE).save_pretrained(middle)
        print(f"{'':<32}{'planned':>10}{'real':>10}{'ratio':>8}   (aimed at: 0.85 to 1.15)")
        for backbone, load in (("tiny", {}), ("100 M", {"transformer": str(middle)})):
            for name, case in CASES:
                values = {
                    "backbone": "tiny",
                    "load": load,
                    "data": {"count": 16},
                    "cache": f"{folder}/cache",
                    "fit": {
                        "output": f"{folder}/{backbone}-{name}",
                        "batch": 16,
                        "steps": 3,
                        "ema": 0.99,
                        "device": "cpu",
                        "trackers": [],
                    },
                }
                settings = config.build(EditTrainConfig, values | case)
                planned, real = plan(settings).peak, measured(settings)
                figures = f"{planned / 1e6:>8.0f}MB{real / 1e6:>8.0f}MB{planned / real:>8.2f}"
                print(f"{backbone + ', ' + name:<32}{figures}", flush=True)


def measured(settings: EditTrainConfig) -> float:
    """Bytes at the peak of a step."""
    job = EditJob(settings)
    run = Run(job, settings.fit)
    run.step()
    standing = [*job.objective.parameters(), *job.backbone.vae.parameters()]
    standing += [*job.backbone.encoders.clip.parameters(), *job.backbone.encoders.t5.parameters()]
    standing += [t for o in run.optimizers for state in o.state.values() for t in state.values()]
    standing += list(run.ema.shadow.values()) if run.ema else []
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in standing}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run.step()
    now = highest = 0
    events = profiler.profiler.kineto_results.events()
    allocations = (event for event in events if event.name() == "[memory]")
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return float(sum(held.values()) + highest)


if __name__ == "__main__":
    main()
