"""ShapesWorld's edits: a seed gives a source scene, an instruction and the true answer."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from editkit.imaging.color import LUMA
from editkit.shapesworld.world import COLOURS, LETTERS, SHAPES, STYLES, Scene, Thing, draw_scene

HELD_OUT = range(0, 10_000)
TRAINING_START = 1_000_000
ADDED_SIZE = 13
LETTERED_SCENES = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One edit with its ground truth; `source` is None for text to image."""

    seed: int
    category: str
    kind: str
    instruction: str
    source: Scene | None
    answer: Scene


Edit = tuple[Scene, str, Scene]


def _flat(rng: random.Random) -> Scene:
    return draw_scene(rng, lettered=0.5 if rng.random() < LETTERED_SCENES else 0.0)


def _lettered(rng: random.Random, *, chance: float, count: int | None = None) -> Scene:
    """A flat scene in which at least one thing carries a letter."""
    scene = draw_scene(rng, count=count, lettered=chance)
    while not any(thing.letter for thing in scene.things):
        scene = draw_scene(rng, count=count, lettered=chance)
    return scene


def recolour(rng: random.Random, scene: Scene) -> Edit:
    thing = rng.choice(scene.things)
    colour = rng.choice(
        [
            new
            for new in scene.new_colours()
            if not thing.letter or replace(thing, colour=new).shows_letter_on(scene.background)
        ]
    )
    phrase = rng.choice(("make the {} {}", "change the {} to {}", "turn the {} {}"))
    return scene, phrase.format(thing.name, colour), scene.swap(thing, replace(thing, colour=colour))


def remove(rng: random.Random, scene: Scene) -> Edit:
    thing = rng.choice(scene.things)
    return scene, f"{rng.choice(('remove', 'delete', 'erase'))} the {thing.name}", scene.swap(thing, None)


def replace_shape(rng: random.Random, scene: Scene) -> Edit:
    thing, shape = rng.choice(scene.things), rng.choice(scene.new_shapes())
    phrase = rng.choice(("replace the {} with a {}", "turn the {} into a {}", "swap the {} for a {}"))
    return scene, phrase.format(thing.name, shape), scene.swap(thing, replace(thing, shape=shape))


def add(rng: random.Random, scene: Scene) -> Edit:
    thing = Thing(
        shape=rng.choice(scene.new_shapes()),
        colour=rng.choice(scene.new_colours()),
        slot="",
        x=0,
        y=0,
        size=ADDED_SIZE,
    ).at(rng.choice(scene.free_slots()))
    answer = replace(scene, things=(*scene.things, thing))
    return scene, f"{rng.choice(('add', 'put', 'draw'))} a {thing.name} in the {thing.slot}", answer


def move(rng: random.Random, scene: Scene) -> Edit:
    thing, slot = rng.choice(scene.things), rng.choice(scene.free_slots())
    return scene, f"move the {thing.name} to the {slot}", scene.swap(thing, thing.at(slot))


def background(rng: random.Random, scene: Scene) -> Edit:
    lettered = [thing for thing in scene.things if thing.letter]
    colour = rng.choice(
        [new for new in scene.new_colours() if all(thing.shows_letter_on(new) for thing in lettered)]
    )
    phrase = rng.choice(("change the background to {}", "make the background {}", "paint the background {}"))
    return scene, phrase.format(colour), replace(scene, background=colour)


def restyle(rng: random.Random, scene: Scene) -> Edit:
    styles = {
        "outline": "redraw it as outlines",
        "stripes": "redraw it with stripes",
        "gray": "make it black and white",
    }
    if {scene.background, *(thing.colour for thing in scene.things)} <= {"white", "black"}:
        del styles["gray"]
    if any(thing.letter for thing in scene.things):
        styles = {"gray": styles["gray"]} if "gray" in styles else styles
    style = rng.choice(list(styles))
    return scene, styles[style], replace(scene, style=style)


def letter(rng: random.Random, scene: Scene) -> Edit:
    lettered = [thing for thing in scene.things if thing.letter]
    bare = [thing for thing in scene.things if not thing.letter and thing.shows_letter_on(scene.background)]
    moves = ["change", "erase"] * bool(lettered) + ["write"] * bool(bare)
    chosen, new = rng.choice(moves), rng.choice(scene.new_letters())
    thing = rng.choice(bare if chosen == "write" else lettered)
    if chosen == "write":
        return (
            scene,
            f"write the letter {new} on the {thing.name}",
            scene.swap(thing, replace(thing, letter=new)),
        )
    if chosen == "erase":
        return scene, f"remove the letter {thing.letter}", scene.swap(thing, replace(thing, letter=None))
    phrase = rng.choice(("change the letter {} to {}", "replace the letter {} with {}"))
    return scene, phrase.format(thing.letter, new), scene.swap(thing, replace(thing, letter=new))


def style_reference(rng: random.Random) -> Edit:
    scene = draw_scene(rng, style=rng.choice(STYLES))
    colour, shape = rng.choice(scene.new_colours()), rng.choice(scene.new_shapes())
    backgrounds = [other for other in COLOURS if other not in (colour, scene.background)]
    if scene.style == "gray":
        backgrounds = [other for other in backgrounds if abs(_luma(other) - _luma(colour)) > 32]
    thing = Thing(shape=shape, colour=colour, slot="", x=0, y=0, size=ADDED_SIZE).at(
        rng.choice(scene.free_slots())
    )
    answer = Scene(background=rng.choice(backgrounds), things=(thing,), style=scene.style)
    return (
        scene,
        f"a {thing.name} in the {thing.slot} on a {answer.background} background in this style",
        answer,
    )


def character_reference(rng: random.Random) -> Edit:
    scene = _lettered(rng, chance=1.0, count=1)
    (thing,) = scene.things
    slot = rng.choice(scene.free_slots())
    colour = rng.choice([new for new in scene.new_colours() if thing.shows_letter_on(new)])
    subject = rng.choice(("the same character", "put this character"))
    answer = Scene(background=colour, things=(thing.at(slot),))
    return scene, f"{subject} in the {slot} on a {colour} background", answer


def _luma(colour: str) -> float:
    return sum(weight * channel for weight, channel in zip(LUMA, COLOURS[colour], strict=True))


ON_SCENE: dict[str, tuple[str, Callable[[random.Random, Scene], Edit]]] = {
    "recolour": ("local", recolour),
    "remove": ("local", remove),
    "replace": ("local", replace_shape),
    "add": ("local", add),
    "move": ("local", move),
    "background": ("global", background),
    "style": ("global", restyle),
    "letter": ("text", letter),
}
REFERENCES: dict[str, Callable[[random.Random], Edit]] = {
    "style reference": style_reference,
    "character reference": character_reference,
}
KINDS = (*ON_SCENE, *REFERENCES)
CATEGORIES = ("local", "global", "text", *REFERENCES)
TURNS = ("recolour", "remove", "replace", "add", "move", "background", "letter")


def example(seed: int, kind: str | None = None) -> Example:
    """The edit that a seed stands for.

    Args:
        seed: `HELD_OUT` seeds are for scoring; training starts at `TRAINING_START`.
        kind: one of `KINDS`, or "caption" for text to image; drawn evenly from `KINDS` where None.
    """
    rng = random.Random(seed)
    kind = kind or rng.choice(KINDS)
    if kind == "caption":
        answer = draw_scene(rng, style=rng.choice(("flat", *STYLES)), lettered=0.0)
        if answer.style in ("flat", "gray") and rng.random() < 0.4:
            answer = replace(answer, things=tuple(_with_letter(rng, answer)))
        return Example(
            seed=seed, category=kind, kind=kind, instruction=answer.caption(), source=None, answer=answer
        )
    if kind in REFERENCES:
        category = kind
        source, instruction, answer = REFERENCES[kind](rng)
    else:
        category, make = ON_SCENE[kind]
        scene = _lettered(rng, chance=0.7) if kind == "letter" else _flat(rng)
        source, instruction, answer = make(rng, scene)
    return Example(
        seed=seed, category=category, kind=kind, instruction=instruction, source=source, answer=answer
    )


def _with_letter(rng: random.Random, scene: Scene) -> list[Thing]:
    letters = rng.sample(LETTERS, len(scene.things))
    return [
        replace(thing, letter=letter)
        if thing.shows_letter_on(scene.background) and rng.random() < 0.7
        else thing
        for thing, letter in zip(scene.things, letters, strict=True)
    ]


def session(seed: int, turns: int = 5) -> list[Example]:
    """Edits in a row on one picture: each turn's source is the answer of the turn before."""
    rng = random.Random(seed)
    scene, examples = _flat(rng), []
    for _ in range(turns):
        possible = [kind for kind in TURNS if scene.things or kind in ("add", "background")]
        if len(scene.things) == 3:
            possible.remove("add")
        if "letter" in possible and not any(
            t.letter or t.shows_letter_on(scene.background) for t in scene.things
        ):
            possible.remove("letter")
        kind = rng.choice(possible)
        category, make = ON_SCENE[kind]
        source, instruction, answer = make(rng, scene)
        examples.append(
            Example(
                seed=seed, category=category, kind=kind, instruction=instruction, source=source, answer=answer
            )
        )
        scene = answer
    return examples


@cache
def words() -> frozenset[str]:
    """Every word that an instruction or a caption of this world can hold."""
    phrases = [example(seed, kind).instruction for kind in (*KINDS, "caption") for seed in range(400)]
    said = {word for phrase in phrases for word in phrase.replace(",", " ").split()}
    return frozenset({*said, *COLOURS, *SHAPES, *LETTERS})
