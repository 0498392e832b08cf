"""Samples of every kind of edit, and the gallery that offers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from demos.jobs import QUICK

FOLDER = Path(__file__).parent / "samples"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A picture and an edit of it.

    Attributes:
        name: of the picture's file, without its ending.
        kind: kind of the edit in words.
        instruction: the edit.
        methods: names of the methods whose strength it shows; all where empty.
        painted_on: whether there is a paint layer, NAME-paint.png.
        referred_to: whether there is a reference, NAME-reference.png.
    """

    name: str
    kind: str
    instruction: str
    methods: tuple[str, ...] = ()
    painted_on: bool = False
    referred_to: bool = False

    @property
    def picture(self) -> Path:
        """The picture's file."""
        return FOLDER / f"{self.name}.png"

    @property
    def paint(self) -> Path | None:
        """File of the paint: opaque where the edit may land."""
        return FOLDER / f"{self.name}-paint.png" if self.painted_on else None

    @property
    def reference(self) -> Path | None:
        """File of the picture that the instruction speaks of."""
        return FOLDER / f"{self.name}-reference.png" if self.referred_to else None

    @property
    def shown(self) -> Path:
        """File of the picture with its paint, NAME-shown.png; the picture's own where there is no paint."""
        return FOLDER / f"{self.name}-shown.png" if self.painted_on else self.picture

    def painted(self) -> dict[str, Any]:
        """Return picture and paint as the picture's editor takes them."""
        layers = [str(self.paint)] if self.paint else []
        return {"background": str(self.picture), "layers": layers, "composite": str(self.picture)}


SAMPLES = (
    Sample(name="three_shapes", kind="Colour", instruction="make the orange square green"),
    Sample(name="remove", kind="Remove", instruction="erase the black diamond"),
    Sample(name="replace", kind="Replace", instruction="swap the white cross for a circle"),
    Sample(name="add", kind="Add", instruction="add a black crescent in the top left"),
    Sample(name="move", kind="Move", instruction="move the red crescent to the bottom right"),
    Sample(name="background", kind="Background", instruction="make the background yellow"),
    Sample(name="gray", kind="Style", instruction="make it black and white"),
    Sample(
        name="letter",
        kind="Letters",
        instruction="write the letter A on the yellow crescent",
        methods=("icedit",),
    ),
    Sample(
        name="three_shapes",
        kind="Two edits at once",
        instruction="make the orange square green and erase the black ring",
        methods=("kontext",),
    ),
    Sample(
        name="character",
        kind="Same thing, new place",
        instruction="the same character in the top left on a orange background",
        methods=("kontext",),
    ),
    Sample(
        name="in_style",
        kind="Same style",
        instruction="a black square in the top right on a white background in this style",
        methods=("kontext",),
    ),
    Sample(
        name="painted",
        kind="Under the paint",
        instruction="change the orange square to cyan",
        methods=("aceplus",),
        painted_on=True,
    ),
    Sample(
        name="brought_in",
        kind="From a reference",
        instruction="put this character in the bottom right",
        methods=("aceplus",),
        painted_on=True,
        referred_to=True,
    ),
)
FIRST_TURNS = SAMPLES[:6]
"""Samples that sessions start from."""
OPEN = Sample(name="red_circle", kind="Any place and colour", instruction="add a star", methods=("kontext",))
"""A sample whose instruction leaves something open, so that seeds differ."""


class SampleGallery:
    """The gallery.

    Args:
        name: of the tab.
        samples: what it offers.
    """

    def __init__(self, name: str, samples: Sequence[Sample]) -> None:
        self.gallery = gr.Gallery(
            [(str(each.shown), each.kind) for each in samples],
            label="Samples",
            elem_classes="sample-strip",
            height="auto",
            allow_preview=False,
            interactive=False,
            buttons=[],
            object_fit="contain",
            elem_id=f"{name}-samples",
        )

    def wire(self, fill: Callable[[int], list[Any]], outputs: Sequence[Any], name: str) -> None:
        """Let a chosen sample, by its number, fill in the outputs."""

        def chosen(event: gr.SelectData) -> list[Any]:
            return fill(event.index)

        self.gallery.select(chosen, None, list(outputs), api_name=name, **QUICK)
