"""Models from the folders that diffusers and transformers write."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from backbones.conversion.reader import Stored
from backbones.conversion.weights import Safetensors
from backbones.quantized import built, complete_state, fill, is_quantized
from editkit.errors import EditkitError, first_sentence
from editkit.quiet import no_bars

LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


def pretrained(
    cls: Any,
    folder: Path | str,
    part: str,
    dtype: torch.dtype,
    spare: bool | None = None,
    quantizer: Any = None,
    device: torch.device | None = None,
) -> Any:
    """A model from a folder's subfolder `part`, frozen, or from the folder itself where `part` is empty.

    Args:
        cls: of diffusers or transformers.
        folder: of a pipeline, or of the model.
        part: subfolder, if any.
        dtype: of weights that are not quantized.
        spare: whether the files may hold more than the model has; for text encoders where None.
        quantizer: transformers' config by which weights are quantized on load, for text encoders.
        device: where they are quantized, and stay.

    Raises:
        EditkitError: where it is missing, damaged or pickled, or quantized already and to be so again.
    """
    options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    try:
        if quantizer is not None:
            if _config(Path(folder) / part).get("quantization_config"):
                raise ValueError("its weights are quantized already; leave the option quantization out")
            options |= {"quantization_config": quantizer, "device_map": {"": device}}
        # The encoders' files may hold more than FLUX needs: T5's decoder, CLIP's position ids.
        if in_four_bits(Path(folder) / part):
            return filled(cls, Path(folder) / part, dtype)
        with no_bars():
            found = cls.from_pretrained(folder, **options, **({"subfolder": part} if part else {}))
        model = complete(*found, spare=part.startswith("text") if spare is None else spare)
    except (*LOADING_ERRORS, ImportError) as error:
        what = part or cls.__name__
        raise EditkitError(f"The {what} in {folder} cannot be loaded ({first_sentence(error)}).") from error
    return model.eval().requires_grad_(False)


def from_state(
    cls: Any, config: Any, state: dict[str, Any], dtype: torch.dtype, quantizer: Any, device: torch.device
) -> Any:
    """A text encoder from its tensors, quantized on their way, frozen.

    Args:
        cls: of transformers.
        config: its config.
        state: all of its tensors, by the names of its state dict.
        dtype: of weights that are not quantized.
        quantizer: transformers' config of quantization.
        device: where weights are quantized, and stay.

    Raises:
        ValueError: where tensors are not those of the model, or quantized already.
    """
    if any(map(is_quantized, state.values())):
        raise ValueError("its weights are quantized already; leave the option quantization out")
    state = complete_state(built(cls, config), state)
    with no_bars():
        made = cls.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=dtype,
            quantization_config=quantizer,
            device_map={"": device},
            output_loading_info=True,
        )
    return complete(*made).eval().requires_grad_(False)


def complete(model: Any, found: dict[str, Any], *, spare: bool = False) -> Any:
    """A model that `from_pretrained` gave together with what it found, once all its weights were there.

    Where some are missing, diffusers and transformers make them up and say so in a log only.

    Args:
        model: the model.
        found: its loading info.
        spare: whether the files may hold more than the model has.

    Raises:
        ValueError: where weights and config do not belong together.
    """
    missing, extra = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if missing:
        raise ValueError(f"its files lack {len(missing)} tensors of its config, such as {missing[0]}")
    if extra and not spare:
        raise ValueError(f"its files hold {len(extra)} tensors that its config lacks, such as {extra[0]}")
    return model


def in_four_bits(folder: Path) -> bool:
    """Whether a model's folder holds bitsandbytes' 4 bits, which the libraries load on a GPU alone."""
    quantized = _config(folder).get("quantization_config") or {}
    return bool(quantized.get("load_in_4bit")) and quantized.get("quant_method") == "bitsandbytes"


def filled(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model from a folder of 4-bit weights.

    Raises:
        EditkitError: where bitsandbytes is missing, or a file damaged.
        ValueError: where weights and config do not belong together.
    """
    config = _config(folder)
    del config["quantization_config"]
    with ExitStack() as stack:
        weights = Safetensors(Stored(sorted(folder.glob("*.safetensors")), stack))
        state = {name: weights[name] for name in weights}
    made = config if hasattr(cls, "from_config") else cls.config_class(**config)
    return fill(built(cls, made), state, dtype)


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever loads the folder says so
        return {}
    return found if isinstance(found, dict) else {}
