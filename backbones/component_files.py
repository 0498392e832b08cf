"""Load a family's autoencoder and text encoders, from its folder or from a user's own files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, T5EncoderModel

from backbones import folders
from backbones.conversion import single_file
from backbones.empty_models import empty_model, fill
from backbones.folders import LOADING_ERRORS
from backbones.load_options import FILES, LoadOptions, encoder_quantizer
from backbones.packing import CELL, CHANNELS
from backbones.placement import CPU
from editkit.errors import EditkitError, first_sentence

COMPONENTS = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}
"""Classes of the shared components, by their names in a pipeline folder."""


def load_component(
    options: LoadOptions,
    name: str,
    home: Callable[[], Path],
    dtype: torch.dtype,
    device: torch.device = CPU,
) -> Any:
    """Load the autoencoder or a text encoder, from the family's folder or from the path in the options.

    Args:
        options: may name another file or folder, and how to quantize a text encoder.
        name: `vae`, `text_encoder` or `text_encoder_2`.
        home: finds the family's folder; a single file must fit the config in it.
        dtype: precision of weights that are not quantized.
        device: the device on which weights are quantized; all others stay on the CPU.

    Raises:
        EditkitError: where it is missing, damaged, pickled or of another shape.
    """
    loaded = _load(options, name, home, dtype, device)
    if name == "vae":
        _check_autoencoder(options.component(name) or home() / name, loaded.config)
    return loaded


def _check_autoencoder(where: Path, config: Any) -> None:
    """Check that an autoencoder's latents are those of FLUX.

    Raises:
        EditkitError: where they are those of another model, such as SD or SDXL.
    """
    channels, cell = config.latent_channels, 2 ** (len(config.block_out_channels) - 1)
    if (channels, cell) != (CHANNELS, CELL):
        raise EditkitError(
            f"The vae in {where} has {channels} channels for each {cell}x{cell} pixels and FLUX's has "
            f"{CHANNELS} for {CELL}x{CELL}; give an autoencoder of FLUX.1."
        )


def _load(
    options: LoadOptions, name: str, home: Callable[[], Path], dtype: torch.dtype, device: torch.device
) -> Any:
    """Load a component as `load_component` says, of whatever shape."""
    where, cls = options.component(name), COMPONENTS[name]
    quantizer = encoder_quantizer(options, name)
    if where is None:
        return folders.load_pretrained(cls, home(), name, dtype, quantizer=quantizer, device=device)
    if where.is_dir():
        unused = name != "vae"
        return folders.load_pretrained(cls, where, "", dtype, unused, quantizer=quantizer, device=device)
    if not (where.is_file() and where.suffix in FILES):
        wanted = "a .safetensors or .gguf file, or a folder, that exists; pickles are never opened"
        raise EditkitError(f"The {name} {where} cannot be loaded; give {wanted}.")
    try:
        if name == "vae":
            config = AutoencoderKL.load_config(home(), subfolder=name)
            return fill(empty_model(cls, config), single_file.read_vae(where, config), dtype)
        config = cls.config_class.from_pretrained(home(), subfolder=name)
        model = empty_model(cls, config)
        if name == "text_encoder":
            state, exact = single_file.read_clip(where)
        else:
            state, exact = single_file.read_t5(where, model.state_dict(), config.num_layers)
        if quantizer is not None:
            return folders.from_state(cls, config, state, dtype, quantizer, device)
        return fill(model, state, dtype, exact=exact)
    except (*LOADING_ERRORS, ImportError) as error:
        raise EditkitError(f"The {name} in {where} cannot be loaded ({first_sentence(error)}).") from error
