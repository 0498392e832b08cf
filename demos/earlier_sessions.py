"""The gallery of a visitor's earlier sessions in the Session tab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demos.kept import Kept
from demos.pictures import thumbnail
from demos.visit import Visit
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.sessions import session, store

LISTED = 12
"""Largest number of sessions in the gallery."""
CHANGED = (
    "This session was changed elsewhere, perhaps in another tab; look at it as it is now, and try again."
)
GONE = "This session is gone, perhaps deleted in another tab; the next edit starts another one."


class EarlierSessions:
    """The gallery; hidden while there is no session.

    Args:
        kept: where sessions lie.
    """

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        with gr.Column(visible=False, min_width=0) as self.whole:
            self.gallery = gr.Gallery(
                label="Earlier sessions; choose one to go on with it",
                columns=3,
                height="auto",
                allow_preview=False,
                interactive=False,
                object_fit="contain",
                buttons=[],
                elem_id="session-earlier",
            )
        self.outputs = [self.whole, self.gallery]

    def shown(self, visit: Visit) -> dict[Any, Any]:
        """List the sessions, the one that was changed last first."""
        visit.sessions = self.kept.sessions(visit)[:LISTED]
        listed = [_entry(folder, visit) for folder in visit.sessions]
        return {self.whole: gr.update(visible=bool(listed)), self.gallery: listed}

    def loaded(self, visit: Visit, number: int, editor: Editor) -> session.Session:
        """Load one of the listed sessions.

        Raises:
            EditkitError: where there is none of this number, or its files are damaged.
        """
        if not 0 <= number < len(visit.sessions):
            raise EditkitError(f"There is no session {number}; reload the page to see those that there are.")
        return session.load_session(visit.sessions[number], lambda _: editor)


def renewed(visit: Visit) -> str:
    """Load the visitor's session anew where another tab changed its folder, or leave it where it is gone.

    Returns what happened, in words; nothing where the session is as it was.
    """
    old = visit.session
    if old is None:
        return ""
    try:
        old.check()
        return ""
    except EditkitError:
        visit.session = None
    try:
        visit.session = session.load_session(old.folder, lambda _: old.editor)
        return CHANGED
    except EditkitError:
        return GONE


def _entry(folder: Path, visit: Visit) -> tuple[str, str]:
    """Return picture and caption of a session."""
    try:
        turns, current, _ = store.read_turns(folder)
    except EditkitError:
        return thumbnail(Image.new("RGB", (8, 8), "gray"), visit), "damaged"
    edits = len(turns) - 1
    words = f"{edits} edit{'s' * (edits != 1)}: {turns[-1].instruction}" if edits else "not edited yet"
    return thumbnail(turns[current].image, visit), words
