"""Serve the arena's page until it is stopped."""

from __future__ import annotations

import hmac
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.arena import Contest, Votes
from editkit.serving.address import check_address


def serve(
    contest: Contest,
    votes: Votes,
    qualities: Sequence[str],
    *,
    host: str,
    port: int,
    share: bool,
    password: str | None,
) -> None:
    """Serve the page of a contest until it is told to stop.

    Args:
        contest: what is voted on.
        votes: takes the votes.
        qualities: what is asked of each pair.
        host: address to listen at.
        port: port to listen at.
        share: whether Gradio's servers open a public link to it.
        password: what voters are asked for; None asks for nothing.

    Raises:
        EditkitError: where gradio is missing or the address is taken.
    """
    check_address(host, port)
    folder = tempfile.mkdtemp(prefix="editkit-arena-")
    # Gradio reads these at import: the only folder that it serves files from, and no analytics.
    os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        page = _page().build(contest, votes, qualities, Path(folder))
        _, address, shared = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            auth=None
            if password is None
            else (lambda _, given: hmac.compare_digest(given.encode(), password.encode())),
            auth_message="Any user name, and the page's password." if password else None,
            **_page().LOOKS,
        )
        print(f"editkit arena is ready at {shared or address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(folder, ignore_errors=True)


def _page() -> Any:
    try:
        return importlib.import_module("demos.arena_page")
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise EditkitError("The arena needs gradio; run: pip install 'editkit[demo]'") from error


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
