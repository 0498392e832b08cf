"""Make a picture for every item: each method edits every chunk, once."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import Benchmark
from editkit.evaluation.chunks import Session, Share, Watch, chunks
from editkit.evaluation.forward_cost import ForwardCosts
from editkit.evaluation.records import Edit, Item
from editkit.evaluation.run_folder import RunFolder, news
from editkit.evaluation.settings import RunConfig
from editkit.imaging import images
from editkit.inference.editor import PictureEditor
from editkit.types import EditRequest, EditResult


@dataclass(kw_only=True)
class Editing:
    """The editing of a benchmark by one process.

    Attributes:
        editor: with the run's backbone; each variant gets one of its own from it.
        benchmark: gives the items.
        config: the run's settings.
        folder: takes pictures and log.
        share: this process's part.
        costs: operations of a forward pass; None where they cannot be counted.
        logged: what an earlier call logged, by method and item; failures are tried again.
    """

    editor: PictureEditor
    benchmark: Benchmark
    config: RunConfig
    folder: RunFolder
    share: Share
    costs: ForwardCosts | None = None
    logged: Mapping[tuple[str, str], Edit] = field(default_factory=dict)
    _editors: dict[str, PictureEditor] = field(default_factory=dict)

    def run(self, watch: Watch) -> None:
        """Edit what has no picture yet, method by method.

        A chunk is logged as a whole after its pictures are written: a killed run repeats at most one, and
        gets the same pictures, since a chunk's pictures depend on nothing outside it. Of a chunk that is
        logged, only what failed is edited again.

        Raises:
            EditkitError: where a method or option is unknown, an adapter is missing, or the folder cannot be
                written.
        """
        for method in self.config.methods:
            variant = self.config.variant(method)
            self._editors[method] = self.editor.configured({variant.method: variant.options})
            self._editors[method].method(variant.method)
        loaded = False
        for method in self.config.methods:
            for chunk in chunks(self.benchmark.items(self.config.limit), self.config.batch_size, self.share):
                names = [item.id for session in chunk for _, item in session]
                if wanted := self._wanted(method, names):
                    if not loaded:  # what is missing for the last method ends the run now, not after hours
                        self._load()
                        loaded = True
                    self.folder.log_edits(news(self._chunk(method, chunk, wanted), self.logged))
                watch(len(names))

    def _load(self) -> None:
        for method, editor in self._editors.items():
            name = self.config.variant(method).method
            editor.load(EditRequest(image=None, instruction="", method=name))

    def _wanted(self, method: str, names: Sequence[str]) -> set[str]:
        """The items of a chunk that are edited: all if any lacks its line or picture, else the failed."""
        logged = {name: self._found(method, name) for name in names}
        if None in logged.values():
            return set(names)
        return {name for name, edit in logged.items() if edit is not None and edit.error is not None}

    def _found(self, method: str, name: str) -> Edit | None:
        """Return what an earlier call logged of an item; None where its picture is gone since."""
        edit = self.logged.get((method, name))
        if edit is None or edit.error is not None or (self.folder.path / edit.picture).is_file():
            return edit
        return None

    def _chunk(self, method: str, chunk: Sequence[Session], wanted: set[str]) -> Iterator[Edit]:
        """Edit the first turns of all sessions, then the second ones on their results, and so on."""
        current: dict[int, Image.Image] = {}  # what a next turn goes on from, by the place of the turn before
        for turn in range(max(map(len, chunk))):
            asked: list[tuple[int, Item, EditRequest]] = []
            for place, item in (session[turn] for session in chunk if turn < len(session)):
                before = current.pop(place - 1, None)
                if item.id not in wanted:
                    if not item.last:
                        current[place] = self._earlier(method, item)
                    continue
                made = self._request(method, item, before if item.turn > 1 else None)
                if isinstance(made, EditRequest):
                    asked.append((place, item, made))
                else:
                    yield Edit(method=method, item=item.id, place=place, error=made)
            for (place, item, request), result in zip(asked, self._results(method, asked), strict=True):
                edit = self._kept(method, place, item, request, result)
                if result.image is not None and not item.last:
                    current[place] = result.image
                yield edit

    def _earlier(self, method: str, item: Item) -> Image.Image:
        """The picture that an earlier call made."""
        with Image.open(self.folder.path / self.logged[method, item.id].picture) as file:
            return file.convert("RGB")

    def _request(self, method: str, item: Item, before: Image.Image | None) -> EditRequest | str:
        """The request of an item, or why there can be none."""
        try:
            source = item.source.picture() if item.source is not None else before
            if source is None and item.turn > 1:
                return "The turn before has no picture to go on from."
            variant = self.config.variant(method)
            inside_HW = item.mask_HW(source.size) if self.config.masks and source is not None else None
            return EditRequest(
                image=source,
                instruction=item.instruction,
                method=variant.method,
                mask=None if inside_HW is None else Image.fromarray(inside_HW).convert("L"),
                references=[reference.picture() for reference in item.references],
                seed=item.seed(self.config.seed),
                steps=self.config.steps,
                **(variant.request or {}),
            )
        except EditkitError as error:
            return str(error)

    def _results(self, method: str, asked: Sequence[tuple[int, Item, EditRequest]]) -> list[EditResult]:
        if not asked:
            return []
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self._editors[method].edit_many([request for *_, request in asked], batch_size=len(asked))

    def _kept(self, method: str, place: int, item: Item, request: EditRequest, result: EditResult) -> Edit:
        if result.image is None:
            return Edit(method=method, item=item.id, place=place, error=str(result.error))
        path = self.folder.picture(method, item)
        images.save(result.image, self.folder.path / path, result.recipe)
        return Edit(
            method=method, item=item.id, place=place, picture=path, cost=self._cost(method, request, result)
        )

    def _cost(self, method: str, request: EditRequest, result: EditResult) -> Mapping[str, float]:
        steps, image = int(result.recipe["steps"]), request.image
        found = {
            "seconds": round(sum(result.timings.values()), 4),
            "steps": steps,
            "tokens": int(result.recipe["tokens"]),
            "peak_gb": round(peak_bytes() / 1e9, 3),
        }
        if self.costs is not None and isinstance(image, Image.Image):
            forward = self.costs.forward(self.config.variant(method), image.size, len(request.references))
            if forward is not None:
                found["tflops"] = round(forward.flops * steps / 1e12, 6)
        return found


def peak_bytes() -> float:
    """The largest memory in use: of the last batch on a GPU, of the process so far on a CPU."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
