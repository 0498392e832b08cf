"""FLUX.1's own configs, full and cut down, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from backbones.empty_models import empty_model, fill
from backbones.specs import PUBLISHED_SHAPE
from backbones.text import Encoders
from backbones.word_tokenizer import word_tokenizer
from tests import ROOT
from tests.random_weights import LETTERS

CHANNELS = {"kontext": 64, "fill": 384, "ace": 448}
"""Of the transformer's input, by role."""
LENGTH, CLIP_LENGTH = 512, 77
"""Tokens of a prompt."""
TRANSFORMER = PUBLISHED_SHAPE | {
    "out_channels": 64,
    "guidance_embeds": True,
    "axes_dims_rope": [16, 56, 56],
}
T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": CLIP_LENGTH,
    "hidden_act": "quick_gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
AUTOENCODER = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "mid_block_add_attention": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the networks are, and the pictures that they are given; by default FLUX.1 itself.

    Attributes:
        name: of the scale.
        transformer: the transformer's config but for its channels.
        t5: T5's config.
        clip: CLIP's config.
        vae: the autoencoder's config.
        sizes: Kontext's pictures.
        side: of square pictures in what would be dear on large ones.
        half: width of each half of ICEdit's diptych.
        canvas: side of ACE++'s square pictures.
        shortened: whether Kontext's pictures go through a narrow encoder, and only the first of `sizes`
            through the transformer's blocks.
    """

    name: str
    transformer: dict[str, Any] = field(default_factory=lambda: dict(TRANSFORMER))
    t5: dict[str, Any] = field(default_factory=lambda: dict(T5_XXL))
    clip: dict[str, Any] = field(default_factory=lambda: dict(CLIP_L))
    vae: dict[str, Any] = field(default_factory=lambda: dict(AUTOENCODER))
    sizes: tuple[tuple[int, int], ...] = ((1024, 1024), (1392, 752))
    side: int = 512
    half: int = 512
    canvas: int = 1024
    shortened: bool = False

    @property
    def width(self) -> int:
        """Of the transformer."""
        return int(self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"])

    @property
    def blocks(self) -> tuple[int, int]:
        """Double and single ones."""
        return self.transformer["num_layers"], self.transformer["num_single_layers"]


PUBLISHED = Scale(name="12 B")
FULL_WIDTH = replace(
    PUBLISHED,
    name="two blocks at full width",
    transformer=TRANSFORMER | {"num_layers": 1, "num_single_layers": 1},
    t5=T5_XXL | {"num_layers": 1},
    clip=CLIP_L | {"num_hidden_layers": 1},
    side=128,
    canvas=256,
    shortened=True,
)
SMALL = Scale(
    name="small",
    transformer=TRANSFORMER
    | {
        "num_layers": 4,
        "num_single_layers": 4,
        "num_attention_heads": 1,
        "joint_attention_dim": 64,
        "pooled_projection_dim": 32,
    },
    t5=T5_XXL | {"vocab_size": 2048, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 1, "num_heads": 4},
    clip=CLIP_L
    | {
        "vocab_size": 2048,
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    vae=AUTOENCODER | {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
    sizes=((96, 96), (128, 80)),
    side=64,
    half=64,
    canvas=96,
)
"""With heads as wide as FLUX.1's, so that a folder of it is taken for FLUX.1's and not for `tiny`'s."""


class Draw:
    """Draws the weights of one model after the other.

    Args:
        device: where they are drawn, and stay.
        dtype: their precision.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._generator = torch.Generator(device).manual_seed(0)

    def transformer(self, scale: Scale) -> FluxTransformer2DModel:
        return self._model(FluxTransformer2DModel, scale.transformer | {"in_channels": CHANNELS["kontext"]})

    def with_input(self, transformer: FluxTransformer2DModel, channels: int) -> FluxTransformer2DModel:
        """A transformer with an input layer of its own, which shares all other weights."""
        config = {key: value for key, value in transformer.config.items() if not key.startswith("_")}
        made = empty_model(FluxTransformer2DModel, config | {"in_channels": channels})
        key = "x_embedder.weight"
        own = {key: self._tensor(key, made.state_dict()[key].shape)}
        return fill(made, {**transformer.state_dict(), **own}, self.dtype).to(self.device)

    def vae(self, scale: Scale) -> AutoencoderKL:
        return self._model(AutoencoderKL, scale.vae)

    def encoders(self, scale: Scale) -> Encoders:
        """Both of them, with tokenizers of whole words: FLUX.1's own come with its weights."""
        words = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
        clip = word_tokenizer(words, letters=LETTERS, kind="clip", length=CLIP_LENGTH)
        t5 = word_tokenizer(words, letters=LETTERS, kind="t5", length=LENGTH)
        clip_model = self._model(CLIPTextModel, CLIPTextConfig(**scale.clip))
        t5_model = self._model(T5EncoderModel, T5Config(**scale.t5))
        return Encoders((clip, clip_model), (t5, t5_model), LENGTH)

    def _model(self, cls: Any, config: Any) -> Any:
        model = empty_model(cls, config)
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        state = {name: self._tensor(name, shape) for name, shape in shapes.items()}
        return fill(model, state, self.dtype).to(self.device)

    def _tensor(self, name: str, shape: torch.Size) -> Tensor:
        """Weights that keep a signal's size, as `tests.random_weights.liven` has them."""
        if len(shape) == 1 and name.endswith(".weight"):
            # Attention that chooses, where else it would take the mean of all tokens.
            chooses = ".norm_q." in name or ".norm_k." in name or ".norm_added_" in name
            return torch.full(shape, 1.75 if chooses else 1.0, device=self.device, dtype=self.dtype)
        std = 0.1 if len(shape) == 1 else shape[1:].numel() ** -0.5
        if name.startswith("shared") or "embedding.weight" in name or "embed_tokens" in name:
            std = 1.0
        drawn = torch.empty(shape, device=self.device, dtype=self.dtype)
        return drawn.normal_(std=std, generator=self._generator)
