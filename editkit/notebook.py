"""Results as notebooks show them."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from editkit.types import EditResult


def html(result: EditResult) -> str:
    """The picture with its method, seed, seconds and notes, or why there is none."""
    told = f"{result.method}, seed {result.seed}, {sum(result.timings.values()):.1f} s"
    if result.image is None:
        return f"<p>{escape(f'{told}: {result.error}')}</p>"
    file = BytesIO()
    result.image.save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    caption = escape("; ".join((told, *result.notes)))
    return f'<figure><img src="data:image/png;base64,{picture}"><figcaption>{caption}</figcaption></figure>'
