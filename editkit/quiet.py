"""Keep libraries' log messages and loading bars off stderr."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

LIBRARIES = ("diffusers", "transformers")


def silence_remarks() -> None:
    """Raise the libraries' log levels to errors; call it before they are imported.

    DIFFUSERS_VERBOSITY, TRANSFORMERS_VERBOSITY and a level of bitsandbytes' logger win where they are set.
    """
    for library in LIBRARIES:
        os.environ.setdefault(f"{library.upper()}_VERBOSITY", "error")
    # diffusers imports bitsandbytes where it is installed; it then logs which kernels it misses.
    logger = logging.getLogger("bitsandbytes")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)


def no_dataset_bars() -> None:
    """Hide the bars of datasets for the rest of the process, also where it is imported later."""
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    if "datasets" in sys.modules:
        import_module("datasets").disable_progress_bars()


@contextmanager
def no_bars() -> Iterator[None]:
    """Hide the bars of loading weights; downloads keep theirs."""
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
    restore_downloads()  # transformers switches the bars of downloads along with its own
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        restore_downloads()
