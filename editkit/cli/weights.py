"""`editkit weights`: convert weights."""

from pathlib import Path
from typing import Annotated

import typer

from editkit.errors import EditkitError

app = typer.Typer(help="Convert weights.", no_args_is_help=True)


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Weights to read: a native .safetensors file, or a transformer folder of diffusers."
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(help="Where to write: a folder for diffusers, or a native .safetensors file.")
    ],
    axes: Annotated[
        str | None,
        typer.Option(help="RoPE axes, such as 16,56,56. Needed only if they cannot be found in the weights."),
    ] = None,
) -> None:
    """Convert FLUX weights from Black Forest Labs' naming to a diffusers folder, or back, bit by bit."""
    if not source.exists():
        raise EditkitError(
            f"{source} does not exist; give a native .safetensors file, or diffusers' transformer folder."
        )
    from editkit.backbone import provider

    try:
        split = tuple(int(part) for part in axes.split(",")) if axes else None
    except ValueError as error:
        raise EditkitError(f"--axes {axes} is not allowed; give whole numbers such as 16,56,56.") from error
    print(provider().convert(source, destination, split))
