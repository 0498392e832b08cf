"""Load a transformer, and set it up as the loading options say."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import FluxTransformer2DModel
from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading

from backbones import attention, folders, packing
from backbones.conversion import architecture, single_file
from backbones.empty_models import empty_model, fill, fill_quantized
from backbones.folders import LOADING_ERRORS
from backbones.load_options import BITSANDBYTES, CACHES, FILES, QUANTIZERS, LoadOptions, build_config
from backbones.placement import CPU, Placement
from backbones.quantized import keep_packing
from editkit.backbone import Transformer
from editkit.errors import EditkitError, first_sentence, unknown
from editkit.quiet import no_bars

OUT_CHANNELS = 4 * packing.CHANNELS
"""Channels of a token that a transformer predicts: those of 2 x 2 latent cells."""


def load_transformer(
    options: LoadOptions,
    role: str,
    own: Callable[[], Path],
    dtype: torch.dtype,
    device: torch.device = CPU,
) -> FluxTransformer2DModel:
    """Load a transformer from the role's own file or folder, or from the path in the options.

    Args:
        options: may name another file or folder, and how to quantize it.
        role: the role to load.
        own: finds the role's own file or folder.
        dtype: precision of weights that are not quantized.
        device: the device on which weights are quantized; all others stay on the CPU.

    Raises:
        EditkitError: where it is missing, damaged, pickled or of another shape.
    """
    where = options.replacement(role) or own()
    if not (where.is_dir() or (where.is_file() and where.suffix in FILES)):
        wanted = "a .safetensors or .gguf file, or a folder, that exists; pickles are never opened"
        raise EditkitError(f"The transformer {where} cannot be loaded; give {wanted}.")
    asked = options.quantizer("transformer")
    quantizer = build_config(asked, QUANTIZERS) if asked else None
    try:
        if where.is_file():
            config, state, exact = single_file.read_transformer(where, options.axes)
            model = empty_model(FluxTransformer2DModel, config)
            if quantizer:
                fill_quantized(model, state, quantizer, dtype, device)
            else:
                fill(model, state, dtype, exact=exact)
        elif quantizer is None and folders.is_4bit(where):
            model = folders.load_4bit(FluxTransformer2DModel, where, dtype)
        else:
            folders.check_shards(where)
            extra: dict[str, Any] = {"quantization_config": quantizer} if quantizer else {}
            if asked.get("type") == BITSANDBYTES or folders.is_bitsandbytes(where):
                extra["device_map"] = {"": device}  # diffusers' own choice is the process's current GPU
            with no_bars():
                found = FluxTransformer2DModel.from_pretrained(
                    where, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, **extra
                )
            model = folders.require_all_weights(*found)
            keep_packing(model)
        _check_shape(model)
    except (*LOADING_ERRORS, ImportError) as error:
        raise EditkitError(
            f"The transformer in {where} cannot be loaded ({first_sentence(error)})."
        ) from error
    return cast(FluxTransformer2DModel, model.eval().requires_grad_(False))


def _check_shape(model: FluxTransformer2DModel) -> None:
    """Check what makes a transformer one of FLUX.1 beside the shapes of its tensors.

    Raises:
        ValueError: where its RoPE axes do not fit its heads, or it does not predict latents of FLUX.1.
    """
    axes, head = model.config.axes_dims_rope, model.config.attention_head_dim
    if not architecture.axes_fit(axes or (), head):
        raise ValueError(f"its axes_dims_rope {axes} are not three even numbers that sum to {head}")
    if model.out_channels != OUT_CHANNELS:
        raise ValueError(f"it predicts {model.out_channels} channels, and those of FLUX.1 {OUT_CHANNELS}")


def place_transformer(
    transformer: FluxTransformer2DModel,
    device: torch.device,
    options: LoadOptions,
    placement: Placement | None = None,
) -> FluxTransformer2DModel:
    """Move a transformer to its device, or let a preset's placement do so, and apply the loading options.

    Raises:
        EditkitError: where diffusers refuses an option.
    """
    try:
        (placement or Placement(device, None)).place(transformer, device, options.offload)
    except (ValueError, RuntimeError, ImportError, TypeError) as error:
        raise EditkitError(f"The backbone's options do not fit: {first_sentence(error)}.") from error
    return apply_options(transformer, options)


def apply_options(transformer: FluxTransformer2DModel, options: LoadOptions) -> FluxTransformer2DModel:
    """Apply the loading options that do not move weights: attention, cache and compilation.

    Raises:
        EditkitError: where diffusers refuses an option.
    """
    try:
        if options.attention == attention.PLAIN:
            attention.use_plain_attention(transformer)
        elif options.attention:
            transformer.set_attention_backend(options.attention)
        set_cache(transformer, options.cache)
        if options.compile:
            # Compute GELU's tanh with exp, which is faster on a CPU.
            transformer.compile_repeated_blocks(options={"cpp.use_decompose_tanh": True})
    except (ValueError, RuntimeError, ImportError, TypeError) as error:
        raise EditkitError(f"The backbone's options do not fit: {first_sentence(error)}.") from error
    return transformer


def set_cache(
    transformer: FluxTransformer2DModel, values: dict[str, Any], allowed: Sequence[str] = CACHES
) -> None:
    """Let one of diffusers' caches skip blocks from now on, or none.

    Args:
        transformer: the transformer.
        values: `type`, which names diffusers' class, and its arguments; empty for none.
        allowed: names of diffusers' classes that may be used.

    Raises:
        EditkitError: where the cache does not fit, or blocks are compiled, which would be compiled anew.
    """
    wanted = build_config(values, allowed) if values else None
    if repr(wanted) == repr(transformer._cache_config):  # configs with tensors cannot be compared
        return
    if any(block._compiled_call_impl is not None for block in transformer.transformer_blocks):
        raise EditkitError("A speed with cache= cannot skip compiled blocks; load with compile=false.")
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    if wanted is not None:
        transformer.enable_cache(wanted)


def refresh_offload_groups(transformer: Transformer) -> None:
    """Update the groups in which weights visit the device, after adapters were added or removed.

    diffusers does this in its pipelines' LoRA loaders only. A weight that is in no group would stay on the
    CPU.
    """
    _maybe_remove_and_reapply_group_offloading(transformer)


def build_random_model(cls: Any, values: Mapping[str, Any], key: str) -> Any:
    """Build a diffusers model with random weights from its config.

    Args:
        cls: the model class.
        values: the config.
        key: key of a training config that holds it, for error messages.

    Raises:
        EditkitError: for a key that diffusers would ignore silently, or a value that it refuses.
    """
    known = inspect.signature(cls.__init__).parameters
    if strange := [name for name in values if name not in known]:
        raise EditkitError(unknown(f"key of {key} called", strange[0], [*known][1:]))
    try:
        return cls.from_config(dict(values))
    except (AttributeError, ArithmeticError, IndexError, *LOADING_ERRORS) as error:
        problem = f"{first_sentence(error)}, says diffusers' {cls.__name__}"
        raise EditkitError(f"The config under {key} does not fit: {problem}.") from error
