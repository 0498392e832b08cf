"""`editkit serve`."""

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli import options
from editkit.cli.options import Backbone, Dtype, Load, Lora, LowMemory
from editkit.errors import EditkitError

LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    backbone: Backbone = "tiny",
    device: Annotated[
        str | None,
        typer.Option(
            envvar="EDITKIT_DEVICE", help="Devices with commas between, a worker each: cuda:0,cuda:1."
        ),
    ] = None,
    dtype: Dtype = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    method: Annotated[
        str | None, typer.Option("-m", "--method", help="Methods to offer, with commas between.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="EDITKIT_API_KEY", help="Ask programs for it.", show_envvar=True),
    ] = None,
    adapters: Annotated[
        Path | None, typer.Option(help="Folder of the .safetensors files that requests may name.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Largest number of edits in a batch.")] = 8,
    queue: Annotated[int, typer.Option(help="Edits held at most; then 429 is answered.")] = 64,
    timeout: Annotated[float, typer.Option(help="Longest time of a request, in seconds.")] = 600.0,
    grace: Annotated[float, typer.Option(help="Seconds to finish what is held when told to stop.")] = 60.0,
    max_megabytes: Annotated[int, typer.Option(help="Size of the largest request.")] = 50,
    body_seconds: Annotated[float, typer.Option(help="Longest time to send a request, in seconds.")] = 60.0,
    max_pixels: Annotated[int, typer.Option(help="Largest number of pixels of a picture.")] = 25_000_000,
    max_steps: Annotated[int, typer.Option(help="Largest number of steps of an edit.")] = 100,
    judge: Annotated[
        str, typer.Option(help="Judges that a search may ask, with commas between.")
    ] = "preserve,tiny",
    page: Annotated[bool, typer.Option("--page", help="Also serve the page of `editkit demo` at /.")] = False,
    password: Annotated[
        str | None,
        typer.Option(envvar="EDITKIT_PASSWORD", help="Ask visitors of the page for it.", show_envvar=True),
    ] = None,
) -> None:
    """Serve edits over HTTP as OpenAI's image API, with editkit's own fields beside."""
    run = _parts()
    from editkit import packages
    from editkit.imaging import images
    from editkit.serving.address import check_address
    from editkit.serving.settings import ServerSettings

    if password and not page:
        raise EditkitError("--password is for the page; add --page, or give --api-key for programs.")
    if page and api_key and not password:
        raise EditkitError("--api-key leaves the page open; give --password too.")
    if not 1 <= max_pixels <= images.MAX_PIXELS:
        raise EditkitError(f"--max-pixels {max_pixels} is not allowed; give 1 to {images.MAX_PIXELS:,}.")
    settings = ServerSettings(
        api_key=api_key or None,
        adapters=adapters,
        judges=tuple(_listed(judge)),
        batch=batch,
        queue=queue,
        timeout=timeout,
        grace=grace,
        body_bytes=max_megabytes * 2**20,
        body_seconds=body_seconds,
        pixels=max_pixels,
        steps=max_steps,
    )
    check_address(host, port)
    if host not in LOCAL and api_key is None:
        options.say([f"Everybody who reaches {host}:{port} may edit; --api-key keeps others out."])
    devices: list[str | None] = [*_listed(device)]
    server = run.made(
        lambda each: options.editor(backbone, each, dtype, {}, load, lora, low_memory),
        devices or [None],
        _listed(method),
        settings,
    )
    mount = None
    if page:
        packages.own_package("demos")
        mount = importlib.import_module("demos.mounted").mounter(host, password or None, max_pixels)
    run.serve(server, host, port, mount)


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _parts() -> Any:
    try:
        from editkit.serving import run
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "prometheus_client", "python_multipart", "anyio"):
            raise
        raise EditkitError(f"The server needs {error.name}; run: pip install 'editkit[serve]'") from error
    return run
