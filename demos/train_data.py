"""The choice of pairs in the Train tab: the config's own, an uploaded archive, or a path of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demos import own_data, theme
from demos.own_data import OwnData
from editkit.errors import EditkitError

CONFIG, UPLOAD, PATH = "The config's own", "Pairs that I upload", "A path on this machine"
LAYOUT = (
    "A zip of source/NAME.png (before), answer/NAME.png (after) and answer/NAME.txt (the instruction); "
    'or of pictures and a .jsonl: {"source": "a.png", "answer": "b.png", "instruction": "..."} on each line.'
)


class TrainData:
    """The components of the choice.

    Args:
        paths: whether visitors may name a path.

    Attributes:
        inputs: components whose values `chosen` and `settings` take, in order.
    """

    def __init__(self, paths: bool) -> None:
        self.paths = paths
        kinds = [CONFIG, UPLOAD, *([PATH] if paths else [])]
        self.kind = gr.Radio(kinds, value=CONFIG, label="Pairs", elem_id="train-data")
        self.upload = gr.File(
            label="Your pairs",
            file_types=[".zip"],
            height=110,
            visible=False,
            elem_id="train-upload",
        )
        self.path = gr.Textbox(label="Folder or .jsonl", max_lines=1, visible=False, elem_id="train-path")
        self.hint = gr.HTML(theme.hint(LAYOUT), visible=False)
        self.inputs = [self.kind, self.upload, self.path]
        self.kind.change(
            self._show_fields,
            [self.kind],
            [self.upload, self.path, self.hint],
            queue=False,
            show_progress="hidden",
            api_visibility="undocumented",
        )

    def _show_fields(self, kind: str) -> list[Any]:
        return [gr.update(visible=seen) for seen in (kind == UPLOAD, kind == PATH, kind != CONFIG)]

    def chosen(self, folder: Path, kind: str, upload: Any, path: str | None) -> OwnData | None:
        """Find the pairs that are chosen; None for the config's own. Uploads are unpacked below the folder.

        Raises:
            EditkitError: where they are missing or cannot be read.
        """
        if kind == CONFIG:
            return None
        if kind == UPLOAD:
            if not upload:
                raise EditkitError("There are no pairs yet; upload a zip archive of them.")
            name = str(upload.get("orig_name") or "The archive")
            return own_data.unpacked(Path(upload["path"]), name, folder / "pairs")
        if kind != PATH or not self.paths:
            raise EditkitError("This page takes no paths; its operator can start it with --trust-paths.")
        return own_data.at(path or "")

    def first(self, own: OwnData | None) -> Image.Image | None:
        """Draw the first pairs of a visitor's data."""
        return own.first() if own else None

    def settings(
        self, folder: Path, kind: str, upload: Any, path: str | None
    ) -> tuple[dict[str, Any], list[str]]:
        """Make a run's settings of the choice, and say in words what is trained and what held out.

        Raises:
            EditkitError: as `chosen` does.
        """
        own = self.chosen(folder, kind, upload, path)
        if own is None:
            return {}, []
        settings, words = own.divided(folder)
        return settings, [words]
