"""A folder's own scheduler config decides how times are shifted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from backbones import scheduler
from backbones.specs import TINY
from editkit import flow
from editkit.errors import EditkitError

SCHNELL = {"use_dynamic_shifting": False, "shift": 1.0}
DEV = {"use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15}


def folder(place: Path, **config: Any) -> Path:
    (place / "scheduler").mkdir()
    about = {"_class_name": "FlowMatchEulerDiscreteScheduler", **config}
    (place / "scheduler" / "scheduler_config.json").write_text(json.dumps(about))
    return place


def test_schnell_is_not_shifted(tmp_path: Path) -> None:
    found = scheduler.time_shift(folder(tmp_path, **SCHNELL))
    for tokens in (256, 4096):
        assert flow.schedule(4, tokens, found).tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_the_embedded_backbone_is_shifted_as_flux_dev() -> None:
    assert scheduler.time_shift(TINY / "kontext") == flow.FLUX_DEV


@pytest.mark.parametrize(
    "config",
    [SCHNELL, DEV, {"use_dynamic_shifting": False, "shift": 3.0}, DEV | {"max_image_seq_len": 8192}],
)
@pytest.mark.parametrize(("steps", "tokens"), [(1, 64), (4, 256), (28, 4096), (50, 6144)])
def test_times_are_those_of_diffusers(
    tmp_path: Path, config: dict[str, Any], steps: int, tokens: int
) -> None:
    found = scheduler.time_shift(folder(tmp_path, **config))
    official = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    # Pipelines of FLUX give sigmas from 1 to 1/steps and, where it is dynamic, mu.
    official.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=found.mu(tokens))
    assert torch.allclose(flow.schedule(steps, tokens, found), official.sigmas, atol=1e-6)


@pytest.mark.parametrize("config", [SCHNELL, DEV, {"use_dynamic_shifting": False, "shift": 3.0}])
def test_a_shift_is_read_as_it_was_written(tmp_path: Path, config: dict[str, Any]) -> None:
    found = scheduler.time_shift(folder(tmp_path, **config))
    scheduler.scheduler(found).save_pretrained(tmp_path / "export" / "scheduler")
    assert scheduler.time_shift(tmp_path / "export") == found


@pytest.mark.parametrize(
    "config", [{"use_karras_sigmas": True}, {"shift_terminal": 0.02}, {"time_shift_type": "linear"}]
)
def test_other_times_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    (name,) = config
    with pytest.raises(EditkitError, match=f"scheduler_config.json sets {name}"):
        scheduler.time_shift(folder(tmp_path, **config))


def test_a_folder_without_a_scheduler_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="give a whole diffusers folder"):
        scheduler.time_shift(tmp_path)
