"""A list of two stages of a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
