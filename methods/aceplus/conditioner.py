"""ACE++'s conditioner: references and the edited picture become condition units, side by side."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.errors import EditkitError
from editkit.imaging import canvas
from editkit.imaging.canvas import GRID
from editkit.method import Conditioner
from editkit.types import Box, Canvas, Conditioning, EditInputs, Plan, Text
from methods.aceplus import controls, lcu, tasks
from methods.aceplus.config import ACEPlusConfig, role_of
from methods.aceplus.tasks import IMAGE, ACETask

LOST = 30
"""Pixels that the released script cuts off the target's left edge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ACEPlan(Plan):
    """A plan that remembers its task and its units.

    Attributes:
        task: the task, whose prompt prefix is used.
        widths: widths of the units in pixels, references first.
    """

    task: ACETask
    widths: tuple[int, ...]


class ACEPlusConditioner(Conditioner[ACEPlusConfig]):
    """Joins picture and mask of a unit to its noise on channels, and the units by canvas or sequence."""

    @classmethod
    def check_inputs(cls, inputs: EditInputs, config: ACEPlusConfig) -> None:
        """Refuse inputs of which one that the task needs is missing."""
        _task(inputs)

    def plan_without_text(self, inputs: EditInputs) -> Plan:
        """Put references left of the target; paint all without a picture. Raises as `check_inputs` does."""
        task = _task(inputs)
        panel, pictures = self._panel(inputs)
        units = [lcu.reference(picture, self._change) for picture in pictures]
        units.append(self._target_unit(inputs, task, panel))
        generators = inputs.generators if self.config.encoding == "sample" and inputs.generators else None
        ids_L3 = None
        if self.config.layout == "canvas":
            channel_BLC = lcu.side_by_side(units).channels(self.backbone, generators)
        else:
            apart = [unit.channels(self.backbone, generators) for unit in units]
            channel_BLC = lcu.join_rows(apart, panel.height)
            # The target has image index 0, as in FLUX's training; references have 1, 2, ...
            places = [*range(1, len(units)), 0]
            ids_L3 = lcu.join_rows(
                [self._ids(u, image) for u, image in zip(units, places, strict=True)], panel.height
            )
        widths = tuple(unit.image_BCHW.shape[-1] for unit in units)
        whole = replace(canvas.add_left(panel, sum(widths[:-1])), apart=ids_L3 is not None)
        if self.config.crop == "released" and len(widths) > 1:
            whole = replace(whole, content=_without_left_edge(panel, LOST))
        given: dict[str, Any] = {}
        if self.config.context == "cached" and len(widths) > 1:
            given = {"context_apart": True, "given_L": canvas.left_of_answer(whole)}
        return ACEPlan(
            canvas=whole,
            conditioning=Conditioning(channel_BLC=channel_BLC, ids_L3=ids_L3, **given),
            role=role_of(self.config),
            task=task,
            widths=widths,
        )

    def with_text(
        self, plan: Plan, instructions: Sequence[str], negatives: Sequence[str] | None = None
    ) -> Plan:
        """Add the task's prompts to a plan, and the references' own prompts with `unit_prompts`.

        Raises:
            EditkitError: where an instruction does not have one line for each unit.
        """
        assert isinstance(plan, ACEPlan)
        text = self._text(instructions, plan, "instruction")
        negative = self._text(negatives, plan, "negative prompt") if negatives else None
        return replace(plan, conditioning=replace(plan.conditioning, text=text, negative=negative))

    def target(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """Put the references left of the answer, unchanged."""
        panel, pictures = self._panel(inputs)
        return torch.cat([*pictures, canvas.place(answer_BCHW, panel)], dim=-1)

    def target_tokens(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """Encode `target`; with layout=sequence each unit by itself."""
        if self.config.layout == "canvas":
            return super().target_tokens(inputs, answer_BCHW)
        panel, pictures = self._panel(inputs)
        units = [*pictures, canvas.place(answer_BCHW, panel)]
        return lcu.join_rows([self.backbone.encode(unit) for unit in units], panel.height)

    @property
    def _change(self) -> str | None:
        return self.config.change if self.config.model == "full" else None

    def _target_unit(self, inputs: EditInputs, task: ACETask, panel: Canvas) -> lcu.Unit:
        batch = len(inputs.prompts)
        source_BCHW, mask_B1HW = inputs.source_BCHW, inputs.mask_B1HW
        if source_BCHW is None:
            source_BCHW = torch.full((batch, 3, panel.height, panel.width), 0.5)
            return lcu.masked(source_BCHW, torch.ones_like(source_BCHW[:, :1]), 1.0, self._change)
        scale = task.full_scale if self.config.model == "full" else task.scale
        if mask_B1HW is None:
            mask_B1HW = torch.ones_like(source_BCHW[:, :1])
            if "mask" in task.needs:
                scale = 0.0  # all of it may change, so all of it is shown
        if task.control is not None:
            source_BCHW = controls.annotated(source_BCHW, mask_B1HW, task.control)
        if self.config.scale is not None:
            scale = self.config.scale
        hole_B1HW = (canvas.place(mask_B1HW, panel) > 0.5).float()
        return lcu.masked(canvas.place(source_BCHW, panel), hole_B1HW, scale, self._change)

    def _panel(self, inputs: EditInputs) -> tuple[Canvas, list[Tensor]]:
        """Fit the target's panel, and scale the references to stand beside it at its height."""
        sizes, size = self.backbone.sizes(role_of(self.config)), inputs.size
        if inputs.source_BCHW is not None:
            height, width = inputs.source_BCHW.shape[-2:]
        else:
            # The request's size is the result's; the canvas keeps to its budget of tokens.
            width, height = size or (sizes[0] if len(sizes) == 1 else (1024, 1024))
            size = None
        shapes = [tuple(picture.shape[-2:]) for picture in inputs.references]
        beside = sum(across * self._scale(tall, height) for tall, across in shapes)
        # References and target share the budget of tokens.
        area = self.config.max_tokens * GRID**2 * width // max(1, math.ceil(width + beside))
        while True:
            panel = canvas.fit((width, height), size=size, preferred=sizes, area=max(GRID**2, area))
            scales = [self._scale(tall, height) * panel.height / height for tall, _ in shapes]
            wide = panel.width + sum(map(_width, (across for _, across in shapes), scales))
            fixed = size is not None or bool(sizes) or area <= GRID**2
            if fixed or wide * panel.height <= self.config.max_tokens * GRID**2:
                break
            area = area * 19 // 20  # rounding up to the grid exceeded the budget
        pictures = zip(inputs.references, scales, strict=True)
        return panel, [self._reference(picture, scale, panel.height) for picture, scale in pictures]

    @property
    def _fitted(self) -> str:
        """The option `reference`, or the model's default."""
        return self.config.reference or ("keep" if self.config.model == "full" else "height")

    def _scale(self, tall: int, height: int) -> float:
        """Return the scale of a reference `tall` pixels high beside a picture of this height."""
        full = height / tall
        return min(1.0, full * self.config.reference_rate) if self._fitted == "keep" else full

    def _reference(self, pixels_BCHW: Tensor, scale: float, height: int) -> Tensor:
        tall, across = pixels_BCHW.shape[-2:]
        width = _width(across, scale)
        if width > canvas.MAX_SIDE:
            raise EditkitError(
                f"The reference of {across}x{tall} pixels would be {width} wide beside the picture, where "
                f"{canvas.MAX_SIDE} are allowed; give one whose sides differ less."
            )
        if self._fitted == "height":
            return canvas.place(pixels_BCHW, canvas.fit((across, tall), size=(width, height)))
        placed = []
        for pixels in pixels_BCHW:
            share = _random_share(pixels) if self._fitted == "random" else 1.0
            sides = (
                max(1, min(limit, round(side * scale * share)))
                for side, limit in ((across, width), (tall, height))
            )
            small = canvas.resize(pixels[None], *sides)
            right, below = width - small.shape[-1], height - small.shape[-2]
            pads = (right // 2, right - right // 2, below // 2, below - below // 2)
            placed.append(F.pad(small, pads, value=0.5))
        return torch.cat(placed)

    def _ids(self, unit: lcu.Unit, image: int) -> Tensor:
        height, width = unit.image_BCHW.shape[-2:]
        return self.backbone.grid_ids(width, height, image=image)

    def _text(self, instructions: Sequence[str], plan: ACEPlan, what: str) -> Text:
        """Encode the task's prompts, followed by each reference's own instruction at its image index."""
        references = len(plan.widths) - 1 if self.config.unit_prompts else 0
        lines = [_lines(words, references + 1, what) if references else [words] for words in instructions]
        placeholders, prefix = self.config.placeholders, plan.task.prefix
        if not self.backbone.has_room_for(placeholders):
            placeholders, prefix = (), prefix.replace(IMAGE, "").lstrip()
        *own, last = zip(*lines, strict=True)
        text = self.backbone.text([_prefixed(prefix, words) for words in last], placeholders)
        if not own:
            return text
        parts_BTD = [text.tokens_BTD, *(self.backbone.text(words, placeholders).tokens_BTD for words in own)]
        joined_BTD = torch.cat(parts_BTD, dim=1)
        images_T = torch.arange(len(parts_BTD)).repeat_interleave(text.tokens_BTD.shape[1])
        ids_T3 = F.pad(images_T[:, None].float(), (0, 2))
        return replace(text, tokens_BTD=joined_BTD, ids_T3=ids_T3.to(joined_BTD.device))


def _task(inputs: EditInputs) -> ACETask:
    return tasks.choose(
        inputs.task,
        image=inputs.source_BCHW is not None,
        mask=inputs.mask_B1HW is not None,
        references=bool(inputs.references),
    )


def _lines(words: str, count: int, what: str) -> list[str]:
    """Split words into one line for each unit; empty words give empty lines."""
    lines = words.splitlines() if words.strip() else [""] * count
    if len(lines) != count:
        raise EditkitError(
            f"The {what} has {len(lines)} of {count} lines; with unit_prompts=true give one line for each "
            "reference, and then one for the picture."
        )
    return lines


def _prefixed(prefix: str, words: str) -> str:
    """Put the task's prefix before words, unless they are empty or have it already."""
    if not words.strip() or IMAGE in words or words.startswith(prefix.strip()):
        return words
    return prefix + words


def _width(across: int, scale: float) -> int:
    """Return the width on the canvas of a reference of this width, a multiple of the grid."""
    return max(1, math.ceil(across * scale / GRID)) * GRID


def _without_left_edge(panel: Canvas, pixels: int) -> Box:
    """Cut the left edge off a panel's content."""
    content = panel.content
    lost = min(pixels, content.width - 1)
    return replace(content, left=content.left + lost, width=content.width - lost)


def _random_share(pixels_CHW: Tensor) -> float:
    """Draw a share of the full height, from a third to 1; the same for the same picture."""
    return random.Random(pixels_CHW.cpu().numpy().tobytes()).uniform(1 / 3, 1)
