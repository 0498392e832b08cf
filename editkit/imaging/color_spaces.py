"""Find the ICC profile of a picture: the embedded one, or one built from the file's other colour data."""

import struct
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from editkit.errors import EditkitError

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Transfer function from values to light, both in [0, 1]."""
Primaries = tuple[float, ...]
"""CIE x and y of white, red, green and blue, in this order."""

D65 = (0.3127, 0.3290)
SRGB: Primaries = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Primaries = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
SMPTE: Primaries = (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
PRIMARIES: dict[int, Primaries] = {
    1: SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: SMPTE,
    7: SMPTE,
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""Primaries by their code in ITU-T H.273."""


def power(exponent: float) -> Curve:
    """Return a plain gamma curve."""
    return lambda values: values**exponent


def bt709(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply the transfer function of BT.709 and BT.2020."""
    low = values < 0.081
    return np.where(low, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))


def srgb(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply the transfer function of sRGB and Display P3."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


TRANSFERS: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 14, 15), bt709),
    4: power(2.2),
    5: power(2.8),
    8: power(1),
    13: srgb,
}
"""Transfer functions by their code in ITU-T H.273."""
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Transfer functions of high dynamic range, which no curve alone converts to sRGB."""
UNSPECIFIED = 2
ADOBE_GAMMA = 563 / 256
SRGB_GAMMA, SRGB_TOLERANCE = 0.45455, 0.05
"""PNG's gamma of sRGB, and the relative difference up to which another counts as it, as in libpng."""
GAMMAS = 0.1, 10
"""Least and largest gamma that is used."""
CALIBRATED, ADOBE, UNCALIBRATED = 1, 2, 0xFFFF
"""EXIF's colour spaces; the second is not in the standard, but in use."""
HEADER = 65536
"""Number of bytes at the start of an AVIF in which its colour codes are looked for."""
H273 = "h273"
"""Key of the colour codes in Pillow's `info` of a picture."""


def icc_profile(
    image: Image.Image, codes: tuple[int, int, bool] | None, label: str, notes: list[str]
) -> bytes | None:
    """Return the ICC profile of an image; None if it is sRGB or does not name its colours.

    The first of these decides, in the order of PNG's third edition: cICP, an embedded profile, sRGB, gAMA
    and cHRM; then EXIF. A note says what cannot be used.

    Args:
        codes: as `h273_codes` returns them.
        label: what messages call the picture.
        notes: gets a remark on each assumption.

    Raises:
        EditkitError: for pictures of high dynamic range.
    """
    if codes is not None:
        return _from_codes(*codes, label, notes)
    if embedded := image.info.get("icc_profile"):
        return bytes(embedded)
    if "srgb" in image.info:
        return None
    if "gamma" in image.info or "chromaticity" in image.info:
        return _from_gamma(image.info.get("gamma"), image.info.get("chromaticity"), notes)
    return _from_exif(image, notes)


def h273_codes(image: Image.Image) -> tuple[int, int, bool] | None:
    """Read a PNG's or AVIF's H.273 codes of primaries and transfer, and whether values use the full range.

    The image keeps them in its `info`, as Pillow keeps other colour data, since a loaded one has no file to
    read. Returns None if there are none, or if the image was loaded before they were read.
    """
    if H273 not in image.info and (codes := _codes_in_file(image)) is not None:
        image.info[H273] = codes
    return image.info.get(H273)


def _codes_in_file(image: Image.Image) -> tuple[int, int, bool] | None:
    file = getattr(image, "fp", None)
    if image.format not in ("PNG", "AVIF") or file is None:
        return None
    place = file.tell()
    try:
        file.seek(0)
        if image.format == "AVIF":
            _, found, rest = file.read(HEADER).partition(b"colrnclx")
            return (*struct.unpack(">HH", rest[:4]), True) if found and len(rest) >= 4 else None
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            size = int.from_bytes(head[:4], "big")
            if head[4:] == b"cICP" and size == 4:
                primaries, transfer, _, full = file.read(4)
                return primaries, transfer, bool(full)
            file.seek(size + 4, 1)
        return None
    finally:
        file.seek(place)


def _from_codes(primaries: int, transfer: int, full: bool, label: str, notes: list[str]) -> bytes | None:
    if transfer in HDR_TRANSFERS:
        name = HDR_TRANSFERS[transfer]
        raise EditkitError(f"{label} has a high dynamic range ({name}); save it as plain sRGB.")
    if not full:
        notes.append("its values of narrow range are read as full range")
    primaries = 1 if primaries == UNSPECIFIED else primaries
    transfer = 13 if transfer == UNSPECIFIED else transfer
    if primaries not in PRIMARIES or transfer not in TRANSFERS:
        notes.append(f"its colour codes {primaries}/{transfer} are unknown and read as sRGB")
        return None
    return profile(PRIMARIES[primaries], TRANSFERS[transfer])


def _from_gamma(gamma: float | None, primaries: Primaries | None, notes: list[str]) -> bytes | None:
    curve: Curve = srgb
    if gamma is not None and not GAMMAS[0] <= gamma <= GAMMAS[1]:
        notes.append(f"its gamma of {gamma:g} cannot be used and is ignored")
    elif gamma is not None and abs(gamma / SRGB_GAMMA - 1) > SRGB_TOLERANCE:
        curve = power(1 / gamma)
    try:
        return profile(primaries or SRGB, curve)
    except (ValueError, struct.error, ZeroDivisionError, np.linalg.LinAlgError):
        notes.append("its chromaticities cannot be used and are ignored")
        return profile(SRGB, curve)


def _from_exif(image: Image.Image, notes: list[str]) -> bytes | None:
    space = index = None
    with suppress(Exception):  # EXIF that is absent or cannot be read
        exif = image.getexif()
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    if space == ADOBE or (str(index or "").startswith("R03") and space != CALIBRATED):
        return profile(ADOBE_RGB, power(ADOBE_GAMMA))
    if space == UNCALIBRATED:
        notes.append("its EXIF calls its colours uncalibrated, and they are read as sRGB")
    return None


def xyz(primaries: Primaries) -> NDArray[np.float64]:
    """Return the matrix from linear RGB to CIE XYZ, in which white has a Y of 1."""
    white_3, *colours = (np.array((x / y, 1, (1 - x - y) / y)) for x, y in np.reshape(primaries, (4, 2)))
    matrix_33 = np.stack(colours, axis=1)
    found_33: NDArray[np.float64] = matrix_33 * np.linalg.solve(matrix_33, white_3)
    return found_33


BRADFORD_33 = np.array(((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)))
D50_3 = np.array((0.9642, 1.0, 0.8249))
POINTS = 4096
"""Number of points of a curve in a profile."""


def profile(primaries: Primaries, curve: Curve) -> bytes:
    """Build an ICC profile of version 2 for RGB: a matrix, adapted to D50 by Bradford, and one curve.

    Raises:
        ValueError, LinAlgError, struct.error: for primaries that span no colours.
    """
    with np.errstate(all="ignore"):
        matrix_33 = xyz(primaries)
        cones_3 = BRADFORD_33 @ matrix_33.sum(1)
        adapted_33 = np.linalg.solve(BRADFORD_33, (BRADFORD_33 @ D50_3 / cones_3)[:, None] * BRADFORD_33)
        colours_33 = adapted_33 @ matrix_33
    if not np.isfinite(colours_33).all():
        raise ValueError("these primaries span no colours")
    values = np.rint(65535 * curve(np.linspace(0, 1, POINTS))).astype(">u2")
    parts = {f"{name}XYZ".encode(): _xyz_tag(colours_33[:, place]) for place, name in enumerate("rgb")}
    parts[b"wtpt"] = _xyz_tag(D50_3)
    curve_part = b"curv" + bytes(4) + struct.pack(">I", POINTS) + values.tobytes()
    names = [*parts, b"rTRC", b"gTRC", b"bTRC"]
    start = 128 + 4 + 12 * len(names)
    places = [start + 20 * min(number, len(parts)) for number in range(len(names))]
    sizes = [20] * len(parts) + [len(curve_part)] * 3
    tags = b"".join(struct.pack(">4sII", *each) for each in zip(names, places, sizes, strict=True))
    body = struct.pack(">I", len(names)) + tags + b"".join(parts.values()) + curve_part
    header = struct.pack(">I4xI4s4s4s12x4s", 128 + len(body), 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return header + bytes(28) + _xyz_tag(D50_3)[8:] + bytes(128 - len(header) - 28 - 12) + body


def _xyz_tag(values_3: NDArray[np.float64]) -> bytes:
    """Encode an XYZ tag with fixed-point values."""
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * float(value)) for value in values_3))
