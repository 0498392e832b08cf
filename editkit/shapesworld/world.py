"""ShapesWorld's nouns: colours, shapes, slots, styles, and the scenes made of them."""

import random
from dataclasses import dataclass, replace

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 50, 180),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "pink": (250, 150, 190),
    "cyan": (60, 200, 220),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "diamond", "crescent")
SLOTS: dict[str, tuple[int, int]] = {
    "top left": (8, 8),
    "top right": (23, 8),
    "bottom left": (8, 23),
    "bottom right": (23, 23),
}
"""Centre cells (x, y)."""
STYLES = ("flat", "outline", "stripes", "gray")
LETTERS = "AEHKLTXZ"
DARK_LETTERED = frozenset({"white", "yellow", "cyan", "pink", "orange"})
JITTER = 1
"""Cells by which a drawn scene's objects may lie off their slot's centre, on each axis."""
SIZES = (11, 13)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One object: its centre cell (x, y) and its size, in cells across."""

    shape: str
    colour: str
    slot: str
    x: int
    y: int
    size: int
    letter: str | None = None

    @property
    def name(self) -> str:
        """Its name in instructions; unique within a scene."""
        return f"{self.colour} {self.shape}"

    @property
    def letter_colour(self) -> str:
        """Black on light objects, white on dark ones."""
        return "black" if self.colour in DARK_LETTERED else "white"

    def shows_letter_on(self, background: str) -> bool:
        """Whether a letter on this thing would stand out even where the thing has a hole."""
        return self.letter_colour != background

    def at(self, slot: str) -> "Thing":
        """The same thing at the exact centre of another slot."""
        x, y = SLOTS[slot]
        return replace(self, slot=slot, x=x, y=y)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A background colour, one to three things in distinct slots, and a style."""

    background: str
    things: tuple[Thing, ...]
    style: str = "flat"

    def free_slots(self) -> list[str]:
        """Slots that hold nothing."""
        taken = {thing.slot for thing in self.things}
        return [slot for slot in SLOTS if slot not in taken]

    def new_colours(self) -> list[str]:
        """Colours that neither the background nor a thing has."""
        taken = {self.background, *(thing.colour for thing in self.things)}
        return [colour for colour in COLOURS if colour not in taken]

    def new_shapes(self) -> list[str]:
        """Shapes that no thing has."""
        taken = {thing.shape for thing in self.things}
        return [shape for shape in SHAPES if shape not in taken]

    def new_letters(self) -> list[str]:
        """Letters that no thing carries."""
        taken = {thing.letter for thing in self.things}
        return [letter for letter in LETTERS if letter not in taken]

    def swap(self, old: Thing, new: Thing | None) -> "Scene":
        """The scene with one thing replaced, or taken out where `new` is None."""
        things = tuple(new if thing is old else thing for thing in self.things)
        return replace(self, things=tuple(thing for thing in things if thing is not None))

    def caption(self) -> str:
        """The text-to-image prompt that describes this scene."""
        parts = [
            f"a {thing.name} in the {thing.slot}"
            + (f" with the letter {thing.letter}" if thing.letter else "")
            for thing in self.things
        ]
        ending = {"flat": "", "outline": ", outlined", "stripes": ", striped", "gray": ", black and white"}
        return f"{' and '.join(parts)} on a {self.background} background{ending[self.style]}"


def draw_scene(
    rng: random.Random, *, count: int | None = None, style: str = "flat", lettered: float = 0.0
) -> Scene:
    """A random scene.

    Args:
        rng: the only source of chance.
        count: how many things, 1 to 3; drawn evenly where None.
        style: one of `STYLES`.
        lettered: chance of a letter on each thing that would show it; letters within one scene differ.
    """
    count = count or rng.randint(1, 3)
    background, *colours = rng.sample(list(COLOURS), count + 1)
    shapes = rng.sample(SHAPES, count)
    slots = rng.sample(list(SLOTS), count)
    letters = rng.sample(LETTERS, count)
    things = []
    for shape, colour, slot, letter in zip(shapes, colours, slots, letters, strict=True):
        thing = Thing(
            shape=shape,
            colour=colour,
            slot=slot,
            x=SLOTS[slot][0] + rng.randint(-JITTER, JITTER),
            y=SLOTS[slot][1] + rng.randint(-JITTER, JITTER),
            size=rng.choice(SIZES),
        )
        carries = rng.random() < lettered and thing.shows_letter_on(background)
        things.append(replace(thing, letter=letter) if carries else thing)
    return Scene(background=background, things=tuple(things), style=style)
