"""Pairs of results to vote on: of one item, out of runs of one benchmark."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import open_benchmark
from editkit.evaluation.records import Item, StoredPicture
from editkit.evaluation.run_folder import RunFolder

QUALITIES = {
    "instruction": "Which one does what was asked?",
    "preservation": "Which one leaves the rest of the picture alone?",
    "overall": "Which one is better, all in all?",
    "prompt following": "Which one shows what was asked for?",
    "aesthetic": "Which one is better to look at?",
    "realism": "Which one looks less as if a program had made it?",
    "typography": "Which one has the better writing?",
}
"""Questions by quality. The last four are those of text to image; speed is measured, not asked."""
DEFAULT = ("instruction", "preservation", "overall")


@dataclass(frozen=True, kw_only=True, slots=True)
class Duel:
    """Two results of one item, in the order in which one voter sees them."""

    item: str
    left: str
    right: str

    @property
    def pair(self) -> tuple[str, str]:
        """Both contestants, whoever is on the left."""
        first, second = sorted((self.left, self.right))
        return first, second


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The items and the contestants' results.

    Attributes:
        items: by id, in the benchmark's order.
        results: pictures by contestant and item.
        later: number of later turns, which are left out: their sources are the contestants' own results.
    """

    items: Mapping[str, Item]
    results: Mapping[str, Mapping[str, Path]]
    later: int = 0

    def left_out(self) -> Iterator[str]:
        """Say how many of the runs' items no one votes on, and why, without a full stop."""
        count = self.later + len(self.items)
        if self.later:
            yield (
                f"{self.later} of {count} items are left out: they are later turns, which have no source "
                "that all contestants share"
            )
        if single := len(self.items) - len({item for item, _ in self.duels()}):
            yield f"{single} of {count} items are left out: fewer than two contestants have a picture of them"

    def duels(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """All pairs: item, and both contestants sorted by name."""
        for first, second in combinations(sorted(self.results), 2):
            shared = self.results[first].keys() & self.results[second].keys()
            yield from ((item, (first, second)) for item in self.items if item in shared)

    def next(
        self,
        voter: str,
        done: set[tuple[str, tuple[str, str]]],
        counts: Mapping[tuple[str, tuple[str, str]], int],
    ) -> Duel | None:
        """The pair that a voter should see next: of the fewest votes, in an order of the voter's own.

        Args:
            voter: decides the order, and who stands on the left.
            done: what the voter has seen.
            counts: numbers of votes.
        """
        left = [each for each in self.duels() if each not in done]
        if not left:
            return None
        item, pair = min(left, key=lambda each: (counts.get(each, 0), _draw(voter, each)))
        first, second = pair if _draw(voter, (item, pair), "side")[0] % 2 else pair[::-1]
        return Duel(item=item, left=first, right=second)

    def picture(self, contestant: str, item: str) -> Image.Image:
        """A result's pixels, without what its file tells.

        Raises:
            EditkitError: where it cannot be read.
        """
        path = self.results[contestant][item]
        return StoredPicture(value=path.name, folder=path.parent, what=f"result of {item}").picture()

    def source(self, item: str) -> Image.Image | None:
        """The picture that was edited; None for text to image.

        Raises:
            EditkitError: where it cannot be read.
        """
        stored = self.items[item].source
        return None if stored is None else stored.picture()


def open_contest(runs: Sequence[Path]) -> Contest:
    """The contest of the runs' methods; a method that two runs have is called RUN: METHOD.

    Later turns of a session are left out, as their sources are not the same.

    Raises:
        EditkitError: where a folder holds no run, runs differ in their items, or there is nothing to compare.
    """
    if len({path.resolve() for path in runs}) < len(runs):
        raise EditkitError("A run is given twice; give each folder once.")
    folders = [RunFolder(path) for path in runs]
    settings = [folder.settings for folder in folders]
    digests = {each["contents"]["digest"] for each in settings}
    if len(digests) > 1:
        raise EditkitError("The runs are of different items; give runs of one benchmark with one --limit.")
    config = settings[0]["config"]
    benchmark = open_benchmark(config["benchmark"], config["data"])
    every = [item for item in benchmark.items(config["limit"]) if isinstance(item, Item)]
    items = {item.id: item for item in every if item.turn == 1}
    names = [name for each in settings for name in each["methods"]]
    results: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for edit in folder.edits().values():
            path = (folder.path / edit.picture).absolute()
            if edit.error is None and edit.item in items and path.is_file():
                name = edit.method
                if names.count(name) > 1:
                    name = f"{_label(folder.path, runs)}: {name}"
                results.setdefault(name, {})[edit.item] = path
    made = Contest(items=items, results=results, later=len(every) - len(items))
    if next(made.duels(), None) is None:
        raise EditkitError(
            f"There is nothing to compare: an arena needs two methods with results of one item, and there "
            f"are {', '.join(results) or 'none'}."
        )
    return made


def _label(path: Path, runs: Sequence[Path]) -> str:
    """A run's folder name; its whole path where another run's folder has the same name."""
    names = [run.resolve().name for run in runs]
    name = path.resolve().name
    return name if names.count(name) == 1 else str(path)


def _draw(voter: str, duel: tuple[str, tuple[str, str]], what: str = "") -> bytes:
    told = "\0".join((voter, duel[0], *duel[1], what))
    return hashlib.blake2b(told.encode(), digest_size=8).digest()
