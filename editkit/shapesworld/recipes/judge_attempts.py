"""Edits of ShapesWorld that a method really makes in a few steps, for a judge to learn from."""

import hashlib
import json
import math
import random
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor

from editkit import atomic_files, shapesworld
from editkit.errors import EditkitError
from editkit.inference.editor import PictureEditor
from editkit.shapesworld import Scene
from editkit.shapesworld.masked import around_slot
from editkit.shapesworld.recipes import judge_model, judge_pairs
from editkit.shapesworld.recipes.judge_conversations import JudgeExample, reply
from editkit.shapesworld.scores import INSIDE, OUTSIDE, score
from editkit.shapesworld.world import SLOTS
from editkit.types import EditRequest, EditResult

SPOILT = 0.2
"""Mean error of a part of the picture that is all wrong."""
ALIKE = 0.1
"""Logarithm of two attempts' ratio of errors below which nobody could tell which is better."""
TOGETHER = 32

Pixels = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class AttemptsConfig:
    """Edits that a method is asked for, each with several seeds."""

    method: str | None = None
    """Recorded where one is named."""
    backbone: str = "tiny"
    edits: int = 1500
    """How many, every other one under an open instruction."""
    seeds: int = 4
    """Attempts at each."""
    steps: tuple[int, ...] = (2, 4)
    """Of an attempt; edits take turns."""
    share: float = 0.5
    """Share of pairs that are of these."""
    cache: str = "out/cache"
    """Folder in which they are kept."""

    def __post_init__(self) -> None:
        if self.edits < 1 or self.seeds < 2:
            raise ValueError("attempts need at least one edit and two seeds")
        if not self.steps or min(self.steps) < 1:
            raise ValueError(f"attempts.steps must be positive numbers, not {self.steps}")
        if not 0 < self.share <= 1:
            raise ValueError(f"attempts.share must lie in (0, 1], not {self.share}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledEdit:
    """An edit with everything that would be right, and whether its instruction is an open one."""

    instruction: str
    open: bool
    source: Scene
    answers: tuple[Scene, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempts:
    """All that was made, edit by edit.

    Attributes:
        pixels_ENCHW: by edit and seed, levels of 255.
        marks_ENP: how well each part came out, in ninths.
        misses_EN: error as a multiple of what still succeeds.
    """

    start: int
    pixels_ENCHW: Tensor
    marks_ENP: Tensor
    misses_EN: Tensor

    def example(self, place: int, rng: random.Random) -> JudgeExample:
        """Two attempts at the edit at a place, modulo their number, which differ if any do."""
        number = place % len(self.pixels_ENCHW)
        made, misses = sampled(self.start + number), self.misses_EN[number].tolist()
        for _ in range(8):
            one, other = rng.sample(range(len(misses)), 2)
            if _apart(misses[one], misses[other]):
                break
        size = self.pixels_ENCHW.shape[-1]
        shown = [self.pixels_ENCHW[number, seed] / 255 for seed in (one, other)]
        marks = [mark for seed in (one, other) for mark in self.marks_ENP[number, seed].tolist()]
        return JudgeExample(
            instruction=made.instruction,
            pictures=[judge_pairs.drawn(made.source, size), *shown],
            scenes=[made.source, made.answers[0], made.answers[0]],
            clear=[True, False, False],
            reply=reply(marks, better(misses[one], misses[other])),
        )


def sampled(seed: int) -> SampledEdit:
    """The edit that a seed stands for, open for even ones; seeds are held out as ShapesWorld's are."""
    if seed % 2 == 0:
        held = shapesworld.open_example(seed)
        return SampledEdit(instruction=held.instruction, open=True, source=held.source, answers=held.answers)
    rng = random.Random(f"asked {seed}")
    closed = shapesworld.example(seed, rng.choice(list(shapesworld.ON_SCENE)))
    assert closed.source is not None
    return SampledEdit(
        instruction=closed.instruction, open=False, source=closed.source, answers=(closed.answer,)
    )


def better(first: float, second: float) -> str:
    """Tell which of two misses is clearly the smaller one."""
    if not _apart(first, second):
        return ""
    return "first" if first < second else "second"


def recorded(config: AttemptsConfig, size: int, start: int = shapesworld.TRAINING_START) -> Attempts:
    """Attempts from `start` on, from disk where the same weights were asked for the same before.

    Args:
        config: names a method.
        size: side of the pictures that are kept.
        start: first seed.

    Raises:
        EditkitError: where an edit fails.
    """
    from editkit import api

    editor = api.load(config.backbone)
    first, *_ = _made(editor, config, [start])
    about = asdict(config) | {"size": size, "start": start, "weights": first.recipe["weights"]}
    about |= {"options": first.recipe["options"], "share": None, "cache": None}
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode(), digest_size=12)
    path = Path(config.cache) / f"attempts-{digest.hexdigest()}.safetensors"
    if not path.is_file():
        tensors = _measured(editor, config, size, start)
        with atomic_files.whole(path) as file:
            file.write(save(tensors))
    return Attempts(start=start, **load_file(path))


def _made(editor: PictureEditor, config: AttemptsConfig, edits: list[int]) -> list[EditResult]:
    """Every seed's attempt at each edit, in order."""
    requests = [
        EditRequest(
            image=Image.fromarray(shapesworld.render(sampled(edit).source)),
            instruction=sampled(edit).instruction,
            method=str(config.method),
            seed=edit * config.seeds + number,
            steps=config.steps[edit // 2 % len(config.steps)],
        )
        for edit in edits
        for number in range(config.seeds)
    ]
    results = editor.edit_many(requests, batch_size=TOGETHER)
    for result in results:
        if result.error:
            raise EditkitError(result.error)
    return results


def _measured(editor: PictureEditor, config: AttemptsConfig, size: int, start: int) -> dict[str, Tensor]:
    pixels, marks, misses = [], [], []
    edits = range(start, start + config.edits)
    for place in track(range(0, config.edits, TOGETHER), "attempts"):
        chosen = list(edits[place : place + TOGETHER])
        for number, result in enumerate(_made(editor, config, chosen)):
            assert result.image is not None
            picture = result.image.convert("RGB")
            marked, miss = measured(sampled(chosen[number // config.seeds]), _levels(np.asarray(picture)))
            pixels.append(
                torch.from_numpy(np.asarray(picture.resize((size, size), Image.Resampling.BOX)).copy())
            )
            marks.append(torch.tensor(marked, dtype=torch.uint8))
            misses.append(miss)
    stacked = torch.stack(pixels).permute(0, 3, 1, 2), torch.stack(marks), torch.tensor(misses)
    shaped = [each.reshape(config.edits, config.seeds, *each.shape[1:]).contiguous() for each in stacked]
    return dict(zip(("pixels_ENCHW", "marks_ENP", "misses_EN"), shaped, strict=True))


def measured(edit: SampledEdit, made_HWC: Pixels) -> tuple[list[int], float]:
    """Marks of an attempt's background, whole and slots, and its miss, against the nearest answer."""
    source_HWC, *answers = _rendered((edit.source, *edit.answers))
    nearest_HWC = min(answers, key=lambda answer: float(np.abs(answer - made_HWC).mean()))
    found = score(source_HWC, nearest_HWC, made_HWC, "open")
    error_HW = np.abs(made_HWC - nearest_HWC).mean(-1)
    around_HW, slots = np.ones(error_HW.shape, bool), []
    for slot in map(around_slot, SLOTS):
        around_HW[slot] = False
        slots.append(float(error_HW[slot].mean()))
    errors = [float(error_HW[around_HW].mean()), float(error_HW.mean()), *slots]
    marks = [round(judge_model.TOP_MARK * max(0.0, 1 - error / SPOILT)) for error in errors]
    return marks, max(found.inside / INSIDE, found.outside / OUTSIDE)


@lru_cache(maxsize=4)  # an edit's attempts are measured one after the other
def _rendered(scenes: tuple[Scene, ...]) -> list[Pixels]:
    return [_levels(shapesworld.render(scene)) for scene in scenes]


def _apart(first: float, second: float) -> bool:
    return abs(math.log(max(first, 1e-6) / max(second, 1e-6))) >= ALIKE


def _levels(pixels_HWC: NDArray[np.uint8]) -> Pixels:
    return pixels_HWC.astype(np.float32) / np.float32(255)
