"""Kontext's conditioner: context pictures become tokens behind the tokens of the canvas."""

import torch
from torch import Tensor

from editkit.imaging import canvas
from editkit.method import Conditioner
from editkit.types import Canvas, Conditioning, EditInputs, Plan
from methods.kontext.config import RELEASED, KontextConfig


class KontextConditioner(Conditioner[KontextConfig]):
    """Puts source and references on the sequence (paper section 3; released weights: one, at offset 1)."""

    def plan_without_text(self, inputs: EditInputs) -> Plan:
        """Put source and references, in this order, on the sequence; nothing for text to image."""
        canvas_ = self.canvas(inputs)
        pictures = [canvas.place(inputs.source_BCHW, canvas_)] if inputs.source_BCHW is not None else []
        pictures += [self._reference(reference_BCHW) for reference_BCHW in inputs.references]
        if not pictures:
            role = "kontext" if "kontext" in self.backbone.roles else "text"
            return Plan(canvas=canvas_, conditioning=Conditioning(), role=role)
        if self.layout == "stitch":
            pictures = [stitch(pictures)]
        conditioning = Conditioning(
            sequence_BSC=torch.cat([self.backbone.encode(picture) for picture in pictures], dim=1),
            sequence_ids_S3=torch.cat(self._ids(pictures)),
            context_apart=self.config.context == "cached",
        )
        return Plan(canvas=canvas_, conditioning=conditioning, role="kontext")

    def canvas(self, inputs: EditInputs) -> Canvas:
        """Fit the canvas to the source, so that source and target share one grid."""
        if inputs.source_BCHW is None:
            sizes = self.backbone.sizes("kontext" if "kontext" in self.backbone.roles else "text")
            size = inputs.size or (sizes[0] if len(sizes) == 1 else (1024, 1024))
            return canvas.fit(size, size=size)
        sizes = self.backbone.sizes("kontext")
        height, width = inputs.source_BCHW.shape[-2:]
        preferred = sizes if self.config.sizes == "preferred" else ()
        return canvas.fit((width, height), size=inputs.size, preferred=preferred, area=self.config.area)

    @property
    def layout(self) -> str:
        """The option `layout`, or the layout that suits the weights."""
        return self.config.layout or RELEASED.get(self.backbone.base or "", "index")

    def _reference(self, reference_BCHW: Tensor) -> Tensor:
        """Fit a reference to a grid of its own size."""
        height, width = reference_BCHW.shape[-2:]
        preferred = self.backbone.sizes("kontext") if self.config.sizes == "preferred" else ()
        return canvas.place(
            reference_BCHW, canvas.fit((width, height), preferred=preferred, area=self.config.area)
        )

    def _ids(self, pictures: list[Tensor]) -> list[Tensor]:
        ids, right, bottom = [], 0, 0
        for number, picture_BCHW in enumerate(pictures, start=1):
            height, width = picture_BCHW.shape[-2:]
            if self.layout != "offset":
                ids.append(self.backbone.grid_ids(width, height, image=number))
                continue
            # The next picture goes where the box around all of them stays closest to a square.
            left, top = (right, 0) if height + bottom > width + right else (0, bottom)
            ids.append(self.backbone.grid_ids(width, height, image=1, left=left, top=top))
            right, bottom = max(right, left + width), max(bottom, top + height)
        return ids


def stitch(pictures: list[Tensor]) -> Tensor:
    """Join pictures BCHW side by side, scaled to the height of the first, with widths rounded to the grid."""
    height = pictures[0].shape[-2]
    scaled = []
    for picture_BCHW in pictures:
        width = picture_BCHW.shape[-1] * height / picture_BCHW.shape[-2]
        scaled.append(canvas.resize(picture_BCHW, max(1, round(width / canvas.GRID)) * canvas.GRID, height))
    return torch.cat(scaled, dim=-1)
