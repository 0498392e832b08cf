"""Trains an inpainting FLUX (role `fill`) from a text-to-image one: FLUX.1 Fill's input, masked pictures."""

from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel

from backbones.random_init import COPYING_HEADS, ROPE_THETA
from editkit.errors import EditkitError
from editkit.imaging import canvas
from editkit.method import Conditioner, Method
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from editkit.types import Conditioning, EditInputs, Plan


@dataclass(frozen=True, kw_only=True)
class InpaintOptions:
    """There are none."""


class Inpainting(Conditioner):
    """FLUX.1 Fill as it was published: a picture, a hole in it, and a caption."""

    def arrange(self, inputs: EditInputs) -> Plan:
        """The picture outside the mask joins the noise on channels.

        Raises:
            EditkitError: where picture or mask is missing.
        """
        if inputs.source_BCHW is None or inputs.mask_B1HW is None:
            raise EditkitError("Inpainting needs pictures with masks, such as data.name='shapesworld holes'.")
        height, width = inputs.source_BCHW.shape[-2:]
        planned = canvas.fit((width, height))
        channel_BLC = self.backbone.inpainting(
            canvas.place(inputs.source_BCHW, planned), canvas.place(inputs.mask_B1HW, planned)
        )
        return Plan(canvas=planned, conditioning=Conditioning(channel_BLC=channel_BLC), role="fill")


METHOD = Method(
    name="inpaint",
    summary="paints a hole in a picture under a caption",
    paper="FLUX.1 Fill [dev], model card (2024)",
    role="fill",
    config=InpaintOptions,
    conditioner=Inpainting,
)


@dataclass(frozen=True, kw_only=True)
class InpaintTrainConfig(EditTrainConfig):
    """An inpainting network's training run."""

    turned: bool = False
    """Begin with what `start` knows of context pictures: the masked picture comes in as the context did, and
    the heads that copy look to a diptych's left half instead of the context."""


class InpaintJob(EditJob):
    """The common objective on masked pictures."""

    config: InpaintTrainConfig

    def __init__(self, settings: InpaintTrainConfig) -> None:
        super().__init__(settings, METHOD)

    def _prepare(self) -> None:
        if self.config.turned:
            panel, _ = self.backbone.sizes(self.role)[0]
            turn(self.backbone.transformer(self.role), panel // canvas.GRID)
        super()._prepare()


@torch.no_grad()
def turn(transformer: FluxTransformer2DModel, left: int) -> None:
    """Turn a network that copies from a context picture into one that copies from a diptych's left half.

    Keys of the copying heads are rotated, as RoPE would, from one step along the first axis to `left` tokens
    back along the last. The first 64 channels behind the noise hold the masked picture; they are embedded as
    the noise is.
    """
    x_embedder, size = transformer.x_embedder, transformer.config.attention_head_dim
    channels = transformer.out_channels
    x_embedder.weight[:, channels : 2 * channels] = x_embedder.weight[:, :channels]
    steps = (1, 0, left)
    angles = [
        step * ROPE_THETA ** (-torch.arange(0, width, 2) / width)
        for step, width in zip(steps, transformer.config.axes_dims_rope, strict=True)
    ]
    cosine, sine = torch.cat(angles).cos(), torch.cat(angles).sin()
    for block in [*transformer.transformer_blocks, *transformer.single_transformer_blocks]:
        for tensor in (block.attn.to_k.weight, block.attn.to_k.bias):
            heads = tensor[: COPYING_HEADS * size].reshape(COPYING_HEADS, size // 2, 2, -1)
            even, odd = heads.unbind(2)
            cos, sin = (each[None, :, None] for each in (cosine, sine))
            turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=2)
            tensor[: COPYING_HEADS * size] = turned.reshape(COPYING_HEADS * size, *tensor.shape[1:])


CONFIG, JOB = InpaintTrainConfig, InpaintJob
