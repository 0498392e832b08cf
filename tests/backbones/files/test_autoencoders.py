"""Parity: autoencoders from single files encode alike, and an edit runs from files alone."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import editkit
from backbones.conversion.checkpoints import convert
from editkit import atomic_files
from tests.backbones.files.encoders import (
    component,
    own,
    spoken,
)
from tests.pictures import difference, image
from tests.random_weights import AUTOENCODER


def image_tensor() -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_an_autoencoder_in_either_naming(home: Path, tmp_path: Path) -> None:
    """BFL's, as ae.safetensors has it, and diffusers', alone and among other parts."""
    vae = own("vae", home)
    state = {name: tensor.detach() for name, tensor in vae.state_dict().items()}
    native = {spoken(name): tensor for name, tensor in state.items()}
    pixels = image_tensor()
    wanted = vae.encode(pixels).latent_dist.mean
    for number, found in enumerate((native, state, {f"vae.{k}": t for k, t in native.items()})):
        if number == 2:
            found |= {"model.diffusion_model.img_in.bias": torch.ones(3)}
        save_file({k: t.contiguous() for k, t in found.items()}, tmp_path / "ae.safetensors")
        made = component("vae", tmp_path / "ae.safetensors", home)
        assert made.config.scaling_factor == AUTOENCODER["scaling_factor"]
        assert torch.equal(made.encode(pixels).latent_dist.mean, wanted)


def test_an_edit_from_files_alone(random_pipeline: Path, tmp_path: Path) -> None:
    """Every part from a file of its own; the recipe names each by its hash."""
    source = image(64, 48)
    plain = editkit.load(random_pipeline, "cpu").edit(source, "make it blue", steps=2)
    files = {"transformer": convert(random_pipeline / "transformer", tmp_path / "flux.safetensors")}
    for name in ("text_encoder", "text_encoder_2"):
        files[name] = tmp_path / f"{name}.safetensors"
        save_file(load_file(random_pipeline / name / "model.safetensors"), files[name])
    files["vae"] = tmp_path / "ae.safetensors"
    state = load_file(random_pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    save_file({spoken(name): tensor for name, tensor in state.items()}, files["vae"])
    result = editkit.load(random_pipeline, "cpu", axes=(8, 12, 12), **files).edit(
        source, "make it blue", steps=2
    )
    assert difference(result.image, plain.image) == 0
    weights = result.recipe["weights"]
    assert {part: weights[part] for part in files} == {p: atomic_files.sha256(f) for p, f in files.items()}
