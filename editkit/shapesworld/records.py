"""ShapesWorld's examples as pictures."""

from editkit import shapesworld as world
from editkit.data.records import Record


def edit_record(example: world.Example) -> Record:
    """An edit of ShapesWorld as pictures."""
    return Record(
        source=world.render(example.source) if example.source else None,
        answer=world.render(example.answer),
        instruction=example.instruction,
        kind=example.kind,
    )


def masked_record(example: world.MaskedExample) -> Record:
    """An edit under a mask, or from references, as pictures."""
    return Record(
        source=world.render(example.source) if example.source else None,
        answer=world.render(example.answer),
        mask=example.mask,
        references=tuple(world.render(scene) for scene in example.references),
        instruction=example.instruction,
        kind=example.kind,
        task=example.task,
    )
