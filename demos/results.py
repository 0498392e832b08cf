"""The Results tab: past results with their recipes, their settings for Compare and as a link, and a zip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demos import settings, theme
from demos.compare_form import Form
from demos.jobs import QUICK
from demos.pictures import shown, thumbnail
from demos.place import Place
from demos.session import Turns
from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.inference import provenance

LISTED = 60
"""Largest number of results in the gallery."""
EMPTY = "What you make in Compare, Session and Seed search is kept here, with its recipe."
ALONE = "Only this browser sees these results. The page's machine keeps them until you delete them."
SHARED = "This page is for one person: every browser that opens it sees these results."
WHOLE_LINK = "(query) => new URL(query, location.origin + location.pathname).href"


class Results:
    """The components of the tab and their handlers.

    Args:
        place: what the tabs share.
        form: where settings are used again.
        tabs: the tabs, of which Compare has the id `compare`.
        turns: the Session tab, whose session may be deleted here.
    """

    def __init__(self, place: Place, form: Form, tabs: Any, turns: Turns) -> None:
        self.kept, self.visit, self.form, self.tabs = place.kept, place.visit, form, tabs
        self.turns = turns
        self.base = place.base
        self.status = gr.HTML(theme.status(SHARED if self.kept.personal else ALONE), elem_id="results-status")
        self.empty = gr.HTML(theme.empty("No results yet", EMPTY))
        with gr.Row(elem_classes="thirds"):
            with gr.Column(min_width=300, scale=2, visible=False) as self.past:
                self._gallery()
            with gr.Column(min_width=300, visible=False, elem_id="results-one") as self.one:
                self._one()
        self._wire()

    def _gallery(self) -> None:
        self.gallery = gr.Gallery(
            label="Your results, the newest first; choose one",
            columns=4,
            height="auto",
            allow_preview=False,
            interactive=False,
            object_fit="contain",
            buttons=[],
            elem_id="results-gallery",
        )
        with gr.Row(elem_classes="actions"):
            self.pack = gr.Button("Download all (zip)", min_width=140, elem_id="results-pack")
            self.delete = gr.Button("Delete all", min_width=100, elem_id="results-delete")
        self.packed = gr.DownloadButton("Save the zip", size="sm", visible=False, elem_id="results-zip")
        self.sure = gr.Button(
            "Yes, delete all my results and sessions",
            variant="stop",
            visible=False,
            elem_id="results-delete-sure",
        )

    def _one(self) -> None:
        self.picture = gr.Image(
            label="Chosen result", format="png", interactive=False, height="auto", buttons=["fullscreen"]
        )
        self.facts = gr.HTML(elem_id="results-facts")
        self.use = gr.Button("Use these settings", variant="primary", elem_id="results-use")
        self.download = gr.DownloadButton("Download", size="sm")
        self.link = gr.Textbox(
            label="Link to these settings",
            info="It holds the words and numbers, not the picture.",
            interactive=False,
            max_lines=4,
            buttons=["copy"],
            elem_id="results-link",
        )
        with gr.Accordion("Recipe", open=False):
            self.recipe = gr.Code(language="json", label="Recipe", max_lines=20, interactive=False)

    def _wire(self) -> None:
        self.outputs = [self.status, self.empty, self.past, self.gallery, self.one, self.packed, self.sure]
        chosen = [self.status, self.one, self.picture, self.facts, self.link, self.download, self.recipe]
        self.gallery.select(self.choose, [self.visit], chosen, api_name="results_choose", **QUICK).then(
            None, [self.link], [self.link], js=WHOLE_LINK, api_visibility="private"
        )
        used = [self.tabs, self.status, *self.form.outputs()]
        self.use.click(self.used, [self.visit], used, api_name="results_use", **QUICK)
        packed = [self.status, self.packed]
        self.pack.click(self.pack_all, [self.visit], packed, api_name="results_zip", **QUICK)
        self.delete.click(self.ask, None, [self.sure], api_name="results_ask", **QUICK)
        deleted = [*self.outputs, *self.turns.outputs]
        self.sure.click(self.delete_all, [self.visit], deleted, api_name="results_delete", **QUICK)

    def shown(self, visit: Visit) -> dict[Any, Any]:
        """List the visitor's results."""
        found = self.kept.results(visit)
        visit.listed, visit.chosen = found[:LISTED], None
        words = SHARED if self.kept.personal else ALONE
        if len(found) > LISTED:
            words += f" The newest {LISTED} of {len(found)} are shown; the zip holds all."
        return {
            self.status: theme.status(words),
            self.empty: gr.update(visible=not found),
            self.past: gr.update(visible=bool(found)),
            self.gallery: [self._entry(file, visit) for file in visit.listed],
            self.one: gr.update(visible=False),
            self.packed: gr.update(visible=False),
            self.sure: gr.update(visible=False),
        }

    def choose(self, visit: Visit, chosen: gr.SelectData) -> dict[Any, Any]:
        """Show a result of the gallery, its recipe and the link to its settings."""
        visit.chosen, hidden = None, {self.one: gr.update(visible=False)}
        if not 0 <= chosen.index < len(visit.listed):
            gone = "That result is gone; choose the tab again to see those that there are."
            return {self.status: theme.problem(gone), **hidden}
        file = visit.listed[chosen.index]
        try:
            recipe = provenance.read_recipe(file)
            with images.opened(file) as opened:
                large = shown(opened, visit)
        except EditkitError:
            lost = "That result cannot be read any more; choose another one."
            return {self.status: theme.problem(lost), **hidden}
        visit.chosen = file
        return {
            self.one: gr.update(visible=True),
            self.picture: large,
            self.facts: theme.hint(str(recipe["instruction"])) + theme.chips(_facts(recipe)),
            self.link: settings.link(settings.of_recipe(recipe, self.base)),
            self.download: _offered(file, visit),
            self.recipe: json.dumps(recipe, indent=2),
        }

    def used(self, visit: Visit) -> dict[Any, Any]:
        """Fill Compare with the settings of the chosen result, and its source."""
        file = visit.chosen
        try:
            if file is None:
                raise EditkitError("Choose a result first.")
            recipe, source = provenance.read_recipe(file), self.kept.source(visit, file)
            picture = _offered(source, visit) if source else None
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        words = " ".join(("The settings of your result.", *settings.remarks(recipe)))
        filled = self.form.filled(settings.of_recipe(recipe, self.base), words, picture)
        return {self.tabs: gr.Tabs(selected="compare"), **filled}

    def pack_all(self, visit: Visit) -> dict[Any, Any]:
        """Offer all results and their sources as a zip."""
        try:
            packed = self.kept.packed(visit, visit.new_folder())
        except EditkitError as error:
            return {self.status: theme.problem(str(error))}
        return {self.packed: gr.update(value=str(packed), visible=True)}

    def ask(self) -> Any:
        """Ask whether all is to be deleted."""
        return gr.update(visible=True)

    def delete_all(self, visit: Visit) -> dict[Any, Any]:
        """Delete the visitor's results and sessions."""
        self.kept.forget(visit)
        said = theme.status("All your results and sessions are deleted.")
        return {**self.turns.ended(visit), **self.shown(visit), self.status: said}

    def _entry(self, file: Path, visit: Visit) -> tuple[str, str]:
        if file not in visit.thumbnails:
            try:
                with images.opened(file) as opened:
                    visit.thumbnails[file] = thumbnail(opened, visit)
            except EditkitError:
                visit.thumbnails[file] = thumbnail(Image.new("RGB", (8, 8), "gray"), visit)
        return visit.thumbnails[file], _caption(file)


def _offered(file: Path, visit: Visit) -> str:
    """Return a copy of a kept picture, its recipe included, that the page serves."""
    copy = visit.new_folder() / file.name
    copy.write_bytes(file.read_bytes())
    return str(copy)


def _caption(file: Path) -> str:
    """Return method and instruction of a result."""
    try:
        recipe = provenance.read_recipe(file)
    except EditkitError:
        return "damaged"
    return f"{recipe['method']}: {recipe['instruction']}"


def _facts(recipe: Any) -> list[str]:
    return [str(recipe["method"]), f"seed {recipe['seed']}", f"{recipe['steps']} steps"]
