"""Formats of the pictures that clients send."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from editkit.serving import uploads
from editkit.serving.refusals import RefusedError


@pytest.mark.parametrize("form", [*uploads.formats(), "MPO"])
def test_each_format_is_read(form: str) -> None:
    file = BytesIO()
    Image.new("RGB", (24, 16), "red").save(file, form)
    assert uploads.opened(file, "image", 1000).size == (24, 16)


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0"])
def test_other_formats_are_named_unknown(data: bytes) -> None:
    with pytest.raises(RefusedError, match="in no known picture format; send a PNG, JPEG or WebP"):
        uploads.opened(BytesIO(data), "image", 1000)
