"""Load a transformer in shards, and print peaks of memory: FOLDER full|lora, from accelerate's launcher."""

import resource
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import FluxTransformer2DModel

from backbones.empty_models import empty_model
from backbones.weight_slices import WeightSlices
from editkit import adapters
from editkit.train.distributed import fsdp, meta_weights


def peak() -> int:
    """The largest number of bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Load, compare and print."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    accelerator = Accelerator(cpu=True, fsdp_plugin=fsdp.plugin(low=False, cpu=True))
    made = empty_model(FluxTransformer2DModel, FluxTransformer2DModel.load_config(folder))
    weights = WeightSlices(folder, [name for name, _ in made.named_parameters()])
    if sys.argv[2] == "lora":
        torch.manual_seed(0)
        with meta_weights.stand_ins(made):
            adapters.attach(made, adapters.LoraOptions(rank=4))
    torch.distributed.barrier()
    before = peak()
    rows = meta_weights.row_reader(made, "", weights)
    fsdp.shard(made, accelerator, rows)
    grown = peak() - before
    shard = sum(fsdp.local_shard(p).numel() * 4 for p in made.parameters())
    for name, parameter in made.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter.full_tensor(), rows(name, 0, parameter.shape[0]).float()), name
    print(f"shard {shard} grown {grown}", flush=True)


if __name__ == "__main__":
    main()
