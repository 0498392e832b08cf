"""What every method is asked."""

from __future__ import annotations

import torch

from editkit.types import EditInputs
from tests.pictures import photo

FILES = {"__init__.py", "config.py", "conditioner.py", "sampler.py", "trainer.py", "README.md"}

WORDS = ("make the red circle blue", "remove the green square")


def inputs(width: int = 128, height: int = 128, count: int = 2) -> EditInputs:
    return EditInputs(
        prompts=WORDS[:count], source_BCHW=torch.cat([photo(width, height, seed) for seed in range(count)])
    )
