"""Score every result by every metric that has not scored it yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import Benchmark
from editkit.evaluation.chunks import Session, Share, Watch, chunks
from editkit.evaluation.metrics import AskingMetric, Metric
from editkit.evaluation.records import RGB, Case, Edit, Item, StoredPicture
from editkit.evaluation.run_folder import RunFolder, settled
from editkit.evaluation.settings import RunConfig

AHEAD = 2
"""Chunks that are decoded while one is scored."""

T = TypeVar("T")
Lines = list[dict[str, Any]]


@dataclass(kw_only=True)
class Scoring:
    """The scoring of a run by one process.

    Attributes:
        benchmark: gives the items.
        config: the run's settings. Its chunks are those of the edits: a share made all that it scores.
        metrics: score them.
        folder: holds the results and takes the scores.
        share: this process's part.
        workers: threads that decode and score.
    """

    benchmark: Benchmark
    config: RunConfig
    metrics: Sequence[Metric]
    folder: RunFolder
    share: Share
    workers: int = 2
    _one_at_a_time: Lock = field(default_factory=Lock)
    _threads: int = 1
    _edits: dict[tuple[str, str], Edit] = field(default_factory=dict)
    _known: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _asked: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _methods: list[str] = field(default_factory=list)

    def run(self, watch: Watch) -> None:
        """Score chunk by chunk, in order; memory holds a few chunks' pictures at a time.

        Raises:
            EditkitError: where the log cannot be written.
        """
        import torch

        self._threads = torch.get_num_threads()
        self._edits = self.folder.edits()
        self._methods = sorted({method for method, _ in self._edits})
        for line in self.folder.scores():
            key = (line["method"], line["item"])
            self._known.setdefault(key, set()).update(settled(line.get("scores") or {}))
            self._asked.setdefault(key, set()).update(line.get("asked") or ())
        # Threads of torch's own within each of these would wait for each other longer than they compute.
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting: list[tuple[int, Future[Lines]]] = []
            items = self.benchmark.items(self.config.limit)
            for chunk in chunks(items, self.config.batch_size, self.share):
                waiting.append((sum(map(len, chunk)), pool.submit(self._chunk, chunk)))
                if len(waiting) > AHEAD:
                    self._log(*waiting.pop(0), watch)
            for each in waiting:
                self._log(*each, watch)
        torch.set_num_threads(self._threads)  # MKL has one number for all threads

    def _log(self, count: int, lines: Future[Lines], watch: Watch) -> None:
        if found := lines.result():
            self.folder.log_scores(found)
        watch(count)

    def _chunk(self, chunk: Sequence[Session]) -> Lines:
        lines: Lines = []
        for session in chunk:
            pictures = _Pictures()
            for method in self._methods:
                lines += self._session(method, session, pictures)
        return lines

    def _session(self, method: str, session: Session, pictures: _Pictures) -> Iterator[dict[str, Any]]:
        """Score a session's results by one method; a later turn's source is the result before it."""
        before: Edit | None = None
        first: StoredPicture | None = None
        for _, item in session:
            first = first or item.source
            edit = self._edits.get((method, item.id))
            missing = self._missing(method, item)
            given = _Given(pictures=pictures, before=before, first=first)
            if edit is not None and edit.error is None and missing:
                yield self._line(item, edit, missing, given)
            elif edit is not None and edit.error is not None:
                yield from self._failure(item, edit, missing, given)
            before = edit

    def _missing(self, method: str, item: Item) -> list[Metric]:
        known = self._known.get((method, item.id), set())
        return [metric for metric in self.metrics if metric.name not in known]

    def _line(self, item: Item, edit: Edit, metrics: Sequence[Metric], given: _Given) -> dict[str, Any]:
        line: dict[str, Any] = {"method": edit.method, "item": item.id}
        try:
            case = self._case(item, edit, given)
        except EditkitError as error:
            line |= {"error": str(error), "metrics": [metric.name for metric in metrics]}
            return {**line, "asked": self._asking(item, metrics, given)}
        return {**line, "scores": {metric.name: self._scored(metric, case) for metric in metrics}}

    def _failure(
        self, item: Item, edit: Edit, metrics: Sequence[Metric], given: _Given
    ) -> Iterator[dict[str, Any]]:
        """Log which metrics the item of a failed edit asks for, if the log does not tell yet."""
        told = self._asked.get((edit.method, item.id), set())
        if asked := self._asking(item, [metric for metric in metrics if metric.name not in told], given):
            yield {"method": edit.method, "item": item.id, "asked": asked}

    def _asking(self, item: Item, metrics: Sequence[Metric], given: _Given) -> list[str]:
        """Names of metrics that ask only some items, and ask this one."""
        asking = [metric for metric in metrics if isinstance(metric, AskingMetric)]
        first: RGB | None = None
        with suppress(EditkitError):
            first = given.pictures.decoded(given.first) if asking and given.first else None
        return [each.name for each in asking if self._alone(each, partial(each.asks, item, first))]

    def _scored(self, metric: Metric, case: Case) -> dict[str, Any]:
        """A metric's scores in JSON's types; a figure that is no finite number is left out."""
        try:
            found = self._alone(metric, partial(metric.score, case))
        except EditkitError as error:
            return {"values": {}, "error": str(error)}
        values = {name: value for name, value in found.values.items() if math.isfinite(value)}
        return {"values": values} | ({"notes": dict(found.notes)} if found.notes else {})

    def _alone(self, metric: Metric, act: Callable[[], T]) -> T:
        """Let a metric act; one that no two threads may use has all of torch's threads for that."""
        import torch

        if metric.parallel:
            return act()
        with self._one_at_a_time:
            torch.set_num_threads(self._threads)
            try:
                return act()
            finally:
                torch.set_num_threads(1)

    def _case(self, item: Item, edit: Edit, given: _Given) -> Case:
        source, pictures = None, given.pictures
        if item.source is not None:
            source = pictures.decoded(item.source)
        elif item.turn > 1 and given.before is not None and given.before.picture:
            source = self._picture(given.before, f"result before {item.id}")
        return Case(
            item=item,
            edit=edit,
            result=self._picture(edit, f"result of {item.id}"),
            source=source,
            answer=None if item.answer is None else pictures.decoded(item.answer),
            first=None if given.first is None else pictures.decoded(given.first),
            mask_HW=None if source is None else item.mask_HW((source.shape[1], source.shape[0])),
        )

    def _picture(self, edit: Edit, what: str) -> RGB:
        return StoredPicture(value=Path(edit.picture), folder=self.folder.path, what=what).rgb()


class _Pictures:
    """A session's own pictures, decoded once for all methods. Metrics do not write to them."""

    def __init__(self) -> None:
        self._decoded: dict[int, RGB] = {}

    def decoded(self, stored: StoredPicture) -> RGB:
        """Decode a picture, or give it again."""
        if id(stored) not in self._decoded:
            self._decoded[id(stored)] = stored.rgb()
        return self._decoded[id(stored)]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """The pictures that a turn goes on from: the result before it, and the first one of its session."""

    pictures: _Pictures
    before: Edit | None
    first: StoredPicture | None
