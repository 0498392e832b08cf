"""Pairs of attempts at ShapesWorld's edits, of which the ground truth knows the better one.

A task is an edit with several outcomes: right, right but with damage elsewhere, nearly right, another edit,
nothing done. A pair shows two of them, or two mixtures, as a diffusion looks that has not gone all the way.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from editkit import shapesworld
from editkit.shapesworld import Scene, Thing
from editkit.shapesworld.edits import ADDED_SIZE, ON_SCENE
from editkit.shapesworld.render import CELLS
from editkit.shapesworld.world import LETTERS, STYLES

OPEN = "open"
KINDS = (*shapesworld.KINDS, "caption", OPEN)
RIGHT, DAMAGED, NEAR, OTHER = 1.0, 0.5, 0.2, 0.0
CLEAR = 0.5
"""Difference of two mixtures' qualities from which on anybody sees it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A picture that an edit may end in; `quality` lies in [0, 1]."""

    scene: Scene
    quality: float


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedTask:
    """An edit, or for `source` None a caption, and its outcomes, right ones first."""

    kind: str
    instruction: str
    source: Scene | None
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """`share` of one outcome over another, and how far the picture is from a finished one, in [0, 1]."""

    front: Outcome
    back: Outcome
    share: float
    rough: float
    seed: int

    @property
    def quality(self) -> float:
        """Of the mixture."""
        return self.share * self.front.quality + (1 - self.share) * self.back.quality

    def picture(self, size: int) -> Tensor:
        """Pixels in [0, 1], (3, size, size): mixed, softened by half a cell, discoloured, each cell noisy."""
        mixed_CHW = self.share * drawn(self.front.scene, size) + (1 - self.share) * drawn(
            self.back.scene, size
        )
        if not self.rough:
            return mixed_CHW
        generator = torch.Generator().manual_seed(self.seed)
        drawn_5 = torch.rand(5, generator=generator)
        tint_C, weak, contrast = drawn_5[:3], float(drawn_5[3]), float(drawn_5[4])
        radius = size // CELLS // 2
        soft_CHW = F.avg_pool2d(
            F.pad(mixed_CHW[None], (2 * radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1
        )
        soft_CHW = F.avg_pool2d(soft_CHW, 2 * radius + 1, stride=1)[0]
        noise_CHW = F.interpolate(torch.randn(1, 3, CELLS, CELLS, generator=generator), size)[0]
        pixels_CHW = mixed_CHW.lerp(soft_CHW, weak * self.rough)
        pixels_CHW = (pixels_CHW - 0.5) * (1 - 0.2 * self.rough * contrast) + 0.5
        pixels_CHW = pixels_CHW + 0.08 * self.rough * (tint_C[:, None, None] - 0.5)
        pixels_CHW = pixels_CHW + 0.04 * self.rough * noise_CHW
        return pixels_CHW.clamp(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two attempts at a task; `better` is `first`, `second`, or empty where they are equally good."""

    task: JudgedTask
    first: Attempt
    second: Attempt

    @property
    def better(self) -> str:
        """The answer that a judge should give."""
        if self.first.quality == self.second.quality:
            return ""
        return "first" if self.first.quality > self.second.quality else "second"


@lru_cache(maxsize=60_000)
def _levels(scene: Scene, size: int) -> Tensor:
    return torch.from_numpy(shapesworld.render(scene, size)).permute(2, 0, 1).contiguous()


def drawn(scene: Scene, size: int) -> Tensor:
    """A scene's pixels in [0, 1], (3, size, size)."""
    return _levels(scene, size) / 255


def task(seed: int) -> JudgedTask:
    """The task that a seed stands for; held-out seeds are ShapesWorld's."""
    rng = random.Random(f"judge {seed}")
    kind = rng.choice(KINDS)
    source, instruction, answers, free = _open(rng) if kind == OPEN else _closed(seed, kind)
    outcomes = [Outcome(scene=answer, quality=RIGHT) for answer in answers]
    for quality, scenes in (
        (DAMAGED, _damaged(rng, source, answers[0])),
        (NEAR, _near(rng, source, answers[0], free)),
        (OTHER, _others(rng, kind, source, answers[0])),
    ):
        fresh = [scene for scene in scenes if scene not in (source, *answers)]
        outcomes += [Outcome(scene=scene, quality=quality) for scene in fresh[:2]]
    if source is not None:
        outcomes.append(Outcome(scene=source, quality=OTHER))
    return JudgedTask(kind=kind, instruction=instruction, source=source, outcomes=tuple(outcomes))


Drawn = tuple[Scene | None, str, list[Scene], tuple[str, ...]]


def _closed(seed: int, kind: str) -> Drawn:
    example = shapesworld.example(seed, kind)
    return example.source, example.instruction, [example.answer], ()


def _open(rng: random.Random) -> Drawn:
    """An instruction that leaves something open, two answers that both fulfil it, and what is open."""
    scene = shapesworld.draw_scene(rng, count=rng.randint(1, 2))
    thing, shape = rng.choice(scene.things), rng.choice(scene.new_shapes())
    colours, slots = (rng.sample(each, 2) for each in (scene.new_colours(), scene.free_slots()))
    verb, form = rng.choice(("add", "put", "draw")), rng.choice(("shape", "thing", "move", "recolour"))
    free: tuple[str, ...]
    if form == "move":
        words, free = f"move the {thing.name}", ("slot",)
        answers = [scene.swap(thing, thing.at(slot)) for slot in slots]
    elif form == "recolour":
        words, free = f"change the colour of the {thing.name}", ("colour",)
        answers = [scene.swap(thing, replace(thing, colour=colour)) for colour in colours]
    else:
        free = ("slot", "colour") if form == "shape" else ("slot",)
        colours = colours if form == "shape" else colours[:1] * 2
        words = f"{verb} a {shape}" if form == "shape" else f"{verb} a {colours[0]} {shape}"
        made = Thing(shape=shape, colour="", slot="", x=0, y=0, size=ADDED_SIZE)
        added = [replace(made, colour=c).at(slot) for c, slot in zip(colours, slots, strict=True)]
        answers = [replace(scene, things=(*scene.things, new)) for new in added]
    return scene, words, answers, free


def _variants(rng: random.Random, scene: Scene, thing: Thing, free: Sequence[str] = ()) -> Iterator[Scene]:
    """The scene with one thing otherwise, each time in another respect, but none of those in `free`."""
    changed = [replace(thing, shape=rng.choice(scene.new_shapes()))]
    if scene.style != "gray" and "colour" not in free:  # in gray, another colour may look the same
        changed.append(replace(thing, colour=rng.choice(scene.new_colours())))
    if "slot" not in free and (slots := scene.free_slots()):
        changed.append(thing.at(rng.choice(slots)))
    if thing.letter and thing.shows_letter_on(scene.background):
        other = rng.choice([letter for letter in LETTERS if letter != thing.letter])
        changed += [replace(thing, letter=other), replace(thing, letter=None)]
    rng.shuffle(changed)
    for new in changed:
        yield scene.swap(thing, new)


def _damaged(rng: random.Random, source: Scene | None, answer: Scene) -> list[Scene]:
    """The answer with something spoilt that was to be left alone."""
    kept = [thing for thing in answer.things if source is not None and thing in source.things]
    if not kept or source is None:
        return []
    if source.style != answer.style or source.background != answer.background:
        return [scene for thing in kept for scene in _variants(rng, answer, thing)][:1]
    spoilt = [*_variants(rng, answer, rng.choice(kept)), answer.swap(rng.choice(kept), None)]
    spoilt.append(replace(answer, background=rng.choice(answer.new_colours())))
    return rng.sample(spoilt, 2)


def _near(rng: random.Random, source: Scene | None, answer: Scene, free: Sequence[str]) -> list[Scene]:
    """The answer with what was to be made made wrong."""
    new = [thing for thing in answer.things if source is None or thing not in source.things]
    nearly = list(_variants(rng, answer, rng.choice(new), free))[:2] if new else []
    if source is None or (source.background, source.style) != (answer.background, answer.style):
        nearly.append(replace(answer, background=rng.choice(answer.new_colours())))
        colours = {answer.background, *(thing.colour for thing in answer.things)}
        styles = STYLES if not colours <= {"white", "black"} else STYLES[:3]
        nearly.append(replace(answer, style=rng.choice([style for style in styles if style != answer.style])))
    rng.shuffle(nearly)
    return nearly


def _others(rng: random.Random, kind: str, source: Scene | None, answer: Scene) -> list[Scene]:
    """Other edits of the source: one of the same kind where that is possible, and one of any."""
    if source is None or not source.things:
        return [shapesworld.draw_scene(rng)]
    made = []
    kinds = [kind] if kind in ON_SCENE and kind != "style" else []
    # What is open could be met by chance, by all but these two.
    foreign = ("remove", "background") if kind == OPEN else ("recolour", "remove", "replace", "add", "move")
    for other in [*kinds, rng.choice(foreign)]:
        with suppress(IndexError):  # nothing in this scene to do so to
            made.append(ON_SCENE[other][1](rng, source)[2])
    return made


def pair(chosen: JudgedTask, seed: int, graded: bool) -> Pair:
    """Two attempts at a task: finished ones or, where `graded`, mixtures of which one is clearly better."""
    rng = random.Random(f"pair {seed}")
    right = [outcome for outcome in chosen.outcomes if outcome.quality == RIGHT]
    wrong = [outcome for outcome in chosen.outcomes if outcome.quality < RIGHT]
    if not graded:
        worse, good = rng.choice(wrong), rng.choice(right)
        made = [_attempt(rng, good, good, 1, 0), _attempt(rng, worse, worse, 1, 0)]
    else:
        made = _mixtures(rng, right, wrong)
    rng.shuffle(made)
    return Pair(task=chosen, first=made[0], second=made[1])


def _mixtures(rng: random.Random, right: Sequence[Outcome], wrong: Sequence[Outcome]) -> list[Attempt]:
    rough = rng.random()
    fronts = [rng.choice(right), rng.choice((*right, *wrong))]
    # Previews of one edit mostly differ in how much of it has formed.
    back = wrong[-1] if rng.random() < 0.6 else rng.choice(wrong)
    while True:
        shares = [rng.uniform(0, 1) ** 0.7 for _ in fronts]
        made = [_attempt(rng, f, back, share, rough) for f, share in zip(fronts, shares, strict=True)]
        if abs(made[0].quality - made[1].quality) > 0.2:
            return made


def _attempt(rng: random.Random, front: Outcome, back: Outcome, share: float, rough: float) -> Attempt:
    return Attempt(front=front, back=back, share=share, rough=rough, seed=rng.getrandbits(32))
