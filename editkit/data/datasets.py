"""Training pairs by name: ShapesWorld drawn as it is asked for, and files."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from editkit import shapesworld
from editkit.data import files
from editkit.data.records import DRAWN, FILES, DataConfig, Record
from editkit.errors import EditkitError


class Dataset(Protocol):
    """Records by place."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def digest(self) -> str:
        """Of what the records are made from, where the config does not say it all."""


def dataset(config: DataConfig) -> Dataset:
    """The dataset that a config names.

    Raises:
        EditkitError: where it has no such kind of edit, or the seeds are held out.
    """
    return DATASETS[config.name](config)


class Guarded:
    """A dataset whose bad records are the sentences that say what is wrong with them.

    Bad are those that cannot be read, or whose answer would be stretched onto its source.
    An exception in a worker would end the run, with the worker's traceback for its message.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record | str:
        try:
            record = self.dataset[index]
        except EditkitError as error:
            return str(error)
        if sizes := record.stretched():
            return (
                f"record {index}: its pictures have different aspect ratios ({sizes}); cut or leave it out."
            )
        return record


class Chained:
    """Several datasets, one behind the other."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Record:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)

    def digest(self) -> str:
        return " ".join(part.digest() for part in self.parts)


def edit_record(example: shapesworld.Example) -> Record:
    """An edit of ShapesWorld as pictures."""
    return Record(
        source=shapesworld.render(example.source) if example.source else None,
        answer=shapesworld.render(example.answer),
        instruction=example.instruction,
        kind=example.kind,
    )


def masked_record(example: shapesworld.MaskedExample) -> Record:
    """An edit under a mask, or from references, as pictures."""
    return Record(
        source=shapesworld.render(example.source) if example.source else None,
        answer=shapesworld.render(example.answer),
        mask=example.mask,
        references=tuple(shapesworld.render(scene) for scene in example.references),
        instruction=example.instruction,
        kind=example.kind,
        task=example.task,
    )


class Drawn(ABC):
    """Records that ShapesWorld's training seeds stand for."""

    def __init__(self, config: DataConfig) -> None:
        if config.start < shapesworld.HELD_OUT.stop:
            raise EditkitError(f"data.start={config.start} is too low; seeds below 10000 are held out.")
        self.config = config

    def __len__(self) -> int:
        return self.config.count or DRAWN

    def __getitem__(self, index: int) -> Record:
        return self.draw(self.config.start + index)

    def digest(self) -> str:
        return ""

    @abstractmethod
    def draw(self, seed: int) -> Record:
        """The record of one seed."""


class ShapesWorld(Drawn):
    """Edits without masks, captions and open instructions."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.kinds = _kinds(config, shapesworld.KINDS, "caption", "open")

    def draw(self, seed: int) -> Record:
        rng = random.Random(f"kind {seed}")
        (kind,) = rng.choices(list(self.kinds), list(self.kinds.values()))
        if kind == "open":
            case = shapesworld.open_example(seed)
            return Record(
                source=shapesworld.render(case.source),
                answer=shapesworld.render(rng.choice(case.answers)),
                instruction=case.instruction,
                kind=kind,
            )
        return edit_record(shapesworld.example(seed, kind))


class ShapesWorldMasked(Drawn):
    """Edits under masks and from references, each told by its task."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.kinds = _kinds(config, shapesworld.MASKED)

    def draw(self, seed: int) -> Record:
        (name,) = random.Random(f"kind {seed}").choices(list(self.kinds), list(self.kinds.values()))
        return masked_record(shapesworld.masked_example(seed, name))


class ShapesWorldHoles(Drawn):
    """ShapesWorld's pictures with holes, as an inpainting network is trained: captions, and no instruction.

    A third are single pictures. The others are two side by side: the same one twice, the same scene with
    something changed, or two that have nothing in common; the words describe the right one.
    """

    PAIRS = 0.67
    REPEATED = "A diptych with two side-by-side images of the same scene"
    VARIED = "A diptych of the same scene. On the right, "

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        if config.kinds:
            raise EditkitError("data.kinds is for edits; leave it out for shapesworld holes.")

    def draw(self, seed: int) -> Record:
        rng = random.Random(f"hole {seed}")
        paired = rng.random() < self.PAIRS
        left, right, words = self._pair(seed, rng) if paired else self._single(seed)
        mask = np.zeros(right.shape[:2], np.uint8)
        _hole(mask, rng, whole=0.7 if paired else 0.25)
        if left is not None:
            right = np.concatenate((left, right), axis=1)
            mask = np.concatenate((np.zeros_like(mask), mask), axis=1)
        return Record(source=right, answer=right, mask=mask, instruction=words, kind="hole")

    def _single(self, seed: int) -> tuple[None, NDArray[np.uint8], str]:
        scene = shapesworld.example(seed, "caption").answer
        return None, shapesworld.render(scene), scene.caption()

    def _pair(self, seed: int, rng: random.Random) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        content = rng.choices(("repeated", "varied", "unrelated"), (0.35, 0.5, 0.15))[0]
        if content == "varied":
            example = shapesworld.example(seed, rng.choice(sorted(shapesworld.ON_SCENE)))
            assert example.source is not None  # kinds on a scene start from one
            left, right = example.source, example.answer
            return shapesworld.render(left), shapesworld.render(right), self.VARIED + right.caption()
        _, picture, _ = self._single(seed)
        if content == "repeated":
            return picture, picture, self.REPEATED
        return picture, *self._single(seed + 1_000_000_000)[1:]


def _hole(mask_HW: NDArray[np.uint8], rng: random.Random, whole: float) -> None:
    """Mask one to three rectangles, or everything with the chance `whole`."""
    if rng.random() < whole:
        mask_HW[:] = 255
        return
    height, width = mask_HW.shape
    for _ in range(rng.randint(1, 3)):
        tall, wide = rng.randint(height // 5, height * 2 // 3), rng.randint(width // 5, width * 2 // 3)
        top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
        mask_HW[top : top + tall, left : left + wide] = 255


def _kinds(config: DataConfig, usual: Iterable[str], *more: str) -> dict[str, float]:
    """The kinds that a config asks for, with their weights; the usual ones alike where it names none."""
    if unknown := set(config.kinds) - {*usual, *more}:
        known = ", ".join((*usual, *more))
        raise EditkitError(f"data.name={config.name} has no kind {min(unknown)!r}; it has {known}.")
    return dict(config.kinds) or dict.fromkeys(usual, 1.0)


DATASETS: dict[str, Callable[[DataConfig], Dataset]] = {
    "shapesworld": ShapesWorld,
    "shapesworld masked": ShapesWorldMasked,
    "shapesworld holes": ShapesWorldHoles,
    **dict.fromkeys(FILES, files.Files),
}
