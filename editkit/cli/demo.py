"""`editkit demo`."""

import importlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import options, pictures, terminal
from editkit.cli.options import Backbone, Device, Dtype, Load, Lora, LowMemory
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.editor import Editor

Runs = Annotated[
    list[Path] | None,
    typer.Option(help="Folder whose training runs the Train tab shows; may be repeated."),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder of the visitors' results and sessions.")]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter", help="Adapter that visitors may choose: a file, folder or Hub id; may be repeated."
    ),
]


def demo(
    backbone: Backbone = "tiny",
    device: Device = None,
    dtype: Dtype = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, options.whole_number("Port to listen at.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Open a public link through gradio's servers.")
    ] = False,
    password: Annotated[
        str | None,
        typer.Option(envvar="EDITKIT_PASSWORD", help="Password that visitors must give.", show_envvar=True),
    ] = None,
    max_pixels: Annotated[
        int, options.whole_number("Largest number of pixels of a visitor's picture.")
    ] = 25_000_000,
    runs: Runs = None,
    trust_paths: Annotated[
        bool, typer.Option("--trust-paths", help="Let visitors train on pairs at any path of this machine.")
    ] = False,
    output: Output = Path("out/page"),
    personal: Annotated[
        bool, typer.Option("--personal", help="One person's page: all browsers see the same results.")
    ] = False,
    adapter: Adapters = None,
) -> None:
    """Open a page in the browser: compare methods, edit in turns, search over seeds, train."""
    from editkit import packages

    pictures.limit(max_pixels)
    if missing := [each for each in runs or () if not each.is_dir()]:
        raise EditkitError(f"--runs {missing[0]} is no folder; give one that holds training runs.")
    packages.own_package("demos")
    importlib.import_module("demos.serve").serve(
        partial(_editor, backbone, device, dtype, {}, load, lora, low_memory),
        host=host,
        port=port,
        share=share,
        password=password or None,
        pixels=max_pixels,
        paths=trust_paths,
        runs=tuple(each.resolve() for each in runs or ()),
        output=output,
        personal=personal,
        adapters=adapter or (),
    )


def _editor(*asked: Any) -> "Editor":
    """The editor of the page, with progress while it loads."""
    with terminal.progress("load"):
        return options.editor(*asked)
