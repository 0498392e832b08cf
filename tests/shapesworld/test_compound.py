"""Compound instructions: several edits in one."""

from __future__ import annotations

from dataclasses import replace

from editkit import shapesworld
from editkit.shapesworld.compound import COMPOUND, compound_example


def test_each_phrase_changes_one_thing() -> None:
    """Each phrase changes one thing, adds one or paints the background; the rest of the scene stays."""
    counts = set()
    for seed in range(300):
        example = compound_example(seed)
        assert example.source is not None
        gone = set(example.source.things) - set(example.answer.things)
        added = len(example.answer.things) - len(example.source.things)
        painted = example.source.background != example.answer.background
        phrases = example.instruction.count(" and ") + 1
        assert phrases == len(gone) + added + painted
        counts.add(phrases)
    assert counts == {2, 3}
    assert compound_example(7) == compound_example(7)


def test_words_are_known() -> None:
    """The embedded model's vocabulary holds every word."""
    said = {
        word
        for kind in COMPOUND
        for seed in range(300)
        for word in compound_example(seed, kind).instruction.split()
    }
    assert said <= shapesworld.words()


def test_drawing_changes_every_thing() -> None:
    """`compound/drawing` gives each thing of the source another shape or letter, and changes nothing else."""
    for seed in range(300):
        example = compound_example(seed, "compound/drawing")
        assert example.source is not None
        before, after = (
            {
                (thing.x, thing.y, thing.size, thing.colour): (thing.shape, thing.letter)
                for thing in scene.things
            }
            for scene in (example.source, example.answer)
        )
        assert before.keys() == after.keys()
        assert all(before[thing] != after[thing] for thing in before)
        assert example.source.background == example.answer.background
        assert example.instruction.count(" and ") + 1 == len(before)


def test_letters_change_every_letter_that_can_be() -> None:
    """`compound/letters` edits the letter of each thing that can carry one, and changes nothing else."""
    for seed in range(300):
        example = compound_example(seed, "compound/letters")
        assert example.source is not None
        before, after = (
            {(thing.name, thing.x, thing.y, thing.size): thing for thing in scene.things}
            for scene in (example.source, example.answer)
        )
        assert before.keys() == after.keys()
        background = example.source.background
        able = {name for name, thing in before.items() if thing.shows_letter_on(background)}
        assert {name for name in before if before[name] != after[name]} == able
        assert all(before[name] == replace(after[name], letter=before[name].letter) for name in before)
        assert example.answer.background == background
        assert example.instruction.count(" and ") + 1 == len(able)


def test_characters_stand_in_every_other_slot() -> None:
    """`compound/characters` shows the source's thing in all other slots, on another background."""
    lettered = set()
    for seed in range(300):
        example = compound_example(seed, "compound/characters")
        assert example.source is not None
        (thing,) = example.source.things
        slots = {each.slot for each in example.answer.things}
        assert slots == set(example.source.free_slots())
        assert set(example.answer.things) == {thing.at(slot) for slot in slots}
        assert example.answer.background != example.source.background
        assert all(f"in the {slot}" in example.instruction for slot in slots)
        lettered.add(thing.letter is not None)
    assert lettered == {True, False}
