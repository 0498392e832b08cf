"""A loaded backbone and every method that fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit import config, notes, registry
from editkit.adapters.manager import AdapterManager
from editkit.errors import EditkitError
from editkit.request import FIELDS, EditRequest
from editkit.types import EditResult

if TYPE_CHECKING:
    from editkit.backbone import Backbone
    from editkit.config import Options
    from editkit.inference.inputs import Prepared
    from editkit.inference.progress import Watch
    from editkit.inference.search_settings import SeedSearch
    from editkit.judges import Judge
    from editkit.method import Method
    from editkit.sessions.session import Session
    from editkit.types import ImageInput


class Editor:
    """A loaded backbone and every method that fits it.

    Args:
        backbone: what `load` gives.
        options: options by method name; the method's defaults where absent.

    Raises:
        EditkitError: for an unknown method or option.
    """

    def __init__(self, backbone: Backbone, options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.backbone = backbone
        self._options = dict(options or {})
        self._built: dict[str, Options] = {}
        self._adapters = AdapterManager(backbone)
        self._judges: dict[str, Judge] = {}
        for name in self._options:
            self.method(name)  # so that what is wrong with an option is said now

    def __repr__(self) -> str:
        device, dtype = self.backbone.device, self.backbone.dtype
        options = f", options={self._options}" if self._options else ""
        return f"Editor({self.backbone.name!r}, device={str(device)!r}, dtype={str(dtype)!r}{options})"

    def configured(self, options: Mapping[str, Mapping[str, Any]]) -> Editor:
        """Another editor of this backbone with other options by method name, which keeps judges and adapters.

        Raises:
            EditkitError: for an unknown method or option.
        """
        other = Editor(self.backbone, options)
        other._adapters, other._judges = self._adapters.copy(), self._judges
        return other

    def edit(
        self,
        image: ImageInput | None,
        instruction: str,
        method: str = "kontext",
        *,
        task: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        mask: ImageInput | None = None,
        references: Sequence[ImageInput] = (),
        size: tuple[int, int] | None = None,
        preserve: bool | None = None,
        align: bool = False,
        negative: str | None = None,
        search: SeedSearch | Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> EditResult:
        """Edit one picture; the result is exactly as large as it. See `EditRequest` for the arguments.

        Each note of the result is a warning too. `watch` is called after each step with a
        `progress.Progress`; what it raises ends the edit there.

        Raises:
            EditkitError: in one sentence, where the request cannot be carried out.
        """
        given = locals()
        result = self.run(EditRequest(**{name: given[name] for name in FIELDS}), watch=watch)
        notes.warn(result.notes)
        return result

    def run(self, request: EditRequest, *, watch: Watch | None = None) -> EditResult:
        """Carry out one request; its notes are in the result alone.

        Raises:
            EditkitError: as `edit`.
        """
        from editkit.inference.inputs import prepare

        with notes.collected() as told:
            (result,) = self._run([prepare(request)], watch)
        return replace(result, notes=(*told, *result.notes))

    def session(self, image: ImageInput, folder: str | Path | None = None) -> Session:
        """Start a session: edit after edit of a picture, kept in a folder, a fresh temporary one where None.

        Raises:
            EditkitError: where the picture cannot be read or the folder holds something.
        """
        from editkit.sessions import session

        return session.start(self, image, folder)

    def load(self, request: EditRequest) -> None:
        """Load what a request needs, adapters included, before it is needed.

        Raises:
            EditkitError: where it cannot be had.
        """
        record, options = self.method(request.method)
        self._adapters.wear(record, options, request)
        self.backbone.load(record.role_under(options))

    def edit_many(
        self, requests: Sequence[EditRequest], batch_size: int = 32, *, watch: Watch | None = None
    ) -> list[EditResult]:
        """Edit many pictures in batches of requests that fit together, in the order given.

        A request that fails gives a result without an image whose `error` says why; the others go on. `watch`
        is called as for `edit`, once a step of each batch; what it raises ends them all.

        Raises:
            EditkitError: where `batch_size` is not positive.
        """
        if batch_size < 1:
            raise EditkitError(f"batch_size={batch_size} is not allowed; it must be at least 1.")
        results: dict[int, EditResult] = {}
        groups: dict[Any, list[tuple[int, Prepared]]] = {}
        for place, request in enumerate(requests):
            prepared = self._prepare(request)
            if isinstance(prepared, EditResult):
                results[place] = prepared
            else:
                groups.setdefault(prepared.group, []).append((place, prepared))
        for group in groups.values():
            for start in range(0, len(group), batch_size):
                results |= self._batch(group[start : start + batch_size], watch)
        return [results[place] for place in range(len(requests))]

    def _run(self, batch: Sequence[Prepared], watch: Watch | None = None) -> list[EditResult]:
        """Results of one group's requests; one whose seed is searched for is a group of its own."""
        from editkit.inference import pipeline, search_settings, seed_search
        from editkit.inference.memory import enough_memory

        request = batch[0].request
        record, options = self.method(request.method)
        with enough_memory():
            self._adapters.wear(record, options, request)
        made = pipeline.Pipeline(self.backbone, record, options)
        if request.search is None:
            return pipeline.run(made, batch, watch)
        search = search_settings.build(request.search)
        return [seed_search.run(made, batch[0], search, self._judges, watch)]

    def _prepare(self, request: EditRequest) -> Prepared | EditResult:
        """A request that is ready to run, or the result that says why it cannot."""
        from editkit.inference.inputs import prepare

        try:
            self.method(request.method)
            return prepare(request)
        except EditkitError as error:
            return _failed(request, error)

    def _batch(
        self, members: Sequence[tuple[int, Prepared]], watch: Watch | None = None
    ) -> dict[int, EditResult]:
        """Results by place; a batch that fails is tried again one by one, so that one item fails alone."""
        try:
            done = self._run([prepared for _, prepared in members], watch)
            return {place: result for (place, _), result in zip(members, done, strict=True)}
        except EditkitError as error:
            if len(members) == 1:
                return {members[0][0]: _failed(members[0][1].request, error)}
        alone = [self._batch([member], watch) for member in members]
        return {place: result for results in alone for place, result in results.items()}

    def load_adapter(self, path: str | Path, method: str = "kontext", name: str | None = None) -> str:
        """Load an adapter that a method wears from now on; returns its name (the file's if None).

        Raises:
            EditkitError: where it is missing, is no safetensors LoRA, or does not fit.
        """
        return self._adapters.load(*self.method(method), Path(path), name)

    def use_adapters(
        self, names: Sequence[str], scales: Sequence[float] | None = None, method: str = "kontext"
    ) -> None:
        """The adapters that a method wears from now on, instead of its own; none at all gives the base.

        Raises:
            EditkitError: for one that was not loaded, or another number of scales.
        """
        self._adapters.use(*self.method(method), names, scales)

    def method(self, name: str) -> tuple[Method[Options], Options]:
        """A method's record and its options on this editor.

        Raises:
            EditkitError: for an unknown method or option.
        """
        record = registry.method(name)
        if name not in self._built:
            self._built[name] = config.build(record.config, self._options.get(name, {}))
        return record, self._built[name]


def _failed(request: EditRequest, error: EditkitError) -> EditResult:
    return EditResult(image=None, method=request.method, seed=request.seed, error=str(error))
