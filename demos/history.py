"""The history column of the Session tab: turns to branch from, undo and redo, drift, and export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from demos import theme
from demos.pictures import shown
from demos.visit import Visit
from editkit.imaging import images
from editkit.sessions.session import Session
from editkit.sessions.store import Turn


class History:
    """The components of the column."""

    def __init__(self) -> None:
        self.gallery = gr.Gallery(
            label="History; choose a turn to branch from it",
            columns=3,
            height="auto",
            allow_preview=False,
            interactive=False,
            object_fit="contain",
            buttons=[],
            elem_id="session-history",
        )
        with gr.Row(elem_classes="actions"):
            self.undo = gr.Button("Undo", min_width=70, interactive=False, elem_id="session-undo")
            self.redo = gr.Button("Redo", min_width=70, interactive=False, elem_id="session-redo")
            self.anchor = gr.Button("Anchor", min_width=80, interactive=False, elem_id="session-anchor")
        self.drift = gr.HTML(elem_id="session-drift")
        self.export = gr.Button("Export", elem_id="session-export")
        with gr.Row(visible=False) as self.exports:
            self.folder = gr.DownloadButton("Folder (zip)", size="sm", min_width=110)
            self.strip = gr.DownloadButton("Strip (PNG)", size="sm", min_width=110)
        self.outputs = [
            *(self.gallery, self.undo, self.redo, self.anchor, self.drift),
            *(self.exports, self.folder, self.strip),
        ]

    def shown(self, session: Session, visit: Visit) -> dict[Any, Any]:
        """Show the turns of a session."""
        later = session.current.parent is not None
        return {
            self.gallery: _turns(session, visit),
            self.undo: gr.update(interactive=later),
            self.redo: gr.update(interactive=True),
            self.anchor: gr.update(interactive=later),
            self.drift: theme.meter(session.drift()),
            self.exports: gr.update(visible=False),
        }

    def saved(self, session: Session, place: Path) -> dict[Any, Any]:
        """Save the session's folder as a zip, and its strip.

        Raises:
            EditkitError: where they cannot be written.
        """
        folder = session.save(place / "session")
        images.save(session.strip(), place / "strip.png", session.recipes())
        return {
            self.exports: gr.update(visible=True),
            self.folder: shutil.make_archive(str(place / "session"), "zip", folder),
            self.strip: str(place / "strip.png"),
        }


def facts(turn: Turn) -> list[str]:
    """Write what is known of a turn."""
    told = [f"turn {turn.number}", turn.method or turn.instruction]
    if turn.alignment is not None:
        told.append(f"shift {turn.alignment.shift:.2f} pixels")
    return told


def _turns(session: Session, visit: Visit) -> list[tuple[str, str]]:
    """List the pictures of all turns with their instructions."""
    now = session.current.number
    return [
        (
            shown(turn.image, visit),
            f"{'now: ' * (turn.number == now)}{turn.number}. {turn.instruction}",
        )
        for turn in session.turns
    ]
