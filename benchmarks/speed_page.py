"""Put what was measured into the page about fast editing: tables between marks, and a plot."""

from __future__ import annotations

import re
from pathlib import Path

from editkit import atomic_files, packages

PAGE = packages.ROOT / "docs" / "guides" / "fast-editing.md"
PLOT = packages.ROOT / "docs" / "editing-speed.png"
BEGIN, END = "<!-- measured: editing_speed.py -->", "<!-- end of measured -->"


def write(text: str, plot: bytes) -> None:
    """Replace what stands between the marks of the page, and the plot.

    Raises:
        ValueError: where the page has no marks.
    """
    page, link = PAGE.read_text(), f"![Success over operations](../{PLOT.name})"
    between = f"{BEGIN}\n\n{link}\n\n{text}\n\n{END}"
    made, count = re.subn(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: between, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE} has {count} places between {BEGIN} and {END}, not one")
    _replace(PLOT, plot)
    _replace(PAGE, made.encode())


def _replace(path: Path, data: bytes) -> None:
    with atomic_files.whole(path) as file:
        file.write(data)
    print(f"{path} was written")
