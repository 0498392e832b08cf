"""`editkit train` on random weights, whose second process fails: OUTPUT VAE CACHE making|training."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from editkit import EditkitError, cli
from editkit.data.batches import EditBatch
from editkit.train import finetune
from editkit.train.settings import EditTrainConfig
from tests.train.distributed_run import values_of


def fail() -> None:
    """Fail in the second process."""
    if os.environ["RANK"] == "1":
        raise EditkitError("The picture a.png is missing; correct or remove its record.")


class FailsWhenMade(finetune.EditJob):
    """A job that one process cannot make."""

    def __init__(self, settings: EditTrainConfig) -> None:
        fail()
        super().__init__(settings)


class FailsInTraining(finetune.EditJob):
    """A job whose third step one process cannot take, while the others wait for its gradients."""

    def batch(self, indices: Sequence[int]) -> EditBatch:
        if indices[0] >= 2 * self.config.fit.samples:
            fail()
        return super().batch(indices)


def main() -> None:
    """Train."""
    torch.set_num_threads(1)
    output, vae, cache, when = sys.argv[1:]
    path = Path(f"{output}-{os.environ['RANK']}.yaml")
    path.write_text(json.dumps(values_of(output, vae, cache)))  # JSON is YAML
    finetune.JOB = {"making": FailsWhenMade, "training": FailsInTraining}[when]
    sys.argv = ["editkit", "train", str(path), "fit.save_every=2"]
    cli.main()


if __name__ == "__main__":
    main()
