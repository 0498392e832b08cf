"""Keep libraries off stderr: their remarks to programmers, and bars while weights load."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

LIBRARIES = ("diffusers", "transformers")


def silence_remarks() -> None:
    """Raise the libraries' log levels to errors, before they are imported, which is when they look.

    DIFFUSERS_VERBOSITY and TRANSFORMERS_VERBOSITY count where they are set, as does a level of bitsandbytes.
    """
    for library in LIBRARIES:
        os.environ.setdefault(f"{library.upper()}_VERBOSITY", "error")
    # diffusers imports it where it is installed, and it then speaks of kernels that it would like.
    logger = logging.getLogger("bitsandbytes")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)


@contextmanager
def no_bars() -> Iterator[None]:
    """Load weights without a bar; downloads, which take longer, keep theirs."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    imported = [import_module(f"{name}.utils.logging") for name in LIBRARIES if name in sys.modules]
    shown = [library for library in imported if library.is_progress_bar_enabled()]
    restore_downloads = disable_progress_bars if are_progress_bars_disabled() else enable_progress_bars
    for library in shown:
        library.disable_progress_bar()
    restore_downloads()  # which transformers switches along with its own
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        restore_downloads()
