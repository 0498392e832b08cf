"""Buckets of numbered samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from editkit.data import chunk_files
from editkit.data.buckets import Bucket
from editkit.data.samples import StoredSamples
from editkit.imaging import canvas
from editkit.types import Conditioning, Plan


def numbered_bucket(count: int, folder: Path) -> Bucket:
    """A bucket whose samples' latents and instructions are their places."""
    plan = Plan(canvas=canvas.fit((16, 16)), conditioning=Conditioning(), role="kontext")
    path = folder / f"{count}.safetensors"
    x0_BLC = torch.arange(count).float()[:, None, None]
    header = {"indices": list(range(count)), "instructions": [[str(place)] for place in range(count)]}
    chunk_files.write(path, {"x0_BLC": x0_BLC}, header)
    rows_N = np.arange(count, dtype=np.int16)
    return Bucket(plan=plan, samples=StoredSamples([path], np.zeros(count, np.int32), rows_N))
