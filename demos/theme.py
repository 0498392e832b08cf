"""The look of the page: theme, style sheet, and pieces of HTML between Gradio's components."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

CSS, SCRIPT = (Path(__file__).with_name(name) for name in ("page.css", "page.js"))
SMALL = 256
"""Pixels up to which a picture is shown as they are; browsers smooth what they enlarge, as photos need."""
MARK = f"""document.addEventListener("load", ({{target}}) => {{
  if (target instanceof HTMLImageElement)
    target.toggleAttribute("data-small", Math.max(target.naturalWidth, target.naturalHeight) <= {SMALL});
}}, true);"""
"""Marks small pictures for the style sheet, which cannot ask for a file's own size."""
TOP = 0.1
"""Drift that fills the meter."""
CLEAR = 0.02
"""Drift that is visible on flat colours: 5 of 255 levels."""


def head() -> str:
    """Return style sheet and script for the page's head; Gradio's `css` applies to its components alone."""
    style, script = (file.read_text(encoding="utf-8") for file in (CSS, SCRIPT))
    return f"<style>{style}</style><script>{MARK}{script}</script>"


def theme() -> Any:
    """Make Gradio's theme with system fonts and with a contrast of text of at least 4.5 to 1."""
    system = ["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
    return gr.themes.Default(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        font=system,
        font_mono=["ui-monospace", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
    )


def masthead(what: str) -> str:
    """Make the page's head: its name, its purpose, and the device that it runs on."""
    return (
        '<header class="masthead"><h1>editkit</h1>'
        "<p>One picture, one instruction, every method side by side.</p>"
        f'<span class="chip">{escape(what)}</span></header>'
    )


def empty(title: str, text: str) -> str:
    """Make the text of an empty area."""
    return f'<div class="blank"><strong>{escape(title)}</strong>{escape(text)}</div>'


def zoombar(region: str) -> str:
    """Make the buttons that zoom the pictures of a region together and show their sources while held."""
    buttons = (
        ("out", "Zoom out", "\N{MINUS SIGN}"),
        ("in", "Zoom in", "+"),
        ("whole", "Show whole", "Whole"),
    )
    zoom = "".join(
        f'<button type="button" data-do="{act}" aria-label="{label}" title="{label}">{words}</button>'
        for act, label, words in buttons
    )
    hold = "Hold to see the source <kbd>B</kbd>"
    hold = f'<button type="button" data-do="hold" aria-pressed="false">{hold}</button>'
    bar = f'<div class="zoombar" data-of="{region}" role="toolbar" aria-label="Look at the results">'
    return f"{bar}{hold}{zoom}<output>100%</output></div>"


def sentence(changed: float, moved: float) -> str:
    """Say what an edit did to the picture.

    Args:
        changed: share of the pixels that changed visibly.
        moved: mean absolute difference of the others to the source, pixels in [0, 1].
    """
    share = "less than 1%" if 0 < changed < 0.01 else f"{changed:.0%}"
    if moved == 0:
        rest = "is identical to the source"
    else:
        levels = "less than 1 of 255 levels" if moved * 255 < 1 else f"{moved * 255:.0f} of 255 levels"
        seen = "too little to see" if moved < CLEAR else "which can be seen"
        rest = f"differs from the source by {levels} of brightness, {seen}"
    return f"{share} of the picture changed; the rest {rest}."


def hint(text: str) -> str:
    """Make a line of explanation."""
    return f'<p class="hint">{escape(text)}</p>'


def status(text: str, share: float | None = None, notes: Iterable[str] = ()) -> str:
    """Make a status line, with a progress bar where the share done is known."""
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}" aria-label="Progress"></progress>'
    return f'<div class="status" role="status">{bar}<p>{escape(text)}</p>{remarks(notes)}</div>'


def remarks(notes: Iterable[str]) -> str:
    """Make a line of each note, once; nothing where there are none."""
    return "".join(f'<p class="note">{escape(note)}</p>' for note in dict.fromkeys(notes))


def problem(text: str) -> str:
    """Make an error line."""
    return f'<div class="status"><p class="problem" role="alert">{escape(text)}</p></div>'


def heading(title: str, text: str) -> str:
    """Make the heading of a card."""
    return f"<h3>{escape(title)}</h3><p>{escape(text)}</p>"


def listing(title: str, text: str) -> str:
    """Make a block of text as in a terminal."""
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f'<figure class="listing">{caption}<pre tabindex="0">{escape(text)}</pre></figure>'


def chips(facts: Iterable[str]) -> str:
    """Make a row of figures."""
    return (
        '<div class="chips">'
        + "".join(f'<span class="chip">{escape(fact)}</span>' for fact in facts)
        + "</div>"
    )


def meter(drift: float) -> str:
    """Make the meter of a session's drift."""
    words = "none" if drift == 0 else "hard to see" if drift < CLEAR else "visible; re-anchor on the original"
    return (
        '<div class="meter"><span>Drift</span>'
        f'<progress max="{TOP}" value="{drift:.4f}" aria-label="Drift"></progress>'
        f"<span>{drift * 255:.1f} of 255 levels</span></div>"
        f'<p class="hint">Of pixels that no turn was meant to change: {words}.</p>'
    )


def loading(seconds: float) -> str:
    """Say how long loading took, where it took long."""
    return f" Loading weights took {seconds:.1f} s more." if seconds >= 0.1 else ""


def left(seconds: float) -> str:
    """Say how much time is left."""
    if seconds < 1:
        return "less than a second left"
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"
