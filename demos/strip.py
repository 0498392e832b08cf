"""Draw docs/strip.png: edits of held-out ShapesWorld scenes by the embedded backbone."""

from pathlib import Path

from PIL import Image

import editkit
from editkit import shapesworld
from editkit.imaging import contact_sheet

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
    edited = [result.image for result in editkit.load("tiny").edit_many(requests)]
    assert all(edited)
    strip, _ = contact_sheet.grid([*sources, *edited], len(KINDS), gap=GAP)
    for number, example in enumerate(examples, start=1):
        print(f"{number}. {example.instruction}")
    OUTPUT.parent.mkdir(exist_ok=True)
    strip.save(OUTPUT, optimize=True)
    print(OUTPUT)


if __name__ == "__main__":
    main()
