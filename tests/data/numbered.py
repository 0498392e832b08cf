"""Buckets of numbered samples."""

from __future__ import annotations

import torch

from editkit.data.buckets import Bucket
from editkit.imaging import canvas
from editkit.types import Conditioning, Plan


def numbered_bucket(count: int) -> Bucket:
    planned = canvas.fit((16, 16))
    plan = Plan(canvas=planned, conditioning=Conditioning(), role="kontext")
    tensors = {"x0_BLC": torch.arange(count).float()[:, None, None]}
    return Bucket(plan=plan, tensors=tensors, instructions=[str(n) for n in range(count)])
