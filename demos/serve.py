"""Serve the page until it is stopped."""

from __future__ import annotations

import hmac
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.serving.address import check_address

MEGABYTES = 40
"""Size of the largest file that a visitor may upload."""
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def serve(
    load: Callable[[], Editor],
    *,
    host: str,
    port: int,
    share: bool,
    password: str | None,
    pixels: int,
) -> None:
    """Serve the page of the editor that `load` gives until it is told to stop.

    Raises:
        EditkitError: where gradio is missing, the address is taken, or the backbone or device is unknown.
    """
    check_address(host, port)
    folder = tempfile.mkdtemp(prefix="editkit-demo-")
    # Gradio reads these at import: the only folder that it serves files from, and no analytics.
    os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        app = page_app()
        # Everybody may edit; training, which takes hours, needs a local page or the password.
        trains = password is not None or (host in LOCAL_HOSTS and not share)
        options = app.PageOptions(pixels=pixels, trains=trains)
        with app.opened(load(), options) as (page, runner):
            _, address, shared = page.launch(
                server_name=host,
                server_port=port,
                share=share,
                auth=authenticator(password),
                auth_message="Any user name, and the page's password." if password else None,
                max_file_size=MEGABYTES * 2**20,
                **app.LOOKS,
            )
            runner.warm()
            print(f"editkit demo is ready at {shared or address} (Ctrl-C ends it)", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(folder, ignore_errors=True)


def page_app() -> Any:
    """Import the page.

    Raises:
        EditkitError: where gradio is missing.
    """
    try:
        from demos import app
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise EditkitError("The page needs gradio; run: pip install 'editkit[demo]'") from error
    return app


def authenticator(password: str | None) -> Any:
    """Make a check that admits any name with the password; None admits everybody."""
    if password is None:
        return None
    return lambda _, given: hmac.compare_digest(given.encode(), password.encode())


def _leave(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
