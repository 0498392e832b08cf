"""The page within the server's app: one queue for each device, and one set of weights."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from demos.serve import LOCAL_HOSTS, MEGABYTES, authenticator, page_app
from editkit.serving.app import Server


def mounter(host: str, password: str | None, pixels: int) -> Callable[[Server], AbstractContextManager[None]]:
    """Return a function that mounts the page at / of a server's app, for as long as its block lasts.

    Args:
        host: address that the server listens at; training needs a local one, or the password.
        password: asked of visitors; None lets everybody in.
        pixels: largest number of pixels of a picture.

    Raises:
        EditkitError: where gradio is missing.
    """
    folder = tempfile.mkdtemp(prefix="editkit-serve-")
    # Gradio reads these at import: the only folder that it serves files from, and no analytics.
    os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    app = page_app()

    @contextmanager
    def mount(server: Server) -> Iterator[None]:
        import gradio as gr

        options = app.PageOptions(pixels=pixels, trains=password is not None or host in LOCAL_HOSTS)
        # The page edits on the first device.
        lane, worker = server.queue.lanes[0], server.queue.executor(0)
        known = inspect.signature(gr.mount_gradio_app).parameters
        looks = {name: value for name, value in app.LOOKS.items() if name in known}
        try:
            with app.opened(lane.editor, options, worker) as (page, _):
                gr.mount_gradio_app(
                    server.app,
                    page,
                    path="/",
                    auth=authenticator(password),
                    auth_message="Any user name, and the page's password." if password else None,
                    max_file_size=MEGABYTES * 2**20,
                    **looks,
                )
                yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return mount
