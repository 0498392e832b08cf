"""A family's autoencoder and text encoders, from its folder or from files that people bring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, T5EncoderModel

from backbones import folders
from backbones.conversion import single_file
from backbones.folders import LOADING_ERRORS
from backbones.loading import FILES, LoadOptions, encoder_quantizer
from backbones.placement import CPU
from backbones.quantized import built, fill
from editkit.errors import EditkitError, first_sentence

PARTS = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}


def load(
    options: LoadOptions,
    name: str,
    home: Callable[[], Path],
    dtype: torch.dtype,
    device: torch.device = CPU,
) -> Any:
    """The autoencoder or a text encoder, from the family's folder or what the options name.

    Args:
        options: may name another file or folder, and how to quantize a text encoder.
        name: `vae`, `text_encoder` or `text_encoder_2`.
        home: finds the family's folder, whose config a file has to fit.
        dtype: of weights that are not quantized.
        device: where weights are quantized; others stay on the CPU.

    Raises:
        EditkitError: where it is missing, damaged, pickled or of another shape.
    """
    where, cls = options.part(name), PARTS[name]
    quantizer = encoder_quantizer(options, name)
    if where is None:
        return folders.pretrained(cls, home(), name, dtype, quantizer=quantizer, device=device)
    if where.is_dir():
        spare = name != "vae"
        return folders.pretrained(cls, where, "", dtype, spare=spare, quantizer=quantizer, device=device)
    if not (where.is_file() and where.suffix in FILES):
        wanted = "a .safetensors or .gguf file, or a folder, that exists; pickles are never opened"
        raise EditkitError(f"The {name} {where} cannot be loaded; give {wanted}.")
    try:
        if name == "vae":
            config = AutoencoderKL.load_config(home(), subfolder=name)
            return fill(built(cls, config), single_file.vae(where, config), dtype)
        config = cls.config_class.from_pretrained(home(), subfolder=name)
        model = built(cls, config)
        if name == "text_encoder":
            state, exact = single_file.text_encoder(where)
        else:
            state, exact = single_file.text_encoder_2(where, model.state_dict(), config.num_layers)
        if quantizer is not None:
            return folders.from_state(cls, config, state, dtype, quantizer, device)
        return fill(model, state, dtype, exact=exact)
    except (*LOADING_ERRORS, ImportError) as error:
        raise EditkitError(f"The {name} in {where} cannot be loaded ({first_sentence(error)}).") from error
