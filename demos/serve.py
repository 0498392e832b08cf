"""Starts the page and keeps it up."""

from __future__ import annotations

import hmac
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from types import FrameType

from editkit import api
from editkit.errors import EditkitError

MEGABYTES = 40
"""Largest file that a visitor may upload."""


def serve(
    backbone: str,
    device: str | None,
    *,
    host: str,
    port: int,
    share: bool,
    password: str | None,
    pixels: int,
) -> None:
    """Serve the page until it is told to stop.

    Raises:
        EditkitError: where gradio is missing, the address is taken, or the backbone or device is unknown.
    """
    check_address(host, port)
    editor = api.load(backbone, device)
    folder = tempfile.mkdtemp(prefix="editkit-demo-")
    # Read when gradio is imported: the only folder that files are served from, and no word to anybody.
    os.environ |= {
        "GRADIO_TEMP_DIR": folder,
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    try:
        from demos import app, looks
        from demos.device import WAITING, Device
        from demos.training import Training
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise EditkitError("The page needs gradio; run: pip install 'editkit[demo]'") from error
    signal.signal(signal.SIGTERM, _leave)
    runner, run = Device(editor), Training()
    # Strangers may edit; to keep the machine busy for hours they need the password.
    known = password is not None or (host in ("127.0.0.1", "localhost", "::1") and not share)
    page = app.build(runner, run, app.PageOptions(pixels=pixels, trains=known))
    try:
        _, address, shared = page.queue(max_size=WAITING).launch(
            server_name=host,
            server_port=port,
            share=share,
            auth=(lambda _, given: hmac.compare_digest(given.encode(), password.encode()))
            if password
            else None,
            auth_message="Any user name, and the page's password." if password else None,
            max_file_size=MEGABYTES * 2**20,
            theme=looks.theme(),
            head=looks.style(),
            footer_links=["api"],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            quiet=True,
            prevent_thread_lock=True,
        )
        runner.warm()
        print(f"editkit demo is ready at {shared or address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    finally:
        run.end()
        page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)


def check_address(host: str, port: int) -> None:
    """Say in time that nobody can be served there.

    Raises:
        EditkitError: where the port is taken or the host is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except (OSError, OverflowError) as error:
        raise EditkitError(
            f"{host}:{port} cannot be used ({error}); give another --host or --port."
        ) from error


def _leave(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
