"""`editkit serve`."""

import importlib
from typing import Annotated, Any

import typer

from editkit import packages
from editkit.cli import completion, options, pictures
from editkit.cli.options import Backbone, Dtype, Load, Lora, LowMemory, OptionsByMethod
from editkit.cli.record_options import Option, listed, takes_fields
from editkit.errors import EditkitError
from editkit.serving.settings import ServerSettings

LOCAL = ("127.0.0.1", "localhost", "::1")


OPTIONS = {
    "api_key": Option(read=lambda key: key or None, more={"envvar": "EDITKIT_API_KEY", "show_envvar": True}),
    "adapters": Option(),
    "batch": Option(),
    "queue": Option(),
    "timeout": Option(),
    "grace": Option(),
    "body_seconds": Option(),
    "pixels": Option(flags=("--max-pixels",), read=pictures.limit),
    "steps": Option(flags=("--max-steps",)),
}
"""Fields of `ServerSettings` that are options as they are."""


@takes_fields(ServerSettings, OPTIONS, defaults=True)
def serve(
    settings: dict[str, Any],
    backbone: Backbone = "tiny",
    device: Annotated[
        str | None,
        typer.Option(
            envvar="EDITKIT_DEVICE", help="Devices, with commas between; each gets a worker: cuda:0,cuda:1."
        ),
    ] = None,
    dtype: Dtype = None,
    option: OptionsByMethod = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    method: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--method",
            autocompletion=completion.methods,
            help="Methods to offer, with commas between; all that can be loaded if not given.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, options.whole_number("Port to listen at.")] = 8000,
    *,
    judge: Annotated[
        str, typer.Option(help="Judges that a seed search may use, with commas between.")
    ] = "preserve,tiny",
    max_megabytes: Annotated[int, options.whole_number("Size of the largest request, in MiB.")] = 50,
    page: Annotated[bool, typer.Option("--page", help="Also serve the page of `editkit demo` at /.")] = False,
    password: Annotated[
        str | None,
        typer.Option(
            envvar="EDITKIT_PASSWORD", help="Password that visitors of the page must give.", show_envvar=True
        ),
    ] = None,
) -> None:
    """Serve edits over HTTP with OpenAI's image API and fields of editkit's own."""
    run = _parts()
    limits = ServerSettings(**settings, judges=tuple(listed(judge)), body_bytes=max_megabytes * 2**20)
    devices: list[str | None] = [*listed(device)]
    _check_access(limits, host, port, password, page)
    named = options.by_method(option)
    options.check_options(named)
    server = run.made(
        lambda each: options.editor(backbone, each, dtype, named, load, lora, low_memory),
        devices or [None],
        listed(method),
        limits,
    )
    run.serve(server, host, port, _page(host, password, limits.pixels) if page else None)


def _check_access(settings: ServerSettings, host: str, port: int, password: str | None, page: bool) -> None:
    """Check who may reach what, and say where everybody may.

    Raises:
        EditkitError: for a password without the page, or a page that a key does not close.
    """
    from editkit.serving.address import check_address

    if password and not page:
        raise EditkitError("--password is for the page; add --page, or give --api-key for programs.")
    if page and settings.api_key and not password:
        raise EditkitError("--api-key leaves the page open; give --password too.")
    check_address(host, port)
    if host not in LOCAL and settings.api_key is None:
        options.say([f"Everybody who reaches {host}:{port} may edit; --api-key keeps others out."])


def _page(host: str, password: str | None, max_pixels: int) -> Any:
    """Return the function that mounts the page on the server."""
    packages.own_package("demos")
    return importlib.import_module("demos.mounted").mounter(host, password or None, max_pixels)


def _parts() -> Any:
    try:
        from editkit.serving import run
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "prometheus_client", "python_multipart", "anyio"):
            raise
        raise EditkitError(f"The server needs {error.name}; run: pip install 'editkit[serve]'") from error
    return run
