"""Attention for training on CPUs, as an attention backend of diffusers."""

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import Tensor

PLAIN = "plain"


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
    """Softmax attention written out, B L heads D, in the inputs' own precision.

    On a CPU PyTorch's fused kernel has a slow backward pass and its plain one computes bf16 in float32; this
    takes a third of the time of either. It stays outside compiled graphs: in these, and by the plain kernel,
    gradients in bf16 came out wrong on a CPU with AMX (PyTorch 2.13).
    """
    if dropout_p or is_causal or enable_gqa or return_lse:
        raise ValueError("plain attention knows masks alone: no dropout, causality, grouped queries or lse")
    q_BHLD, k_BHLD, v_BHLD = (each.transpose(1, 2) for each in (query, key, value))
    logits_BHLL = (q_BHLD * (scale or query.shape[-1] ** -0.5)) @ k_BHLD.transpose(-1, -2)
    if attn_mask is not None:
        added = attn_mask if attn_mask.is_floating_point() else torch.where(attn_mask, 0.0, -torch.inf)
        logits_BHLL = logits_BHLL + added
    return (logits_BHLL.softmax(-1).to(v_BHLD.dtype) @ v_BHLD).transpose(1, 2)


def use_plain_attention(transformer: object) -> None:
    """Give a transformer this attention, under diffusers' name for PyTorch's plain kernel."""
    _AttentionBackendRegistry.register(AttentionBackendName._NATIVE_MATH)(plain_attention)
    transformer.set_attention_backend(AttentionBackendName._NATIVE_MATH.value)  # type: ignore[attr-defined]
