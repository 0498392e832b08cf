"""Weights in shards over several processes: FSDP2, as requested by accelerate's launcher."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
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


def shard(module: nn.Module, accelerator: Any, rows: Callable[[str, int, int], Tensor]) -> None:
    """Cut a module on the meta device into shards, and fill this process's with its rows of the weights.

    accelerate finds it in shards and leaves it so. No process ever holds more than its shards and the rows
    that it reads.

    Args:
        module: the module, whose parameters are all on the meta device.
        accelerator: has accelerate's settings of FSDP2.
        rows: reads rows of a parameter by its name.
    """
    plugin, device = accelerator.state.fsdp_plugin, accelerator.device
    plugin.set_auto_wrap_policy(module)
    wrapped = set(plugin.transformer_cls_names_to_wrap or ())
    mesh = init_device_mesh(device.type, (accelerator.num_processes,))
    settings: dict[str, Any] = {"mesh": mesh, "mp_policy": plugin.mixed_precision_policy}
    if plugin.cpu_offload:
        settings["offload_policy"] = plugin.cpu_offload
    for part in reversed([*module.modules()][1:]):
        if type(part).__name__ in wrapped:
            fully_shard(part, reshard_after_forward=plugin.reshard_after_forward, **settings)
    fully_shard(module, **settings)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.to_empty(device=torch.device("cpu") if plugin.cpu_offload else device)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
        for name, parameter in module.named_parameters():
            own = local_shard(parameter)
            # FSDP cuts the first axis as torch.chunk does.
            start = mesh.get_local_rank() * -(-parameter.shape[0] // mesh.size())
            if len(own):
                own.copy_(rows(name, start, start + len(own)))


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
def whole_weights(module: nn.Module, main: bool, frozen: bool) -> Iterator[None]:
    """Give the main process whole weights within the block, for reading only: those that train, or all.

    Args:
        module: the module.
        main: whether this is the main process.
        frozen: whether frozen weights are needed too; they take as much memory as the whole module.
    """
    replaced = []
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if (frozen or parameter.requires_grad) and isinstance(parameter, DTensor):
                full = nn.Parameter(parameter.full_tensor().detach().cpu())
                if main:
                    replaced.append((part, name, parameter))
                    part._parameters[name] = full
    try:
        yield
    finally:
        for part, name, parameter in replaced:
            part._parameters[name] = parameter
