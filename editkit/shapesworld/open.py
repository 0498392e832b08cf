"""Open instructions: a seed gives a scene, words that leave something free, and every answer that fits."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from editkit.shapesworld.edits import ADDED_SIZE, Edit
from editkit.shapesworld.world import COLOURS, Scene, Thing, draw_scene


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenExample:
    """One edit that more than one picture fulfils."""

    seed: int
    kind: str
    instruction: str
    source: Scene
    answers: tuple[Scene, ...]


Open = tuple[str, list[Scene]]


def _added(scene: Scene, shape: str, colours: list[str]) -> list[Scene]:
    things = [
        Thing(shape=shape, colour=colour, slot="", x=0, y=0, size=ADDED_SIZE).at(slot)
        for colour in colours
        for slot in scene.free_slots()
    ]
    return [replace(scene, things=(*scene.things, thing)) for thing in things]


def add_anywhere(rng: random.Random, scene: Scene) -> Open:
    """Any free place."""
    shape, colour = rng.choice(scene.new_shapes()), rng.choice(scene.new_colours())
    words = f"{rng.choice(('add', 'put', 'draw'))} a {colour} {shape}"
    return words, _added(scene, shape, [colour])


def add_any_colour(rng: random.Random, scene: Scene) -> Open:
    """Any free place, any colour that shows."""
    shape = rng.choice(scene.new_shapes())
    visible = [colour for colour in COLOURS if colour != scene.background]
    return f"{rng.choice(('add', 'put', 'draw'))} a {shape}", _added(scene, shape, visible)


def change_background(rng: random.Random, scene: Scene) -> Open:
    """Any colour but the one it has and those of the things."""
    words = rng.choice(("change the background", "paint the background"))
    return words, [replace(scene, background=colour) for colour in scene.new_colours()]


def move_away(rng: random.Random, scene: Scene) -> Open:
    """Any free place."""
    thing = rng.choice(scene.things)
    return f"move the {thing.name}", [scene.swap(thing, thing.at(slot)) for slot in scene.free_slots()]


OPEN: dict[str, Callable[[random.Random, Scene], Open]] = {
    "add anywhere": add_anywhere,
    "add any colour": add_any_colour,
    "change background": change_background,
    "move away": move_away,
}


def open_example(seed: int) -> OpenExample:
    """The open instruction that a seed stands for; seeds are held out as those of `example` are."""
    rng = random.Random(f"open {seed}")
    kind, scene = rng.choice(list(OPEN)), draw_scene(rng)
    instruction, answers = OPEN[kind](rng, scene)
    return OpenExample(seed=seed, kind=kind, instruction=instruction, source=scene, answers=tuple(answers))


def open_edit(rng: random.Random) -> Edit:
    """An open instruction and one of its answers."""
    scene = draw_scene(rng)
    instruction, answers = rng.choice(list(OPEN.values()))(rng, scene)
    return scene, instruction, rng.choice(answers)
