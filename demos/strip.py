"""Draw docs/strip.png: edits of held-out ShapesWorld scenes by the embedded backbone."""

from pathlib import Path

from PIL import Image

import editkit
from editkit import shapesworld

KINDS = (
    "recolour",
    "remove",
    "replace",
    "add",
    "move",
    "background",
    "style",
    "letter",
    "character reference",
)
SEED, GAP = 3, 8
OUTPUT = Path("docs/strip.png")


def main() -> None:
    """Edit one scene of each kind, all of one fixed seed, and write the strip."""
    examples = [shapesworld.example(SEED, kind) for kind in KINDS]
    sources = [Image.fromarray(shapesworld.render(example.source)) for example in examples if example.source]
    requests = [
        editkit.EditRequest(image=source, instruction=example.instruction)
        for source, example in zip(sources, examples, strict=True)
    ]
    side = shapesworld.SIZE
    strip = Image.new("RGB", (len(KINDS) * (side + GAP) - GAP, 2 * side + GAP), "white")
    for column, result in enumerate(editkit.load("tiny").edit_many(requests)):
        assert result.image is not None
        strip.paste(sources[column], (column * (side + GAP), 0))
        strip.paste(result.image, (column * (side + GAP), side + GAP))
        print(f"{column + 1}. {examples[column].instruction}")
    OUTPUT.parent.mkdir(exist_ok=True)
    strip.save(OUTPUT, optimize=True)
    print(OUTPUT)


if __name__ == "__main__":
    main()
