"""The card of a method's result: before and after, difference, figures, recipe and download."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from demos import theme
from demos.views import Views
from demos.visit import Visit
from editkit.config import Options
from editkit.imaging import images
from editkit.inference import comparison
from editkit.method import Method
from editkit.types import EditResult


@dataclass(frozen=True, kw_only=True)
class Card:
    """The components of a method's card."""

    whole: Any
    views: Views
    facts: Any
    more: Any
    recipe: Any
    after: Any
    download: Any
    go_on: Any

    def parts(self) -> list[Any]:
        """All of them, one by one."""
        own = [part for part in vars(self).values() if part is not self.views]
        return [*own, *self.views.parts]

    def waiting(self, visible: bool) -> dict[Any, Any]:
        """Show that there is no result yet."""
        return {
            self.whole: gr.update(visible=visible),
            **self.views.cleared(),
            self.facts: theme.hint("Waiting for its turn."),
            self.more: gr.update(visible=False),
            self.after: gr.update(visible=False),
        }

    def preview(self, source: Image.Image, pointed: Image.Image, visit: Visit) -> dict[Any, Any]:
        """Show a preview while the edit runs."""
        return {
            **self.views.pointed(source, pointed, visit),
            self.facts: theme.hint("A preview: where the edit points now."),
        }

    def result(self, source: Image.Image, entry: comparison.Entry, visit: Visit) -> dict[Any, Any]:
        """Show the result or the error."""
        result = entry.result
        if result.image is None:
            return {**self.views.cleared(), self.facts: theme.problem(str(result.error))}
        after = result.image.convert("RGB")
        return {
            **self.views.done(source, after, visit),
            self.facts: theme.chips(figures(entry)) + theme.hint(theme.sentence(entry.changed, entry.moved)),
            self.more: gr.update(visible=True),
            self.recipe: json.dumps(dict(result.recipe), indent=2),
            self.after: gr.update(visible=True),
            self.download: saved(result, visit),
        }


def card(method: Method[Options]) -> Card:
    """Make a method's card, hidden until there is something to show."""
    name = method.name
    with gr.Column(visible=False, min_width=280, elem_classes="card", elem_id=f"card-{name}") as whole:
        gr.HTML(theme.heading(name, method.purpose or method.summary))
        views = Views(name)
        facts = gr.HTML(label=f"{name}: figures")
        with gr.Accordion("Recipe", open=False, visible=False) as more:
            recipe = gr.Code(label=f"{name}: recipe", language="json", max_lines=14, interactive=False)
        with gr.Row(visible=False) as after:
            download = gr.DownloadButton("Download", size="sm", min_width=90)
            go_on = gr.Button("Go on in Session", size="sm", min_width=90, elem_id=f"go-on-{name}")
    return Card(
        whole=whole,
        views=views,
        facts=facts,
        more=more,
        recipe=recipe,
        after=after,
        download=download,
        go_on=go_on,
    )


def figures(entry: comparison.Entry) -> list[str]:
    """Write a result's figures."""
    return [
        f"{entry.seconds:.2f} s",
        f"{entry.result.recipe['steps']} steps",
        f"{entry.tokens} tokens",
    ]


def saved(result: EditResult, visit: Visit) -> str:
    """Write a PNG with its recipe for download."""
    assert result.image is not None
    words = re.sub(r"[^a-z0-9]+", "-", str(result.recipe["instruction"]).lower())[:40].strip("-") or "edit"
    file = visit.new_folder() / f"{words}-{result.method}-{result.seed}.png"
    images.save(result.image, file, result.recipe)
    return str(file)
