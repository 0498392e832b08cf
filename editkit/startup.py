"""Start faster."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Switch the garbage collector off for a block of imports, which leave nothing to collect.

    It stays off where a program has switched it off before.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def spare_modules() -> None:
    """Leave all that was made so far out of later collections; for processes of our own only.

    In another program, its own objects would never be collected, such as models that it drops later.
    """
    gc.freeze()
