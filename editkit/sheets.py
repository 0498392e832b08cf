"""Contact sheets: pictures in rows with words."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, LETTERS = 192, 6, 12


def rows(shown: Sequence[tuple[str, Sequence[Image.Image | None]]], columns: int = 3) -> Image.Image | None:
    """Groups of pictures, each under its title, several groups to a row; None where there are none."""
    if not shown:
        return None
    font = ImageFont.load_default(size=LETTERS)
    wide = max(len(pictures) for _, pictures in shown) * (SIDE + GAP) + GAP
    high, line = SIDE + GAP + 3 * LETTERS, 3 * LETTERS
    count = -(-len(shown) // columns)
    sheet = Image.new("RGB", (wide * min(columns, len(shown)), high * count), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (title, pictures) in enumerate(shown):
        left, top = place % columns * wide, place // columns * high
        draw.multiline_text((left + GAP, top + GAP), wrapped(title, font, wide - 2 * GAP), "black", font)
        for number, picture in enumerate(pictures):
            if picture is not None:
                small = picture.convert("RGB").copy()
                small.thumbnail((SIDE, SIDE))
                sheet.paste(small, (left + GAP + number * (SIDE + GAP), top + line))
    return sheet


def strip(shown: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures of one size side by side in their own pixels, each over its words."""
    width, height = shown[0][1].size
    letters = max(LETTERS, height // 24)
    font, gap = ImageFont.load_default(size=letters), max(GAP, width // 64)
    texts = [wrapped(words, font, width) for words, _ in shown]
    below = gap + round(1.4 * letters) * max(text.count("\n") + 1 for text in texts)
    made = Image.new("RGB", ((width + gap) * len(shown) + gap, gap + height + below), "white")
    draw = ImageDraw.Draw(made)
    for place, (text, (_, picture)) in enumerate(zip(texts, shown, strict=True)):
        left = gap + place * (width + gap)
        made.paste(picture.convert("RGB"), (left, gap))
        draw.multiline_text((left, gap + height + gap // 2), text, "black", font, spacing=letters * 0.2)
    return made


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Text in lines that fit a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
