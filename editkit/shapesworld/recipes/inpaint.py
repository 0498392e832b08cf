"""Trains an inpainting FLUX (role `fill`) from a text-to-image one: FLUX.1 Fill's input, masked pictures."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from editkit.config import Options
from editkit.errors import EditkitError
from editkit.imaging import canvas
from editkit.imaging.canvas import GRID
from editkit.method import Conditioner, Method, Trainer
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from editkit.types import Canvas, Conditioning, EditInputs, Plan


@dataclass(frozen=True, kw_only=True)
class InpaintOptions:
    """There are none."""


class Inpainting(Conditioner[InpaintOptions]):
    """FLUX.1 Fill as it was published: a picture, a hole in it, and a caption."""

    @classmethod
    def check_inputs(cls, inputs: EditInputs, config: InpaintOptions) -> None:
        """Refuse inputs without a picture or a mask."""
        _holed(inputs)

    def plan_without_text(self, inputs: EditInputs) -> Plan:
        """The picture outside the mask joins the noise on channels.

        Raises:
            EditkitError: where picture or mask is missing.
        """
        source_BCHW, mask_B1HW = _holed(inputs)
        whole = _whole(source_BCHW)
        channel_BLC = self.backbone.inpainting(
            canvas.place(source_BCHW, whole), canvas.place(mask_B1HW, whole)
        )
        panel, _ = self.backbone.sizes("fill")[0]
        if whole.width == 2 * panel:
            whole = canvas.add_left(canvas.fit((panel, whole.height)), panel)
        return Plan(canvas=whole, conditioning=Conditioning(channel_BLC=channel_BLC), role="fill")

    def target(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """The whole picture, both halves of a diptych."""
        return canvas.place(answer_BCHW, _whole(answer_BCHW))


def _holed(inputs: EditInputs) -> tuple[Tensor, Tensor]:
    """Return picture and mask."""
    if inputs.source_BCHW is None or inputs.mask_B1HW is None:
        raise EditkitError("Inpainting needs pictures with masks, such as data.name='shapesworld holes'.")
    return inputs.source_BCHW, inputs.mask_B1HW


def _whole(pixels_BCHW: Tensor) -> Canvas:
    height, width = pixels_BCHW.shape[-2:]
    return canvas.fit((width, height))


class InpaintTrainer(Trainer[InpaintOptions]):
    """Trains mostly on what is painted: what is kept is a copy of the input, and learnt at once."""

    KEPT = 0.05

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """Weight kept tokens less than those in the hole; a token's mask has a channel for each pixel."""
        channel_BLC = plan.conditioning.channel_BLC
        assert channel_BLC is not None
        hole_BL = channel_BLC[..., -(GRID**2) :].float().mean(-1)
        weights_BL = self.KEPT + (1 - self.KEPT) * hole_BL
        return weights_BL / weights_BL.sum(1, keepdim=True)


METHOD = Method(
    name="inpaint",
    summary="paints a hole in a picture under a caption",
    paper="FLUX.1 Fill [dev], model card (2024)",
    role="fill",
    config=InpaintOptions,
    conditioner=Inpainting,
    trainer=InpaintTrainer,
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
        # The job builds the options from the record itself, so they are of its kind.
        super().__init__(settings, cast(Method[Options], METHOD))

    def _prepare(self) -> None:
        if self.config.turned:
            panel, _ = self.backbone.sizes(self.role)[0]
            self.backbone.look_left(self.role, panel)
        super()._prepare()


CONFIG, JOB = InpaintTrainConfig, InpaintJob
