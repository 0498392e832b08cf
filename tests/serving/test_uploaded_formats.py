"""Formats of the pictures that clients send."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from editkit.imaging import images
from editkit.serving import intake, openai, uploads
from editkit.serving.intake import Pictures
from editkit.serving.openai import ImageRequest
from editkit.serving.refusals import RefusedError
from editkit.serving.settings import ServerSettings
from tests.serving.uploads import WORDS, file


def asked(**fields: str) -> ImageRequest:
    return openai.read_fields({"prompt": WORDS} | fields, ServerSettings(), ("kontext",))


@pytest.mark.parametrize("form", [*uploads.formats(), "MPO"])
def test_each_format_is_read(form: str) -> None:
    file = BytesIO()
    Image.new("RGB", (24, 16), "red").save(file, form)
    assert uploads.opened(file, "image", 1000).size == (24, 16)


@pytest.mark.parametrize("data", [b"", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0"])
def test_other_formats_are_named_unknown(data: bytes) -> None:
    with pytest.raises(RefusedError, match="in no known picture format; send a PNG, JPEG or WebP"):
        uploads.opened(BytesIO(data), "image", 1000)


def test_an_image_with_clear_parts_keeps_its_colours() -> None:
    """Its own mask is read before its colours, which are Display P3's here."""
    codes = b"cICP" + bytes((12, 13, 0, 1))
    chunk = struct.pack(">I", 4) + codes + struct.pack(">I", zlib.crc32(codes))
    found = []
    for mode, colour in (("RGB", (200, 30, 30)), ("RGBA", (200, 30, 30, 0))):
        _, plain, _ = file(Image.new(mode, (8, 8), colour))
        image = uploads.opened(BytesIO(plain[:33] + chunk + plain[33:]), "image", 1000)  # behind the header
        (prepared,) = intake.prepared(asked(), Pictures(image=image))
        assert prepared.source is not None
        found.append(prepared.source.rgb)
        assert (prepared.mask_11HW is not None) == (mode == "RGBA")
    assert tuple(found[0][0, 0]) != (200, 30, 30)
    assert np.array_equal(*found)


@pytest.mark.parametrize(("output", "longest"), [("jpeg", 65_500), ("webp", 16_383)])
def test_a_side_that_the_answers_format_cannot_hold_is_refused(output: str, longest: int) -> None:
    """The edit, which would be lost, does not begin."""
    image = Image.new("RGB", (longest, 1))
    assert images.encode(image, openai.FORMATS[output], None)
    (prepared,) = intake.prepared(asked(output_format=output), Pictures(image=image))
    assert prepared.source is not None
    longer = Image.new("RGB", (1, longest + 1))
    with pytest.raises(RefusedError, match=f"holds up to {longest:,} pixels a side") as refused:
        intake.prepared(asked(output_format=output), Pictures(image=longer))
    assert (refused.value.http_status, refused.value.param) == (400, "output_format")
    with pytest.raises((OSError, ValueError)):
        images.encode(longer, openai.FORMATS[output], None)
