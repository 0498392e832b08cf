"""Run many requests in batches of similar ones; a request that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from editkit.errors import EditkitError
from editkit.request import EditRequest
from editkit.types import EditResult

if TYPE_CHECKING:
    from editkit.inference.inputs import PreparedRequest

RunBatch: TypeAlias = "Callable[[Sequence[PreparedRequest]], list[EditResult]]"


def run_requests(
    requests: Sequence[EditRequest],
    batch_size: int,
    prepare: Callable[[EditRequest], PreparedRequest],
    run_batch: RunBatch,
) -> list[EditResult]:
    """Prepare requests, group similar ones, and run each group in batches; return results in the order given.

    Args:
        requests: of any methods and sizes.
        batch_size: largest number of requests in a batch, at least 1.
        prepare: reads a request's pictures and checks it; raises `EditkitError`.
        run_batch: edits prepared requests of one group; raises `EditkitError`.
    """
    results: dict[int, EditResult] = {}
    groups: dict[Any, list[tuple[int, PreparedRequest]]] = {}
    for place, request in enumerate(requests):
        prepared = _prepared(request, prepare)
        if isinstance(prepared, EditResult):
            results[place] = prepared
        else:
            groups.setdefault(prepared.group, []).append((place, prepared))
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            places, batch = zip(*group[start : start + batch_size], strict=True)
            results.update(zip(places, run_or_split(batch, run_batch), strict=True))
    return [results[place] for place in range(len(requests))]


def run_or_split(batch: Sequence[PreparedRequest], run_batch: RunBatch) -> list[EditResult]:
    """Run a batch; where it fails, run its members one by one.

    A member that fails alone gives a result without an image whose `error` says why.
    """
    try:
        return run_batch(batch)
    except EditkitError as error:
        if len(batch) == 1:
            return [_failed(batch[0].request, error)]
    return [result for member in batch for result in run_or_split([member], run_batch)]


def _prepared(
    request: EditRequest, prepare: Callable[[EditRequest], PreparedRequest]
) -> PreparedRequest | EditResult:
    """Prepare a request, or return a result that says why it cannot run."""
    try:
        return prepare(request)
    except EditkitError as error:
        return _failed(request, error)


def _failed(request: EditRequest, error: EditkitError) -> EditResult:
    return EditResult(image=None, method=request.method, seed=request.seed, error=str(error))
