"""Carry out the batches of a manifest, or a share of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editkit import atomic_files, notes
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.inference import inputs
from editkit.inference.inputs import PreparedRequest
from editkit.serving.jobs.manifest import Item
from editkit.serving.jobs.plan import Batch
from editkit.serving.jobs.store import Made, Store
from editkit.types import EditResult

if TYPE_CHECKING:
    from editkit.inference.progress import Watch


@dataclass(frozen=True, kw_only=True)
class Share:
    """A part of all batches that one process does.

    Attributes:
        place: number of the process, from 0.
        of: number of processes.
    """

    place: int = 0
    of: int = 1

    def range(self, count: int) -> tuple[int, int]:
        """Return the first batch and the one behind the last."""
        return self.place * count // self.of, (self.place + 1) * count // self.of


def check_items(items: Sequence[Item], done: Mapping[str, Made]) -> None:
    """Check that the manifest still asks for what was made; items that failed may be mended or left out.

    Raises:
        EditkitError: for an item that has changed since, or is gone.
    """
    known = {item.name: item for item in items}
    for name, made in done.items():
        if made.error is not None:
            continue
        if name not in known:
            raise EditkitError(
                f"The item {name} has a result and is no longer in the manifest; give another --out."
            )
        if known[name].digest() != made.digest:
            raise EditkitError(f"The item {name} has changed since it was made; give another --out.")


def run(
    editor: Callable[[], Editor],
    batches: Sequence[Batch],
    store: Store,
    share: Share,
    *,
    retry: bool = False,
    watch: Watch | None = None,
    tell: Callable[[Made], None] = lambda _: None,
) -> None:
    """Make the pictures of a share that are not there yet.

    Args:
        editor: gives the editor; it is not asked where nothing is left to do.
        batches: of the whole manifest.
        store: the job's folder.
        share: which of them.
        retry: make items again that failed.
        watch: called after each step.
        tell: called with each item that is done, those of earlier runs too.

    Raises:
        EditkitError: where another run has the share, or nothing can be written.
    """
    first, last = share.range(len(batches))
    if first == last:
        return
    with store.locked(first, last):
        if share.of == 1:
            atomic_files.clean(store.folder)
        done = store.done()
        check_items([item for batch in batches for item in batch], done)
        for batch in batches[first:last]:
            missing = left(batch, store, done, retry)
            for item in batch:
                if item not in missing:
                    tell(done[item.name])
            if missing:
                for made in edit(editor(), batch, missing, store, watch):
                    tell(made)


def left(batch: Batch, store: Store, done: dict[str, Made], retry: bool) -> list[Item]:
    """Return the items of a batch that are still to be made, and add those found after a kill to `done`."""
    missing = []
    for item in batch:
        made = done.get(item.name) or store.found(item)
        if made is None or (retry and made.error is not None):
            missing.append(item)
        else:
            done[item.name] = made
    return missing


def edit(
    editor: Editor, batch: Batch, wanted: Sequence[Item], store: Store, watch: Watch | None = None
) -> list[Made]:
    """Edit a batch and keep the pictures of some of its items.

    All of it runs also where a kill left some, since a picture's last bits depend on its batch.
    """
    kept: list[Made] = []

    def keep(item: Item, result: EditResult, told: Sequence[str] = ()) -> None:
        if item in wanted:
            kept.append(store.keep(item, result, tuple(dict.fromkeys((*told, *result.notes)))))

    groups: dict[object, list[tuple[Item, PreparedRequest]]] = {}
    for item in batch:
        prepared = _prepared(editor, item)
        if isinstance(prepared, EditResult):
            keep(item, prepared)
        else:
            groups.setdefault(prepared.group, []).append((item, prepared))
    for members in groups.values():
        if any(item in wanted for item, _ in members):
            results, told = _edited(editor, [prepared for _, prepared in members], watch)
            for (item, _), result in zip(members, results, strict=True):
                keep(item, result, told)
    return kept


def _prepared(editor: Editor, item: Item) -> PreparedRequest | EditResult:
    """Prepare an item, or return a result that says why it cannot run."""
    try:
        request = item.request()
        editor.method(request.method)
        return inputs.prepare(request)
    except EditkitError as error:
        return _failed(error)


def _edited(
    editor: Editor, batch: Sequence[PreparedRequest], watch: Watch | None
) -> tuple[list[EditResult], list[str]]:
    """Edit one group; return the results and the notes on all of them."""
    with notes.collected() as told:
        try:
            return editor.run_batch(batch, watch=watch), told
        except EditkitError as error:
            return [_failed(error)] * len(batch), told


def _failed(error: EditkitError) -> EditResult:
    return EditResult(image=None, method="", seed=0, error=str(error))


def finish(items: Sequence[Item], store: Store) -> list[Made] | None:
    """Write the table once every item is done; return them, or None where another process has some left."""
    done = store.done()
    if any(item.name not in done for item in items):
        return None
    store.write_table(items, done)
    return [done[item.name] for item in items]
