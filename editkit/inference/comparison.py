"""Compare methods on one picture and instruction, each method on the canvas that it was trained on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from editkit.errors import EditkitError
from editkit.imaging import canvas, images
from editkit.imaging.contact_sheet import grid, wrap
from editkit.types import EditRequest, EditResult

if TYPE_CHECKING:
    from editkit.inference.editor import PictureEditor
    from editkit.inference.progress import Watch
    from editkit.judges import Judge
    from editkit.types import ImageInput

SHOWN = 256
"""Smallest length, in pixels, of the longer side of a picture on a sheet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One method's result and its figures.

    Attributes:
        result: the edit, or why it failed.
        seconds: duration of the edit, without loading.
        tokens: number of tokens of its canvas; 0 where the edit failed.
        changed: share of the picture's pixels that changed visibly.
        moved: mean absolute difference of the other pixels to the source, pixels in [0, 1].
        wins: duels that the method won, 1/2 for a tie; None without a judge.
    """

    result: EditResult
    seconds: float
    tokens: int
    changed: float
    moved: float
    wins: float | None = None

    def summary(self) -> dict[str, Any]:
        """Return everything but the picture, in JSON's types."""
        return {
            "method": self.result.method,
            "seed": self.result.seed,
            "error": self.result.error,
            "seconds": round(self.seconds, 3),
            "tokens": self.tokens,
            "changed": round(self.changed, 4),
            "moved": round(self.moved, 5),
            "wins": self.wins,
        }

    def lines(self) -> list[str]:
        """Return the lines of text under the picture on a sheet."""
        if self.result.error:
            return [self.result.method, self.result.error]
        duels = [] if self.wins is None else [f"judge {self.wins:g}"]
        return [
            self.result.method,
            f"{self.seconds:.2f} s, {self.tokens} tokens",
            ", ".join((f"changed {self.changed:.0%}", f"rest {self.moved:.3f}", *duels)),
        ]


def compare(
    editor: PictureEditor,
    image: ImageInput,
    instruction: str,
    methods: Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    judge: Judge | None = None,
    watch: Callable[[str], Watch] | None = None,
    **fields: Any,
) -> list[Entry]:
    """Edit a picture with each method in turn.

    Args:
        editor: an editor of any backbone.
        image: picture to edit.
        instruction: the edit in words.
        methods: names of methods.
        size: width and height that all methods work at. Where None, each method uses the canvas that it was
            trained on. The results have the picture's size in both cases.
        judge: compares every two results; None for no judge.
        watch: makes, from a method's name, the callback for each step of its edit.
        fields: further fields of an `EditRequest`, such as seed, steps and mask.

    Raises:
        EditkitError: where the picture cannot be read, a method is unknown or named twice, or none is named.
    """
    made = requests(editor, image, instruction, methods, size=size, **fields)
    entries = [
        entry
        for request in made
        for entry in run_requests([(editor, request)], watch(request.method) if watch else None)
    ]
    if judge is None:
        return entries
    return _judged(entries, judge, images.picture(images.tensor(images.load_image(image))[0]), instruction)


def requests(
    editor: PictureEditor,
    image: ImageInput,
    instruction: str,
    methods: Sequence[str],
    *,
    size: tuple[int, int] | None = None,
    **fields: Any,
) -> list[EditRequest]:
    """Make one request for each method, all with the same seed; `compare` explains the arguments.

    Raises:
        EditkitError: where `compare` raises it.
    """
    if not methods or len(set(methods)) < len(methods):
        raise EditkitError("Name one method or several, each once.")
    for name in methods:
        editor.method(name)  # an unknown method is refused before any edit
    images.load_image(image)  # a picture that cannot be read, too
    return [
        EditRequest(image=image, instruction=instruction, method=name, size=size, **fields)
        for name in methods
    ]


def run_requests(
    jobs: Sequence[tuple[PictureEditor, EditRequest]], watch: Watch | None = None
) -> Iterator[Entry]:
    """Run each request with its editor, one by one, and yield its entry; `watch` is called after each step.

    Editors of one backbone may differ in the options of their methods; see `Editor.configured`.
    """
    for editor, request in jobs:
        assert request.image is not None
        try:
            editor.load(request)
        except EditkitError as error:
            result = EditResult(image=None, method=request.method, seed=request.seed, error=str(error))
        else:
            (result,) = editor.edit_many([request], watch=watch)
        yield _entry(request.image, result)


def difference(before: Image.Image, after: Image.Image, strength: float = 4.0) -> Image.Image:
    """Draw the difference of two pictures of one size, by the largest channel; black for none."""
    first_1CHW, second_1CHW = (images.tensor(images.load_image(each)) for each in (before, after))
    apart_11HW = (second_1CHW - first_1CHW).abs().amax(1, keepdim=True)
    return images.picture((strength * apart_11HW).clamp(max=1).expand_as(first_1CHW))


def sheet(image: ImageInput, entries: Sequence[Entry]) -> Image.Image:
    """Draw the source and each method's result side by side, with their figures below."""
    source = images.load_image(image)
    scale = max(1, -(-SHOWN // max(source.size)))
    width, height = (side * scale for side in source.size)
    letters = max(11, height // 18)
    font = ImageFont.load_default(size=letters)
    line, gap = round(letters * 1.4), max(4, width // 32)
    pictures = [images.picture(images.tensor(source)[0]), *(entry.result.image for entry in entries)]
    texts = [["source"], *(entry.lines() for entry in entries)]
    large = [
        each and each.convert("RGB").resize((width, height), Image.Resampling.NEAREST) for each in pictures
    ]
    made, corners = grid(large, len(large), gap=gap, margin=gap, below=4 * line - gap)
    draw = ImageDraw.Draw(made)
    for picture, lines, (left, top) in zip(pictures, texts, corners, strict=True):
        if picture is None:
            draw.rectangle((left, top, left + width - 1, top + height - 1), outline="firebrick")
        shown = [lines[0], *(part for text in lines[1:] for part in wrap(text, font, width).split("\n"))][:4]
        for number, text in enumerate(shown):
            draw.text((left, top + height + number * line), text, fill="black", font=font)
    return made


def _entry(source: ImageInput, result: EditResult) -> Entry:
    if result.image is None:
        return Entry(result=result, seconds=0.0, tokens=0, changed=0.0, moved=0.0)
    before, after = (images.tensor(images.load_image(each)) for each in (source, result.image))
    change = canvas.change_mask(before, after)
    still = (change < 0.5).expand_as(before)
    return Entry(
        result=result,
        seconds=sum(result.timings.values()),
        tokens=int(result.recipe["tokens"]),
        changed=float(change.mean()),
        moved=float((after - before).abs()[still].mean()) if still.any() else 0.0,
    )


def _judged(entries: list[Entry], judge: Judge, source: Image.Image, instruction: str) -> list[Entry]:
    from dataclasses import replace

    from editkit.judges import Case
    from editkit.judges.tournament import find_best

    case = Case(source=source, instruction=instruction)
    wins = dict.fromkeys((entry.result.method for entry in entries if entry.result.image), 0.0)
    pictures = {entry.result.method: entry.result.image for entry in entries}
    for pair in itertools.combinations(wins, 2):
        _, (duel,) = find_best(judge, case, {place: pictures[name] for place, name in enumerate(pair)})  # type: ignore[misc]
        for place, name in enumerate(pair):
            wins[name] += 0.5 if duel.better is None else float(duel.better == place)
    return [replace(entry, wins=wins.get(entry.result.method)) for entry in entries]
