"""Start faster."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Switch the garbage collector off for a block of imports, and spare it what they made.

    Modules stay until the end, so that looking for garbage among them only takes time. The collector stays
    off where a program has switched it off before.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
