"""Serve the page until it is stopped."""

from __future__ import annotations

import hmac
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.serving.address import check_address
from editkit.startup import no_garbage_collection, spare_modules

MEGABYTES = 40
"""Size of the largest file that a visitor may upload."""
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?<!\.safetensors)")
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def serve(
    load: Callable[[], Editor],
    *,
    host: str,
    port: int,
    share: bool,
    password: str | None,
    pixels: int,
    output: Path,
    paths: bool = False,
    runs: tuple[Path, ...] = (),
    personal: bool = False,
    adapters: Sequence[str] = (),
) -> None:
    """Serve the page of the editor that `load` gives until it is told to stop.

    Args:
        load: gives the editor.
        host: address to listen at.
        port: port to listen at.
        share: whether Gradio's servers open a public link to it.
        password: what visitors are asked for; None asks for nothing.
        pixels: largest number of pixels of a picture.
        paths: whether visitors may train on pairs at any path of this machine.
        runs: folders whose training runs the page shows.
        output: folder of the visitors' results and sessions.
        personal: whether all browsers see the same results.
        adapters: adapters that visitors may choose: files, folders of them, or Hub ids.

    Raises:
        EditkitError: where gradio is missing, the address is taken, or the backbone or device is unknown.
    """
    check_address(host, port)
    trusted = offered(adapters)
    with _until_stopped(), ExitStack() as opened:
        with no_garbage_collection():
            app = page_app()
            # Everybody may edit; training, which takes hours, needs a local page or the password.
            trains = password is not None or (host in LOCAL_HOSTS and not share)
            options = app.PageOptions(
                pixels=pixels,
                trains=trains,
                paths=paths,
                runs=runs,
                output=output,
                personal=personal,
                adapters=trusted,
            )
            page, runner = opened.enter_context(app.opened(load(), options))
            address = _launch(page, app.LOOKS, host, port, share, password)
            spare_modules()
        runner.warm()
        print(f"editkit demo is ready at {address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


def _launch(
    page: Any, looks: Mapping[str, Any], host: str, port: int, share: bool, password: str | None
) -> str:
    """Let visitors reach the page; return its address, the public one where it is shared."""
    _, address, public = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=authenticator(password),
        auth_message="Any user name, and the page's password." if password else None,
        max_file_size=MEGABYTES * 2**20,
        **looks,
    )
    return str(public or address)


@contextmanager
def _until_stopped() -> Iterator[None]:
    """Give Gradio a folder, and remove it at the end; Ctrl-C and SIGTERM end the block."""
    folder = tempfile.mkdtemp(prefix="editkit-demo-")
    # Gradio reads these at import: the only folder that it serves files from, and no analytics.
    os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(folder, ignore_errors=True)


def offered(sources: Sequence[str]) -> dict[str, str]:
    """Return adapters by the name that the page shows: each file of a folder, a file, or a Hub id.

    Raises:
        EditkitError: for a path that does not exist, a folder without adapters, or two of one name.
    """
    found: dict[str, str] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files = path.rglob("*.safetensors")
            listed = {file.relative_to(path).with_suffix("").as_posix(): str(file) for file in files}
            if not listed:
                raise EditkitError(f"--adapter {source} holds no .safetensors file; give a folder that does.")
        elif path.is_file():
            listed = {path.stem: str(path)}
        elif source.startswith("hf://") or (source.count("/") == 1 and HUB_ID.fullmatch(source)):
            listed = {source: source}
        else:
            raise EditkitError(f"--adapter {source} is no file or folder that exists, and no Hub id.")
        for name, file in sorted(listed.items()):
            if name in found:
                raise EditkitError(f"--adapter {source} brings a second adapter {name}; rename one of them.")
            found[name] = file
    return found


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
