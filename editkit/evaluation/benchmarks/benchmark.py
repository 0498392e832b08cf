"""The record of a benchmark, and how its items are checked while they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import turns
from editkit.evaluation.records import Item, Problem


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """The settings in a benchmark's YAML."""

    name: str
    """What it is called by."""
    title: str = ""
    """Its published name."""
    source: str = ""
    """Where its data are published."""
    paper: str = ""
    """Its paper."""
    licence: str = ""
    """Of its data."""
    note: str = ""
    """What a person should know before trusting its figures."""
    reader: str
    """Name of a reader; see `editkit.evaluation.benchmarks.READERS`."""
    options: dict[str, Any] = field(default_factory=dict)
    """The reader's own options."""
    metrics: list[str] = field(default_factory=list)
    """Names of the metrics that it is scored by where none are asked for."""
    rubric: str = "viescore"
    """The rubric of a scoring judge where none is asked for."""
    primary: str = ""
    """The column that best and worst pictures are chosen by."""
    export: str = ""
    """Name of the export in its own layout of results, if there is one."""


Reader = Callable[[BenchmarkConfig, Path | None], Iterator[Item | Problem]]
"""Reads the items of published data one by one; the path is where the data are, None where they are drawn."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark and the place of its data.

    Attributes:
        config: what its YAML says.
        data: folder or file of its data; None where they are drawn.
        reader: gives its items.
    """

    config: BenchmarkConfig
    data: Path | None
    reader: Reader

    def items(self, limit: int | None = None) -> Iterator[Item | Problem]:
        """Read the items in order, at most `limit` of them.

        Each id comes once, and each later turn without a source comes after the turn that it edits.

        Raises:
            EditkitError: where the data cannot be read at all.
        """
        seen: set[bytes] = set()
        before: Item | None = None
        for found in self.reader(self.config, self.data):
            if limit is not None and len(seen) >= limit:
                return
            if isinstance(found, Item):
                if found.id != (plain := found.id.encode(errors="ignore").decode()):
                    yield Problem(
                        kind="unreadable row",
                        where=plain,
                        sentence=f"The id {plain!r} holds characters that are not Unicode; remove them.",
                    )
                    continue
                digest = hashlib.blake2b(found.id.encode(), digest_size=8).digest()
                if digest in seen:
                    yield Problem(
                        kind="duplicate id",
                        where=found.id,
                        sentence=f"The id {found.id!r} comes twice; the first item of it counts.",
                    )
                    continue
                if (problem := turns.unsourced(found, before)) is not None:
                    yield Problem(kind="empty field", where=found.id, sentence=problem)
                    continue
                seen.add(digest)
                before = found
            yield found

    def contents(self, limit: int | None = None) -> Contents:
        """Go through all items once without decoding a picture.

        Raises:
            EditkitError: where there are none.
        """
        made = hashlib.blake2b(digest_size=16)
        count, categories, problems = 0, dict[str, int](), dict[str, int]()
        first = ""
        for found in self.items(limit):
            if isinstance(found, Problem):
                problems[found.kind] = problems.get(found.kind, 0) + 1
                first = first or found.sentence
                continue
            count += 1
            categories[found.category] = categories.get(found.category, 0) + 1
            made.update(f"{found.id}\0{found.instruction}\0".encode())
        if not count:
            reason = (
                f" ({sum(problems.values())} rows are bad; the first: {first.rstrip('.')})"
                if problems
                else ""
            )
            raise EditkitError(f"The benchmark {self.config.name} has no items in {self.data}{reason}.")
        return Contents(count=count, categories=categories, problems=problems, digest=made.hexdigest())


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """The findings of one pass over a benchmark.

    Attributes:
        count: number of items.
        categories: number of items by category.
        problems: number of bad rows by kind.
        digest: of all ids and instructions, in order.
    """

    count: int
    categories: Mapping[str, int]
    problems: Mapping[str, int]
    digest: str
