"""`make demo`: edit a shipped sample and put source and edit side by side."""

import time
from pathlib import Path

from PIL import Image

import editkit

SAMPLE = Path(__file__).parent / "samples" / "red_circle.png"
INSTRUCTION = "make the red circle blue"
OUTPUT = Path("out/demo.png")


def main() -> None:
    """Write out/demo.png and print its path and the seconds taken."""
    started = time.perf_counter()
    source = Image.open(SAMPLE).convert("RGB")
    result = editkit.load("tiny").edit(source, INSTRUCTION)
    assert result.image is not None
    strip = Image.new("RGB", (2 * source.width + 8, source.height), "white")
    strip.paste(source, (0, 0))
    strip.paste(result.image, (source.width + 8, 0))
    OUTPUT.parent.mkdir(exist_ok=True)
    strip = strip.resize((strip.width * 3, strip.height * 3), Image.Resampling.NEAREST)
    strip.save(OUTPUT)
    print(f"{OUTPUT}: {INSTRUCTION!r} in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
