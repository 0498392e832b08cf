"""Open instructions, which several answers fit."""

from __future__ import annotations

from PIL import Image


def test_open_instructions() -> None:
    """Every answer that fits succeeds; the source, and an answer to another instruction, do not."""
    from editkit import shapesworld
    from editkit.shapesworld.evaluate_open import nearest

    kinds = set()
    for seed in range(12):
        example = shapesworld.open_example(seed)
        kinds.add(example.kind)
        pictures = [Image.fromarray(shapesworld.render(answer)) for answer in example.answers]
        assert len({picture.tobytes() for picture in pictures}) == len(pictures)
        assert all(nearest(example, picture).success for picture in (pictures[0], pictures[-1]))
        assert not nearest(example, Image.fromarray(shapesworld.render(example.source))).success
        other = shapesworld.example(seed, "background" if example.kind != "change background" else "remove")
        assert not nearest(example, Image.fromarray(shapesworld.render(other.answer))).success
        assert example == shapesworld.open_example(seed)
    assert kinds <= set(shapesworld.OPEN)
    assert len(kinds) > 2
