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
SLOTS: dict[str, tuple[float, float]] = {
    "top left": (0.28, 0.28),
    "top right": (0.72, 0.28),
    "bottom left": (0.28, 0.72),
    "bottom right": (0.72, 0.72),
}
STYLES = ("flat", "outline", "stripes", "gray")
LETTERS = "AEHKLTXZ"
DARK_LETTERED = frozenset({"white", "yellow", "cyan", "pink", "orange"})
JITTER = 0.05
RADII = (0.13, 0.19)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One object: its centre (x, y) and radius r are fractions of the picture's side."""

    shape: str
    colour: str
    slot: str
    x: float
    y: float
    r: float
    letter: str | None = None

    @property
    def name(self) -> str:
        """How an instruction calls it; unique within a scene."""
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
            x=SLOTS[slot][0] + rng.uniform(-JITTER, JITTER),
            y=SLOTS[slot][1] + rng.uniform(-JITTER, JITTER),
            r=rng.uniform(*RADII),
        )
        carries = rng.random() < lettered and thing.shows_letter_on(background)
        things.append(replace(thing, letter=letter) if carries else thing)
    return Scene(background=background, things=tuple(things), style=style)
