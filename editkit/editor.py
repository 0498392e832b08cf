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
    from collections.abc import Callable

    from editkit.backbone import Backbone
    from editkit.config import Options
    from editkit.inference.inputs import PreparedRequest
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
        lora: scales of adapters that every method uses in addition to its own, by file, folder or Hub id.

    Raises:
        EditkitError: for an unknown method or option, or a scale that is no number.
    """

    def __init__(
        self,
        backbone: Backbone,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        lora: Mapping[str, float] | None = None,
    ) -> None:
        self.backbone = backbone
        self._options = dict(options or {})
        self._built: dict[str, Options] = {}
        self._adapters = AdapterManager(backbone, lora)
        self._judges: dict[str, Judge] = {}
        for name in self._options:
            self.method(name)  # raises now for a wrong option

    def __repr__(self) -> str:
        device, dtype = self.backbone.device, self.backbone.dtype
        options = f", options={self._options}" if self._options else ""
        return f"Editor({self.backbone.name!r}, device={str(device)!r}, dtype={str(dtype)!r}{options})"

    def configured(
        self,
        options: Mapping[str, Mapping[str, Any]] | None,
        lora: Mapping[str, float] | None = None,
        private: bool = False,
    ) -> Editor:
        """Make another editor of this backbone with other options; it keeps the judges and adapters.

        Args:
            options: options by method name; this editor's where None.
            lora: adapters that every method uses besides this editor's, with their scales.
            private: whether recipes hide where adapters are; so do editors made from that one.

        Raises:
            EditkitError: for an unknown method or option, or a scale that is no number.
        """
        other = Editor(self.backbone, self._options if options is None else options)
        other._adapters, other._judges = self._adapters.copy(lora), self._judges
        other._adapters.private |= private
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
        speed: str = "exact",
        search: SeedSearch | Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> EditResult:
        """Edit one picture; the result is exactly as large as the picture.

        `EditRequest` explains the arguments. Each note of the result is raised as a warning too. `watch` is
        called after each step with a `progress.Progress`; an exception from it ends the edit.

        Raises:
            EditkitError: where the request cannot be carried out.
        """
        given = locals()
        result = self.run(EditRequest(**{name: given[name] for name in FIELDS}), watch=watch)
        notes.warn(result.notes)
        return result

    def run(
        self,
        request: EditRequest,
        *,
        watch: Watch | None = None,
        tell: Callable[[Sequence[str]], None] | None = None,
    ) -> EditResult:
        """Carry out one request; its notes are in the result and are not raised as warnings.

        `tell`, where given, gets the notes on the request's pictures before the edit; the result lacks them.

        Raises:
            EditkitError: where the request cannot be carried out.
        """
        from editkit.inference.decoding import notes_on_pictures
        from editkit.inference.inputs import prepare

        with notes.collected() as collected:
            prepared = prepare(request)
            if tell:
                tell(notes_on_pictures(self.backbone, prepared))
                prepared = replace(prepared, told=True)
            (result,) = self._run([prepared], watch)
        # A search plans its edit more than once.
        return replace(result, notes=tuple(dict.fromkeys((*collected, *result.notes))))

    def session(self, image: ImageInput, folder: str | Path | None = None) -> Session:
        """Start a session of edits in a row, kept in a folder; a new temporary one where None.

        Raises:
            EditkitError: where the picture cannot be read or the folder is not empty.
        """
        from editkit.sessions import session

        return session.start(self, image, folder)

    def load(self, request: EditRequest) -> None:
        """Load the weights and adapters of a request ahead of its edit.

        Raises:
            EditkitError: where they cannot be fetched or loaded.
        """
        record, options = self.method(request.method)
        self._adapters.activate(record, options, request)
        generates = request.image is None and bool(request.instruction)  # needs no role of the method's own
        self.backbone.load(self.role(record.name) if generates else record.role_under(options))

    def edit_many(
        self, requests: Sequence[EditRequest], batch_size: int = 32, *, watch: Watch | None = None
    ) -> list[EditResult]:
        """Edit many pictures in batches of similar requests; return the results in the order given.

        A request that fails gives a result without an image whose `error` says why; the others go on. `watch`
        is called as in `edit`, once for each step of a batch; an exception from it ends all edits.

        Raises:
            EditkitError: where `batch_size` is not positive.
        """
        if batch_size < 1:
            raise EditkitError(f"batch_size={batch_size} is not allowed; it must be at least 1.")
        from editkit.inference.batch_runs import run_requests

        return run_requests(requests, batch_size, self._prepare, lambda batch: self._run(batch, watch))

    def run_batch(self, batch: Sequence[PreparedRequest], *, watch: Watch | None = None) -> list[EditResult]:
        """Edit prepared requests of one group as one batch; return the results in the order given.

        A request that fails gives a result without an image, as in `edit_many`.
        """
        from editkit.inference.batch_runs import run_or_split

        return run_or_split(batch, lambda members: self._run(members, watch))

    def _run(self, batch: Sequence[PreparedRequest], watch: Watch | None = None) -> list[EditResult]:
        """Edit a batch of one group; a request with a seed search is a group of its own."""
        from editkit.inference import paces, pipeline, planned_batch, search_settings, seed_search
        from editkit.inference.memory import enough_memory

        request = batch[0].request
        record, options = self.method(request.method)
        pace = paces.choose(request.speed, self.backbone.base, record.name, self.role(record.name))
        with enough_memory():
            adapted = self._adapters.activate(record, options, request)
        made = planned_batch.Pipeline(self.backbone, record, options, pace, adapted)
        if request.search is None:
            results = pipeline.run(made, batch, watch)
        else:
            search = search_settings.build(request.search)
            results = [seed_search.run(made, batch[0], search, self._judges, watch)]
        additional = self._adapters.recipe(record, options)
        return [replace(each, recipe={**each.recipe, **additional}) for each in results]

    def _prepare(self, request: EditRequest) -> PreparedRequest:
        from editkit.inference.inputs import prepare

        self.method(request.method)  # raises for an unknown method or option
        return prepare(request)

    def load_adapter(self, path: str | Path, method: str = "kontext", name: str | None = None) -> str:
        """Load an adapter and let a method use it from now on; returns its name, the file's where None.

        `path` may also be a Hub id or hf://OWNER/NAME/FILE.

        Raises:
            EditkitError: where the file is missing, is no safetensors LoRA, or does not fit.
        """
        return self._adapters.load(*self.method(method), str(path), name)

    def use_adapters(
        self, names: Sequence[str], scales: Sequence[float] | None = None, method: str = "kontext"
    ) -> None:
        """Choose the adapters that a method uses from now on instead of its default; none gives the base.

        Raises:
            EditkitError: for an adapter that was not loaded, or another number of scales than of names.
        """
        self._adapters.use(*self.method(method), names, scales)

    def role(self, name: str) -> str:
        """Return the role that a method runs on, `text` where this backbone has no other.

        Raises:
            EditkitError: for an unknown method.
        """
        return self._adapters.role(*self.method(name))

    def method(self, name: str) -> tuple[Method[Options], Options]:
        """Return a method's record and its options on this editor.

        Raises:
            EditkitError: for an unknown method or option.
        """
        record = registry.method(name)
        if name not in self._built:
            self._built[name] = config.build(record.config, self._options.get(name, {}))
        return record, self._built[name]
