"""The page of `editkit demo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from demos import looks
from demos.compare import Compare
from demos.device import Device, Visit, forget

HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """What the page allows.

    Attributes:
        pixels: how many a picture may have.
    """

    pixels: int = 25_000_000


def build(device: Device, options: PageOptions) -> Any:
    """The page's Blocks, ready to be launched."""
    backbone = device.editor.backbone
    told = f"{backbone.name} on {backbone.device}, {str(backbone.dtype).removeprefix('torch.')}"
    with gr.Blocks(title="editkit", analytics_enabled=False, delete_cache=(HOUR, 24 * HOUR)) as page:
        visit = gr.State(Visit(), delete_callback=forget)
        gr.HTML(looks.masthead(told))
        with gr.Tabs(), gr.Tab("Compare", id="compare"):
            Compare(device, visit, options.pixels)
    return page
