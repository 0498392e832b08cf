"""Load models from the folders that diffusers and transformers write."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from backbones.conversion.reader import SafetensorsReader
from backbones.conversion.weights import SafetensorsWeights
from backbones.empty_models import complete_state, empty_model, fill
from backbones.quantized import is_quantized, keep_packing
from editkit.errors import EditkitError, first_sentence
from editkit.quiet import no_bars

LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)
"""Exceptions of the libraries for files that are missing, damaged or do not fit."""


def load_pretrained(
    cls: Any,
    folder: Path | str,
    part: str,
    dtype: torch.dtype,
    allow_unused: bool | None = None,
    quantizer: Any = None,
    device: torch.device | None = None,
) -> Any:
    """Load a model from a folder, or from its subfolder `part`; the model is frozen.

    Args:
        cls: a model class of diffusers or transformers.
        folder: the folder of a pipeline, or of the model.
        part: the subfolder; empty where the folder itself is the model's.
        dtype: precision of weights that are not quantized.
        allow_unused: whether files may hold tensors that the model has no use for; where None, only text
            encoders' files may.
        quantizer: transformers' config that quantizes a text encoder's weights on load, or None.
        device: the device on which weights are quantized and stay.

    Raises:
        EditkitError: where it is missing, damaged or pickled, or where a quantizer is given and the weights
            are quantized already.
    """
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    try:
        if quantizer is not None:
            if _read_config(Path(folder) / part).get("quantization_config"):
                raise ValueError("its weights are quantized already; leave the option quantization out")
            options["quantization_config"] = quantizer
        if quantizer is not None or is_bitsandbytes(Path(folder) / part):
            options["device_map"] = {"": device}  # transformers' own choice is the process's current GPU
        check_shards(Path(folder) / part)
        # The encoders' files may hold more than FLUX needs: T5's decoder, CLIP's position ids.
        if is_4bit(Path(folder) / part):
            return load_4bit(cls, Path(folder) / part, dtype)
        with no_bars():
            found = cls.from_pretrained(folder, **options, **({"subfolder": part} if part else {}))
        model = require_all_weights(
            *found, allow_unused=part.startswith("text") if allow_unused is None else allow_unused
        )
    except (*LOADING_ERRORS, ImportError) as error:
        what = part or cls.__name__
        raise EditkitError(f"The {what} in {folder} cannot be loaded ({first_sentence(error)}).") from error
    keep_packing(model)
    return model.eval().requires_grad_(False)


def from_state(
    cls: Any, config: Any, state: dict[str, Any], dtype: torch.dtype, quantizer: Any, device: torch.device
) -> Any:
    """Build a text encoder from its tensors, and quantize them as they are placed; the model is frozen.

    Args:
        cls: a model class of transformers.
        config: its config.
        state: all of its tensors, by their names in its state dict.
        dtype: precision of weights that are not quantized.
        quantizer: transformers' quantization config.
        device: the device on which weights are quantized and stay.

    Raises:
        ValueError: where tensors are not those of the model, or are quantized already.
    """
    if any(map(is_quantized, state.values())):
        raise ValueError("its weights are quantized already; leave the option quantization out")
    state = complete_state(empty_model(cls, config), state)
    with no_bars():
        found = cls.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=dtype,
            quantization_config=quantizer,
            device_map={"": device},
            output_loading_info=True,
        )
    model = require_all_weights(*found)
    keep_packing(model)
    return model.eval().requires_grad_(False)


def require_all_weights(model: Any, found: dict[str, Any], *, allow_unused: bool = False) -> Any:
    """Return a model after a check that its files held all of its weights.

    diffusers and transformers fill missing weights with random values and only log it.

    Args:
        model: the model from `from_pretrained`.
        found: the loading info from `from_pretrained`.
        allow_unused: whether files may hold tensors that the model has no use for.

    Raises:
        ValueError: where weights and config do not belong together.
    """
    missing, extra = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if missing:
        raise ValueError(
            f"its files lack {len(missing)} tensors that its config requires, such as {missing[0]}"
        )
    if extra and not allow_unused:
        raise ValueError(
            f"its files hold {len(extra)} tensors that its config does not have, such as {extra[0]}"
        )
    # diffusers takes the names from the index of the shards, and does not look whether a shard has them.
    if hollow := [name for name, tensor in model.named_parameters() if tensor.is_meta]:
        raise ValueError(f"its shards lack {len(hollow)} tensors that their index names, such as {hollow[0]}")
    return model


def check_shards(folder: Path) -> None:
    """Check that a model's folder has weights, and all shards which its index names.

    The libraries' own messages begin with long paths, so that the name of the shard is cut off, and diffusers
    logs an error of its own where there are no weights.

    Raises:
        ValueError: naming the first missing shard, or the index where it is damaged.
    """
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ValueError("it has no .safetensors file; pickles are never opened")
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            absent = [shard for shard in shards if not (folder / shard).is_file()]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"its {index.name} does not say which files hold the tensors") from error
        if absent:
            raise ValueError(f"it lacks {absent[0]}, which its {index.name} names")


def is_4bit(folder: Path) -> bool:
    """Whether a model's folder holds bitsandbytes' 4-bit weights, which the libraries load on a GPU only."""
    quantized = _read_config(folder).get("quantization_config") or {}
    return bool(quantized.get("load_in_4bit")) and is_bitsandbytes(folder)


def is_bitsandbytes(folder: Path) -> bool:
    """Whether bitsandbytes quantized the weights in a model's folder."""
    quantized = _read_config(folder).get("quantization_config") or {}
    return bool(quantized.get("quant_method") == "bitsandbytes")


def load_4bit(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load a model from a folder of 4-bit weights, on any device.

    Raises:
        EditkitError: where bitsandbytes is missing, or a file is damaged.
        ValueError: where weights and config do not belong together.
    """
    config = _read_config(folder)
    del config["quantization_config"]
    with ExitStack() as stack:
        weights = SafetensorsWeights(SafetensorsReader(sorted(folder.glob("*.safetensors")), stack))
        state = {name: weights[name] for name in weights}
    made = config if hasattr(cls, "from_config") else cls.config_class(**config)
    return fill(empty_model(cls, made), state, dtype)


def _read_config(folder: Path) -> dict[str, Any]:
    """Read a model's config.json; return an empty dict where it cannot be read."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the libraries' loaders report it
        return {}
    return found if isinstance(found, dict) else {}
