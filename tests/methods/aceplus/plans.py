"""ACE++'s conditioner and what it is given."""

from __future__ import annotations

from typing import Any

import torch

from backbones.flux import Flux
from editkit import config
from editkit.types import EditInputs
from methods.aceplus import METHOD
from tests.pictures import photo


def conditioner(flux: Flux, **options: Any) -> Any:
    return METHOD.conditioner(flux, config.build(METHOD.config, options))


def inputs(
    width: int = 128, height: int = 128, *, mask: bool = False, references: tuple[Any, ...] = (), **more: Any
) -> EditInputs:
    mask_B1HW = None
    if mask:
        mask_B1HW = torch.zeros(1, 1, height, width)
        mask_B1HW[..., : height // 2, : width // 4] = 1
    given = {"source_BCHW": photo(width, height), "mask_B1HW": mask_B1HW} | more
    return EditInputs(prompts=("make it red",), references=references, **given)
