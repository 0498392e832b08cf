"""`make demo`: edit a shipped sample and put source and edit side by side."""

import time
from pathlib import Path

from PIL import Image

import editkit
from editkit.imaging import contact_sheet

SAMPLE = Path(__file__).parent / "samples" / "red_circle.png"
INSTRUCTION = "make the red circle blue"
OUTPUT = Path("out/demo.png")


def main() -> None:
    """Write out/demo.png and print its path and the seconds taken."""
    started = time.perf_counter()
    source = Image.open(SAMPLE).convert("RGB")
    result = editkit.load("tiny").edit(source, INSTRUCTION)
    assert result.image is not None
    strip, _ = contact_sheet.grid([source, result.image], 2, gap=8)
    OUTPUT.parent.mkdir(exist_ok=True)
    strip = strip.resize((strip.width * 3, strip.height * 3), Image.Resampling.NEAREST)
    strip.save(OUTPUT)
    print(f"{OUTPUT}: {INSTRUCTION!r} in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
