"""The benchmark for GPUs runs on a small network here, row by row."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu, gpu_network
from benchmarks.speed_operations import counted


def test_operations_are_those_of_the_pass_itself() -> None:
    flux, shapes = (gpu_network.network("small", torch.device(device)) for device in ("cpu", "meta"))
    for way in list(gpu.ways(flux, 64, "eager"))[:4]:
        x_BLC = gpu_network.latents(flux, 64, way.share)
        with torch.no_grad():
            flux.velocity(x_BLC, 0.5, way.plan, 1.0)
            flops, _ = counted(lambda x_BLC=x_BLC, way=way: flux.velocity(x_BLC, 0.5, way.plan, 1.0))
            plan = gpu_network.counting(shapes, flux, way.plan, 64)
            assert gpu_network.operations(shapes, plan, way.share) == flops, way.name


def test_what_the_time_does_not_allow_is_said() -> None:
    lines = list(gpu.report("small", "cpu", 64, 0.0, 1))
    assert sum("left out: the time is up" in line for line in lines) == 10


@pytest.mark.slow
def test_every_row_is_measured_or_says_why_not() -> None:
    # Inductor would call a C++ compiler for minutes.
    about, head, _, *rows = gpu.report("small", "cpu", 64, 600.0, 1, "aot_eager")
    assert "width small, 64x64" in about
    assert len(rows) == 10
    assert all(line.count("|") == head.count("|") for line in rows)
    measured = [line for line in rows if "not here" not in line]
    assert len(measured) >= 7, rows
    assert all("fp8" in line for line in rows if "not here" in line)
