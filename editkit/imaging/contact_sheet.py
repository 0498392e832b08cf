"""Draw contact sheets: pictures in rows, with titles."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE, GAP, BETWEEN = 256, 6, 24
"""Pixels of a picture's longer side, between pictures, and between groups of pictures."""
FONT_SIZE, LINE, LINES = 12, 16, 3
"""Font size and height of a line in pixels, and most lines of a title."""
GRAY, LIGHT = "#666666", "#bbbbbb"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def grid(
    pictures: Sequence[Image.Image | None], columns: int, *, gap: int = 0, margin: int = 0, below: int = 0
) -> tuple[Image.Image, list[tuple[int, int]]]:
    """Draw pictures of one size in rows on white; return the sheet and the left upper corner of each picture.

    Args:
        pictures: row by row; None leaves a place empty.
        columns: pictures to a row.
        gap: pixels between pictures.
        margin: pixels around all of them.
        below: pixels under each, for text.
    """
    width, height = next(picture.size for picture in pictures if picture)
    count = -(-len(pictures) // columns)
    across, down = width + gap, height + below + gap
    size = (columns * across - gap + 2 * margin, count * down - gap + 2 * margin)
    sheet, corners = Image.new("RGB", size, "white"), []
    for place, picture in enumerate(pictures):
        corners.append((margin + place % columns * across, margin + place // columns * down))
        if picture:
            sheet.paste(picture.convert("RGB"), corners[-1])
    return sheet, corners


def groups(
    shown: Sequence[tuple[str, Sequence[Image.Image | None]]], heads: Sequence[str], columns: int = 3
) -> Image.Image | None:
    """Draw groups of pictures, each under its title, several groups to a row; None if there are no groups.

    Args:
        shown: title and pictures of each group; None leaves an empty frame.
        heads: names of the pictures in a group, in their order.
        columns: groups to a row.
    """
    if not shown:
        return None
    font = ImageFont.load_default(size=FONT_SIZE)
    wide = len(heads) * (SIDE + GAP) + BETWEEN
    bands = [_Band(shown[start : start + columns], font, wide) for start in range(0, len(shown), columns)]
    size = (wide * min(columns, len(shown)) - BETWEEN + GAP, sum(band.height for band in bands))
    sheet, top = Image.new("RGB", size, "white"), 0
    draw = ImageDraw.Draw(sheet)
    for band in bands:
        for place, (lines, pictures) in enumerate(band.groups):
            left = place * wide + GAP
            for number, line in enumerate(lines):
                draw.text((left, top + GAP + number * LINE), line, "black", font)
            for head, picture in zip(heads, pictures, strict=True):
                draw.text((left, top + band.words - LINE), head, GRAY, font)
                at = left, top + band.words
                width, height = picture.size if picture else (SIDE, band.pictures)
                if picture:
                    sheet.paste(picture, at)
                draw.rectangle((at[0] - 1, at[1] - 1, at[0] + width, at[1] + height), outline=LIGHT)
                left += SIDE + GAP
        top += band.height
    return sheet


def enlarged(picture: Image.Image, side: int = SIDE) -> Image.Image:
    """A small picture with its pixels repeated as often as fits, so that they stay what they are.

    Args:
        picture: any; one larger than half of the side stays as it is.
        side: pixels of its longer side at most.
    """
    times = max(1, side // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


class _Band:
    """One row of a sheet: its titles in lines, its pictures in their final size, and its height."""

    def __init__(
        self, shown: Sequence[tuple[str, Sequence[Image.Image | None]]], font: Font, wide: int
    ) -> None:
        self.groups = [
            (_title_lines(title, font, wide - BETWEEN), [each and _fit(each) for each in pictures])
            for title, pictures in shown
        ]
        self.words = GAP + LINE * (1 + max(len(lines) for lines, _ in self.groups))
        heights = [each.height for _, pictures in self.groups for each in pictures if each]
        self.pictures = max(heights, default=SIDE)
        self.height = self.words + self.pictures + BETWEEN


def _fit(picture: Image.Image) -> Image.Image:
    made = picture.convert("RGB")
    return enlarged(made) if max(made.size) <= SIDE else ImageOps.contain(made, (SIDE, SIDE))


def _title_lines(title: str, font: Font, width: int) -> list[str]:
    lines = wrap(title, font, width).split("\n")
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], f"{lines[LINES - 1]} …"]


def strip(shown: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Draw pictures of one size side by side, small ones enlarged, each above its text."""
    pictures = [enlarged(picture.convert("RGB")) for _, picture in shown]
    width, height = pictures[0].size
    font_size = max(FONT_SIZE, height // 24)
    font, gap = ImageFont.load_default(size=font_size), max(GAP, width // 32)
    texts = [wrap(words, font, width - font_size // 2) for words, _ in shown]
    below = round(1.4 * font_size) * max(text.count("\n") + 1 for text in texts)
    sheet, corners = grid(pictures, len(pictures), gap=gap, margin=gap, below=below)
    draw = ImageDraw.Draw(sheet)
    for text, (left, top) in zip(texts, corners, strict=True):
        draw.multiline_text((left, top + height + gap // 2), text, "black", font, spacing=font_size * 0.2)
    return sheet


def wrap(text: str, font: Font, width: int) -> str:
    """Break text into lines that fit a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
