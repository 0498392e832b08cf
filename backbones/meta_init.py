"""Make a FLUX family without weights, so that a run's needs are known before anything is downloaded."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextModel, T5EncoderModel

from backbones import packing
from backbones.families import config_folder, find_family
from backbones.flux import Flux
from backbones.folders import LOADING_ERRORS
from backbones.load_options import LoadOptions
from backbones.quantized_sizes import CLIP_PLAIN, T5_PLAIN, bytes_of_a_weight
from backbones.specs import PARAMETERS, PUBLISHED_SHAPE
from backbones.weight_sizes import given_bytes
from editkit.backbone import Role
from editkit.errors import EditkitError, first_sentence
from editkit.flow import FLUX_DEV, TimeShift
from editkit.types import Text

CLASSES: dict[str, Any] = {
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": T5EncoderModel,
}
PUBLISHED = {
    "vae": (PARAMETERS["vae"], 0),
    "text_encoder": (PARAMETERS["text_encoder"], CLIP_PLAIN),
    "text_encoder_2": (PARAMETERS["text_encoder_2"], T5_PLAIN),
}
"""Numbers of parameters of the published models, and of those that are never quantized."""


class MetaFlux(Flux):
    """A FLUX family on the meta device: its tensors have shapes and no values."""

    def __init__(self, name: str, options: LoadOptions | None = None) -> None:
        super().__init__(find_family(name), torch.device("meta"), torch.float32, options)

    def transformer(self, role: str) -> FluxTransformer2DModel:
        """Return the role's transformer on the meta device."""
        record, key = self.role(role), self._key(role)
        if key not in self.transformers:
            with torch.device("meta"):
                made = FluxTransformer2DModel.from_config(self._config(role, record))
            self.transformers[key] = made.requires_grad_(False)
        return self.transformers[key]

    def _config(self, role: str, record: Role) -> dict[str, Any]:
        """Return the config of a role's transformer."""
        whole = config_folder(record)
        folder = self.options.replacement(role) or (whole and whole / "transformer")
        if folder and (folder / "config.json").is_file():
            config: dict[str, Any] = json.loads((folder / "config.json").read_text())
            outputs = config.get("out_channels") or config["in_channels"]
            return config | {"in_channels": record.in_channels, "out_channels": outputs}
        return PUBLISHED_SHAPE | {
            "in_channels": record.in_channels,
            "out_channels": 64,
            "guidance_embeds": record.guidance is not None,
        }

    def component_bytes(self, role: str, itemsize: int) -> dict[str, float]:
        """Return the bytes of the autoencoder and of each text encoder as they are loaded, by name."""
        folder = config_folder(self.role(role))
        return {part: self._component_bytes(part, folder, itemsize) for part in CLASSES}

    def _component_bytes(self, part: str, folder: Path | None, itemsize: int) -> float:
        path, quantizer = self.options.component(part), self.options.quantizer(part)
        if path is not None and not quantizer:
            return given_bytes(part, path, itemsize)
        whole, plain = PUBLISHED[part] if folder is None else _parameters(CLASSES[part], folder / part)
        return bytes_of_a_weight(quantizer, itemsize) * (whole - plain) + itemsize * plain

    def weight_bytes(self, role: str, itemsize: int) -> float:
        """Return the bytes of a weight of the role's transformer as it is loaded, the mean of all."""
        path = self.options.replacement(role)
        share = bytes_of_a_weight(self.options.quantizer("transformer"), itemsize)
        if path is None or path.is_dir():
            return share
        count = sum(parameter.numel() for parameter in self.transformer(role).parameters())
        return float(share / itemsize * given_bytes("transformer", path, itemsize) / count)

    def text(self, prompts: Sequence[str], placeholders: Sequence[str] = ()) -> Text:
        config = next(iter(self.transformers.values())).config
        shape = len(prompts), self.family.sequence_length, config.joint_attention_dim
        pooled = len(prompts), config.pooled_projection_dim
        return Text(
            tokens_BTD=torch.empty(shape, device="meta"), pooled_BD=torch.empty(pooled, device="meta")
        )

    def time_shift(self, role: str) -> TimeShift:
        return FLUX_DEV  # no shape depends on it

    def has_room_for(self, placeholders: Sequence[str]) -> bool:
        return False

    def encode(self, pixels_BCHW: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        batch, _, height, width = pixels_BCHW.shape
        return torch.empty(batch, height * width // packing.TOKEN**2, 64, device="meta")


def _parameters(cls: Any, folder: Path) -> tuple[int, int]:
    """Count the parameters of a model by its config alone, and those that are never quantized.

    Linear layers are quantized, except the last ones of T5's blocks, `wo`, which transformers leaves alone.
    """
    try:
        with torch.device("meta"):
            if issubclass(cls, AutoencoderKL):
                model = cls.from_config(cls.load_config(folder))
            else:
                model = cls(cls.config_class.from_pretrained(folder))
    except LOADING_ERRORS as error:
        raise EditkitError(f"The config in {folder} cannot be read ({first_sentence(error)}).") from error
    whole = sum(parameter.numel() for parameter in model.parameters())
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith(".wo")
    ]
    return whole, whole - sum(layer.weight.numel() for layer in layers)
