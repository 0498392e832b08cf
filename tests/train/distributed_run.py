"""A small run on random weights, for tests to start in its own process: OUTPUT VAE CACHE key=value ..."""

import sys
from typing import Any

import torch

from editkit import config
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.random_weights import CLIP, LETTERS, T5, transformer_config


def values_of(output: str, vae: str, cache: str) -> dict[str, Any]:
    """The settings of the run."""
    return {
        "options": {"prompt_dropout": 0.0},
        "trainable": "full",
        "fresh": {
            "vae": vae,
            "words": str(ROOT / "configs" / "tiny" / "words.txt"),
            "letters": LETTERS,
            "transformer": transformer_config() | {"num_single_layers": 1},
            "clip": CLIP,
            "t5": T5,
        },
        "cache": cache,
        "data": {"count": 24, "kinds": {"recolour": 1.0}},
        "fit": {
            "output": output,
            "steps": 4,
            "batch": 8,
            "precision": "fp32",
            "device": "cpu",
            "log_every": 1,
            "save_every": 2,
            "keep": 100,
            "ema": 0.9,
            "optim": {"lr": 3e-3, "schedule": "linear"},
        },
    }


def main() -> None:
    """Train."""
    torch.set_num_threads(1)
    output, vae, cache, *overrides = sys.argv[1:]
    values = values_of(output, vae, cache)
    if any(override.startswith("backbone=") for override in overrides):
        values["fresh"] = {}
    settings = config.build(EditTrainConfig, values, overrides)
    job = EditJob(settings)
    fit(job, settings.fit)
    (kind,) = {type(each).__name__ for each in job.objective.parameters() if each.requires_grad}
    print(f"trained {kind}")


if __name__ == "__main__":
    main()
