"""Show results in notebooks."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def html(picture: Image.Image | None, caption: str) -> str:
    """Return HTML of a picture with its caption, or of the caption only."""
    if picture is None:
        return f"<p>{escape(caption)}</p>"
    file = BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure><img src="data:image/png;base64,{data}">{below}</figure>'
