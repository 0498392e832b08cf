"""Batches of a manifest over a Ray cluster, with Ray Data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.serving.jobs import job
from editkit.serving.jobs.plan import Batch
from editkit.serving.jobs.store import Store

LOCAL = "local"
"""Address of a cluster that is started on this machine for the job."""


class Worker:
    """Edits batches on one node; Ray makes one for each slot and starts it anew where a node is lost.

    Args:
        editor: gives the editor.
        batches: of the whole manifest.
        store: the job's folder, which all nodes must see under the same path.
        retry: make items again that failed.
    """

    def __init__(
        self, editor: Callable[[], Editor], batches: Sequence[Batch], store: Store, retry: bool
    ) -> None:
        self.editor, self.batches, self.store, self.retry = editor(), batches, store, retry

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, list[int]]:
        """Edit the batches whose numbers a block holds."""
        counts = []
        for place in rows["id"]:
            batch = self.batches[int(place)]
            # Another node may have been lost in the middle of it.
            left = job.left(batch, self.store, self.store.done(), self.retry)
            counts.append(len(job.edit(self.editor, batch, left, self.store)) if left else 0)
        return {"made": counts}


def run(
    editor: Callable[[], Editor],
    batches: Sequence[Batch],
    store: Store,
    *,
    address: str,
    workers: int,
    gpus: float = 0,
    retry: bool = False,
) -> int:
    """Make the pictures of all batches that are not there yet; return their number.

    Args:
        editor: gives the editor; it runs on the workers' nodes.
        batches: of the whole manifest.
        store: the job's folder, which all nodes must see under the same path.
        address: of the cluster, or `local` for one on this machine.
        workers: number of editors in the cluster.
        gpus: of each worker.
        retry: make items again that failed.

    Raises:
        EditkitError: where Ray is missing, the cluster cannot be reached, or another run has the folder.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise EditkitError("--ray needs a package: pip install 'editkit[ray]'.") from error
    if workers < 1:
        raise EditkitError(f"--workers {workers} is not allowed; give at least 1.")
    with store.locked(0, len(batches)):
        done = store.done()
        job.check_items([item for batch in batches for item in batch], done)
        wanted = [place for place, batch in enumerate(batches) if job.left(batch, store, done, retry)]
        if not wanted:
            return 0
        with _cluster(address):
            ray.data.DataContext.get_current().enable_progress_bars = False
            made = ray.data.from_items(
                [{"id": place} for place in wanted], override_num_blocks=len(wanted)
            ).map_batches(
                Worker,
                fn_constructor_args=(editor, batches, store.detached(), retry),
                batch_size=1,
                num_gpus=gpus or None,
                compute=ActorPoolStrategy(size=workers),
            )
            return sum(int(row["made"]) for row in made.iter_rows())


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Join a cluster, and leave it at the end; one that this process has joined already stays.

    Raises:
        EditkitError: where it cannot be reached, or what runs on it fails.
    """
    import ray

    begun = ray.is_initialized()
    try:
        if not begun:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        yield
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise EditkitError(
            f"The cluster at {address} did not finish ({type(error).__name__}); start the same command "
            "again, which goes on where it stopped."
        ) from error
    finally:
        if not begun:
            ray.shutdown()
