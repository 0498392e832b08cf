"""Encode all instructions ahead of training."""

from collections.abc import Sequence
from itertools import chain

import torch

from editkit.backbone import Backbone
from editkit.config import Options
from editkit.data.buckets import Bucket
from editkit.method import Conditioner
from editkit.train import status
from editkit.train.distributed import processes

TOGETHER = 16
"""Number of instructions that are encoded together."""


@torch.no_grad()
def encode_all(
    buckets: Sequence[Bucket], conditioner: Conditioner[Options], backbone: Backbone, *, low: bool
) -> None:
    """Fill the backbone's cache with every instruction of the buckets, and the empty one of prompt dropout.

    Args:
        low: encode in bfloat16.
    """
    words = [(bucket.plan, sorted({"", *chain(*bucket.samples.wordings())})) for bucket in buckets]
    parts = [
        (plan, each[start : start + TOGETHER])
        for plan, each in words
        for start in range(0, len(each), TOGETHER)
    ]
    # Each process begins at its own place, and finds on the disk what the others have encoded by then.
    first, done = len(parts) * processes.rank() // processes.count(), 0
    for plan, prompts in (*parts[first:], *parts[:first]):
        status.tell(status.WORDS, done := done + len(prompts), sum(len(each) for _, each in parts))
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=low):
            conditioner.with_text(plan, prompts)
