"""Weights in shards over several processes: FSDP2, as requested by accelerate's launcher."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def wanted() -> bool:
    """Whether the launcher asked for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")


def plugin(low: bool, cpu: bool) -> Any:
    """Make accelerate's plugin for FSDP2; it gathers weights in bf16 if `low`, and reduces in float32."""
    from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
    from torch.distributed.fsdp import MixedPrecisionPolicy

    state: Any = PartialState(cpu=cpu)
    if state.distributed_type == DistributedType.MULTI_CPU:
        # accelerate supports no CPUs here, though FSDP2 works on them through gloo.
        state._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if low else None, reduce_dtype=torch.float32)
    return FullyShardedDataParallelPlugin(fsdp_version=2, mixed_precision_policy=policy)


def local_shard(tensor: Tensor) -> Tensor:
    """Return this process's shard of a tensor, in the same memory; an unsharded tensor is returned whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], main: bool) -> dict[str, Tensor]:
    """Gather tensors from their shards onto the CPU of the main process; all processes must call it."""
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        if main:
            found[name] = whole.contiguous()
    return found


def spread(whole: Tensor, like: Tensor) -> Tensor:
    """Cut a tensor that every process has into shards like those of another tensor."""
    if not isinstance(like, DTensor):
        return whole
    placed = whole.to(like.device_mesh.device_type)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def drop_copies(module: nn.Module) -> None:
    """Drop the copies that were made of a module's weights; call it after writing weights in place."""
    torch.clear_autocast_cache()
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()  # shards are gathered on other streams


@contextmanager
def whole_weights(module: nn.Module, main: bool) -> Iterator[None]:
    """Give the main process whole trainable weights within the block, for reading only."""
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
