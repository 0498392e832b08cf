"""Weights in shards over several processes: FSDP2, as accelerate's launcher asks for it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def wanted() -> bool:
    """Whether the launcher asked for shards."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")


def plugin(low: bool, cpu: bool) -> Any:
    """accelerate's, from the launcher's settings: gathered in bf16 where `low`, always reduced in float32."""
    from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
    from torch.distributed.fsdp import MixedPrecisionPolicy

    state: Any = PartialState(cpu=cpu)
    if state.distributed_type == DistributedType.MULTI_CPU:
        # accelerate leaves CPUs out, though FSDP2 works on them through gloo.
        state._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if low else None, reduce_dtype=torch.float32)
    return FullyShardedDataParallelPlugin(fsdp_version=2, mixed_precision_policy=policy)


def local_shard(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, in the same memory; all of one that is not in shards."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], main: bool) -> dict[str, Tensor]:
    """Whole tensors, on the CPU where they were in shards; all processes take part, `main` gets them."""
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        if main:
            found[name] = whole.contiguous()
    return found


def spread(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, in shards as another one is."""
    if not isinstance(like, DTensor):
        return whole
    placed = whole.to(like.device_mesh.device_type)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def drop_copies(module: nn.Module) -> None:
    """To be told after weights were written in place: nothing made of them before may be used again."""
    torch.clear_autocast_cache()
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()  # shards are gathered on streams of their own


@contextmanager
def whole_weights(module: nn.Module, main: bool) -> Iterator[None]:
    """Whole weights in place of the shards of what trains, in the main process, for reading alone."""
    replaced = []
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.requires_grad and isinstance(parameter, DTensor):
                full = nn.Parameter(parameter.full_tensor().detach().cpu())
                if main:
                    replaced.append((part, name, parameter))
                    part._parameters[name] = full
    try:
        yield
    finally:
        for part, name, parameter in replaced:
            part._parameters[name] = parameter
