"""The stage of a rehearsal: a scale's networks on a device, in memory or as folders of diffusers."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

import editkit
from backbones.flux import Flux
from backbones.specs import FAMILIES
from tests.parity.pipelines import pipeline
from tests.rehearsal.networks import CHANNELS, Draw, Scale
from tests.released_adapters import ace, released

PIPELINES = {"kontext": FluxKontextPipeline, "fill": FluxFillPipeline, "ace": FluxFillPipeline}
SHARED = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
RANK = 8


class Stage:
    """A scale's networks.

    Args:
        scale: how large they are.
        folder: for what is written.
        device: where they run.
        dtype: of all weights.
    """

    def __init__(self, scale: Scale, folder: Path, device: str, dtype: torch.dtype) -> None:
        self.scale, self.folder = scale, folder
        self.device, self.dtype = torch.device(device), dtype

    @cached_property
    def made(self) -> Flux:
        """All roles in memory; their transformers share all weights but those of their input layers."""
        known = FAMILIES["flux1-dev"]
        roles = {
            role: replace(known.roles[role], source=f"random-{role}", file=None, start=None)
            for role in CHANNELS
        }
        flux = Flux(replace(known, name="random", roles=roles), self.device, self.dtype)
        draw = Draw(self.device, self.dtype)
        vae, encoders = draw.vae(self.scale), draw.encoders(self.scale)
        first = draw.transformer(self.scale)
        for role, channels in CHANNELS.items():
            own = first if role == "kontext" else draw.with_input(first, channels)
            flux.set_components(roles[role].key, own, vae.to(memory_format=torch.channels_last), encoders)
        return flux

    def in_memory(self) -> editkit.Editor:
        """An editor of all roles."""
        return editkit.Editor(self.made)

    def write(self, *roles: str) -> None:
        """Write a diffusers folder for each role; all share the autoencoder and the text encoders."""
        first, *others = (self.folder / role for role in roles)
        pipeline(PIPELINES[roles[0]], self.made, roles[0]).save_pretrained(first)
        for folder in others:
            folder.mkdir()
            for part in SHARED:
                (folder / part).symlink_to(first / part)
            built = pipeline(PIPELINES[folder.name], self.made, folder.name)
            built.save_config(folder)
            built.transformer.save_pretrained(folder / "transformer")

    def forget(self) -> None:
        """Let go of what is in memory."""
        del self.made

    def load(self, role: str, **loading: Any) -> editkit.Editor:
        """An editor of a role's folder."""
        return editkit.load(str(self.folder / role), self.device, self.dtype, **loading)

    def file(self, name: str, state: dict[str, Tensor]) -> Path:
        """Write an adapter in the precision of the stage."""
        path = self.folder / name
        if not path.is_file():
            save_file({key: tensor.to(self.dtype).contiguous() for key, tensor in state.items()}, path)
        return path

    def lora(self, transformer: nn.Module) -> Path:
        """A plain LoRA in the layout of ICEdit's released one."""
        return self.file("lora.safetensors", released(transformer, RANK))

    def experts(self, transformer: nn.Module) -> Path:
        """A LoRA-MoE in the layout of ICEdit's released one."""
        return self.file("experts.safetensors", released(transformer, RANK, experts=4))

    def equal_experts(self, transformer: nn.Module) -> Path:
        """Experts that are each the plain LoRA, under routers that choose among them."""
        plain, state = released(transformer, RANK), {}
        for key, tensor in released(transformer, RANK, experts=4).items():
            if ".expert_" in key:
                stem, _, _ = key.partition(".expert_")
                tensor = plain[f"{stem}.weight"]
            elif not key.endswith(".lora_route.weight"):
                tensor = plain[key]
            state[key] = tensor.clone()
        return self.file("equal.safetensors", state)

    def ace(self) -> Path:
        """A LoRA in the layout of ACE++'s released ones."""
        state = ace(RANK, width=self.scale.width, blocks=self.scale.blocks, device="cpu")
        return self.file("ace.safetensors", state)
