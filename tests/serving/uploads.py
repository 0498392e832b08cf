"""Pictures as clients send and receive them."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

from PIL import Image

WORDS = "make the red circle blue"


def file(picture: Image.Image) -> tuple[str, bytes, str]:
    """A picture as a client sends it."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return "picture.png", buffer.getvalue(), "image/png"


def opened(datum: Any) -> Image.Image:
    """The picture of an answer."""
    return Image.open(BytesIO(base64.b64decode(datum.b64_json)))
