"""Stop all processes of a run when one of them fails, with its sentence."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import timedelta
from typing import Any

from editkit.errors import EditkitError, first_sentence
from editkit.train.distributed import processes
from editkit.train.stopping import RunStoppedError

FAILURE, NOTICED = "editkit/failure", "editkit/noticed"
"""Keys of the processes' common store."""
POLL, GRACE, TIMEOUT = 0.5, 1.0, 10.0
"""Seconds between looks at the store; until a process that waits for another is ended; and until a process
that failed stops waiting for the others to notice."""


class FollowingError(EditkitError):
    """An error of a process that stops together with another one, which says why."""


@contextmanager
def shared(told: Callable[[str], None]) -> Iterator[None]:
    """End all processes within the block as soon as one fails; nothing for one process.

    A process that waits for another inside a collective operation cannot be interrupted, so a thread watches
    the store of the launcher and ends the process.

    Args:
        told: called with the sentence before this process is ended for another one's failure.
    """
    if processes.count() == 1:
        yield
        return
    over = threading.Event()
    arguments = (_watch, _store(), over, told)
    watcher = threading.Thread(target=copy_context().run, args=arguments, daemon=True)
    watcher.start()
    try:
        yield
    except (FollowingError, RunStoppedError, KeyboardInterrupt):
        over.set()
        raise
    except BaseException as error:
        over.set()
        # An error of the connection is only the effect of another process's failure.
        own = isinstance(error, EditkitError)
        if not own and (sentence := _failure(_store(), patience=2 * POLL + GRACE)):
            raise EditkitError(sentence) from error
        _announce(_store(), str(error) if own else f"{type(error).__name__}: {first_sentence(error)}")
        raise
    finally:
        over.set()
        watcher.join(timeout=2 * POLL)


def _store() -> Any:
    """Connect to the store at which the launcher's processes meet; each thread needs its own connection."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # from C++, which has no stub

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=60))


def _announce(store: Any, sentence: str) -> None:
    """Tell the others, and wait until they know: the store may end with this process."""
    about = {"process": processes.rank(), "sentence": sentence}
    store.compare_set(FAILURE, "", json.dumps(about))
    deadline = time.monotonic() + TIMEOUT
    while store.add(NOTICED, 0) < processes.count() - 1 and time.monotonic() < deadline:
        time.sleep(POLL / 5)


def _failure(store: Any, patience: float = 0.0) -> str | None:
    """Return the sentence of another process's failure; None if there is none within some seconds."""
    deadline = time.monotonic() + patience
    while True:
        if store.check([FAILURE]):
            about = json.loads(store.get(FAILURE))
            if about["process"] == processes.rank():
                return None
            return f"Process {about['process'] + 1} of {processes.count()} stopped: {about['sentence']}"
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL / 5)


def _watch(store: Any, over: threading.Event, told: Callable[[str], None]) -> None:
    """End this process when another one fails."""
    sentence = None
    while sentence is None:
        if over.wait(POLL):
            return
        try:
            sentence = _failure(store)
        except RuntimeError:  # the store has ended with the process that held it
            sentence = "Another process ended without a message; see its own output."
    with suppress(RuntimeError):
        store.add(NOTICED, 1)
    if over.wait(GRACE):
        return
    told(sentence)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)
