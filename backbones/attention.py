"""Compute attention for training on CPUs, as an attention backend of diffusers."""

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import Tensor

PLAIN = "plain"
"""Value of the loading option `attention` that selects `plain_attention`."""


@torch._dynamo.disable  # type: ignore[untyped-decorator]
def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    _parallel_config: object = None,
) -> Tensor:
    """Compute softmax attention step by step, in the precision of the inputs.

    PyTorch's fused kernel has a slow backward pass on a CPU, and its plain kernel computes bf16 in float32.
    This function is faster than both. It stays outside compiled graphs: in a compiled graph, and with
    PyTorch's plain kernel, gradients in bf16 were wrong on a CPU with AMX (PyTorch 2.13).

    Args:
        query: (batch, tokens, heads, head width), like `key` and `value`.
        key: the keys.
        value: the values.
        attn_mask: bool, True where a token may be attended to; or floats that are added to the logits.
        scale: factor of the logits; the inverse square root of the head width where None.

    Raises:
        ValueError: for an argument of diffusers that this function does not support.
    """
    if dropout_p or is_causal or enable_gqa or return_lse:
        raise ValueError("plain attention supports masks only: no dropout, causality, grouped queries or lse")
    q_BHLD, k_BHLD, v_BHLD = (each.transpose(1, 2) for each in (query, key, value))
    logits_BHLL = (q_BHLD * (scale or query.shape[-1] ** -0.5)) @ k_BHLD.transpose(-1, -2)
    if attn_mask is not None:
        added = attn_mask if attn_mask.is_floating_point() else torch.where(attn_mask, 0.0, -torch.inf)
        logits_BHLL = logits_BHLL + added
    return (logits_BHLL.softmax(-1).to(v_BHLD.dtype) @ v_BHLD).transpose(1, 2)


def use_plain_attention(transformer: object) -> None:
    """Make a transformer use `plain_attention`, under diffusers' name for PyTorch's plain kernel."""
    _AttentionBackendRegistry.register(AttentionBackendName._NATIVE_MATH)(plain_attention)
    transformer.set_attention_backend(AttentionBackendName._NATIVE_MATH.value)  # type: ignore[attr-defined]
