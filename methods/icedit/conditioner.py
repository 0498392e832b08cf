"""ICEdit's conditioner: a diptych with the source on the left and the part to paint on the right."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.errors import EditkitError
from editkit.imaging import canvas
from editkit.method import Conditioner
from editkit.types import Canvas, Conditioning, EditInputs, Plan
from methods.icedit import inversion
from methods.icedit.config import TEMPLATES, ICEditConfig, role_of

NO_PROMPT = " "


class ICEditConditioner(Conditioner[ICEditConfig]):
    """Joins the masked diptych to the noise on channels (paper section 3.1, the inpainting framework)."""

    def plan(self, inputs: EditInputs) -> Plan:
        """Make a complete plan, text included; with framework=text, invert the source."""
        return self._inverted(inputs) if self.config.framework == "text" else super().plan(inputs)

    @classmethod
    def check_inputs(cls, inputs: EditInputs, config: ICEditConfig) -> None:
        """Refuse references, a missing source, and framework=text, which cannot be trained."""
        if config.framework == "text":
            raise EditkitError(
                "framework=text edits without training and cannot be trained; use framework=inpainting."
            )
        _source(inputs)

    def plan_without_text(self, inputs: EditInputs) -> Plan:
        """Plan to paint the right half, or the part of it under the mask.

        Raises:
            EditkitError: for references, a missing source, or framework=text, which cannot be trained.
        """
        self.check_inputs(inputs, self.config)
        source_BCHW = _source(inputs)
        panel = self._panel(source_BCHW, inputs.size)
        source_BCHW = canvas.place(source_BCHW, panel)
        whole = canvas.add_left(panel, panel.width)
        hole_B1HW = torch.ones_like(source_BCHW[:, :1])
        if inputs.mask_B1HW is not None:
            hole_B1HW = (canvas.place(inputs.mask_B1HW, panel) > 0.5).float()
        channel_BLC = self.backbone.inpainting(
            torch.cat((source_BCHW, source_BCHW), dim=-1),
            F.pad(hole_B1HW, (panel.width, 0, 0, 0)),
            self._generators(inputs, whole),
        )
        given: dict[str, Any] = {}
        if self.config.context == "cached":
            given = {"context_apart": True, "given_L": canvas.left_of_answer(whole)}
        conditioning = Conditioning(channel_BLC=channel_BLC, **given)
        return Plan(canvas=whole, conditioning=conditioning, role="fill")

    def _inverted(self, inputs: EditInputs) -> Plan:
        source_BCHW = _source(inputs)
        if inputs.mask_B1HW is not None:
            raise EditkitError("icedit takes no mask with framework=text; framework=inpainting does.")
        panel = self._panel(source_BCHW, inputs.size)
        whole = canvas.add_left(panel, panel.width)
        ids_L3 = self.backbone.grid_ids(whole.width, whole.height)
        times_N = inversion.times(self.backbone, len(ids_L3))
        empty = self.backbone.text([NO_PROMPT] * len(source_BCHW))
        source = Plan(canvas=panel, conditioning=Conditioning(text=empty), role="text")
        x0_BLC = self.backbone.encode(canvas.place(source_BCHW, panel))
        plan = inversion.InvertedPlan(
            canvas=whole,
            conditioning=Conditioning(),
            role="text",
            source=source,
            times_N=times_N,
            path_NBLC=inversion.invert(self.backbone, source, x0_BLC, times_N),
            left_L=ids_L3[:, 2] < panel.width // canvas.GRID,
        )
        return self.with_text(plan, inputs.prompts, inputs.negatives)

    def prompts(self, instructions: Sequence[str]) -> list[str]:
        """Put each instruction into the template; an empty one becomes an empty prompt."""
        template = TEMPLATES[self.config.template]
        subject, description = self.config.subject, self.config.description
        return [
            template.format(instruction=words, subject=subject, description=description)
            if words.strip()
            else NO_PROMPT
            for words in instructions
        ]

    def target(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """Put source and answer side by side."""
        source_BCHW = _source(inputs)
        panel = self._panel(source_BCHW, inputs.size)
        return torch.cat([canvas.place(half, panel) for half in (source_BCHW, answer_BCHW)], dim=-1)

    def _panel(self, source_BCHW: Tensor, size: tuple[int, int] | None) -> Canvas:
        """Fit one half to the picture: the width is the option's, the height keeps the picture's shape."""
        height, width = source_BCHW.shape[-2:]
        sizes = self.backbone.sizes(role_of(self.config))
        if size is not None or sizes:
            return canvas.fit((width, height), size=size, preferred=sizes)
        across = self.config.width
        tallest = self.config.area // across // canvas.GRID * canvas.GRID
        wanted = -(-height * across // width)
        return canvas.fit((width, height), size=(across, min(wanted, tallest)))

    def _generators(self, inputs: EditInputs, whole: Canvas) -> Sequence[torch.Generator] | None:
        """Return generators that draw the masked picture's sample as FluxFillPipeline does.

        The pipeline first draws a sample of the unmasked picture, which it does not use at full noise, then
        the noise, and then this sample; all have the same size.
        """
        if self.config.encoding == "mode" or not inputs.generators:
            return None
        self.backbone.noise(whole, inputs.generators)
        ahead = [generator.clone_state() for generator in inputs.generators]
        self.backbone.noise(whole, ahead)
        return ahead


def _source(inputs: EditInputs) -> Tensor:
    if inputs.source_BCHW is None:
        raise EditkitError("icedit edits a picture and none was given; give one or choose another method.")
    if inputs.references:
        raise EditkitError("icedit takes no references; leave them out or choose another method.")
    return inputs.source_BCHW
