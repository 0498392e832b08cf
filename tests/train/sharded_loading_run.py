"""Load a transformer in shards, and print peaks of memory; accelerate launches it.

Arguments: a folder or file, and `full`, `lora` or `start`.
"""

import resource
import sys

import torch
from accelerate import Accelerator

from backbones.load_options import LoadOptions
from backbones.roles import RoleTransformers
from editkit import adapters
from editkit.backbone import Family, Role
from editkit.train.distributed import fsdp, meta_weights

AXES = (16, 24, 24)


def peak() -> int:
    """The largest number of bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Load, compare and print."""
    torch.set_num_threads(1)
    path, kind = sys.argv[1:]
    accelerator = Accelerator(cpu=True, fsdp_plugin=fsdp.plugin(low=False, cpu=True))
    roles = {
        name: Role(source=name, in_channels=channels, steps=1, guidance=None, licence="none")
        for name, channels in (("text", 64), ("fill", 384))
    }
    family = Family(name="measured", summary="", sequence_length=8, roles=roles)
    options = LoadOptions(transformer=path, axes=AXES)
    backbone = RoleTransformers(family, torch.device("cpu"), torch.float32, options)
    role, start = ("fill", "text") if kind == "start" else ("text", None)
    weights = backbone.empty_transformer(role, start)
    assert weights is not None
    made = backbone.transformer(role)
    if kind == "lora":
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
