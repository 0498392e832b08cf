"""`editkit weights`: convert them."""

from pathlib import Path
from typing import Annotated

import typer

from editkit.errors import EditkitError

app = typer.Typer(help="Convert weights.", no_args_is_help=True)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A native .safetensors file, or a diffusers transformer folder.")
    ],
    destination: Annotated[Path, typer.Argument(help="A folder, or a .safetensors file on the way back.")],
    axes: Annotated[
        str | None, typer.Option(help="RoPE axes, such as 16,56,56, where they cannot be inferred.")
    ] = None,
) -> None:
    """Turn BFL's native FLUX naming into a diffusers folder, or back, exact to the bit."""
    from editkit.backbone import provider

    try:
        split = tuple(int(part) for part in axes.split(",")) if axes else None
    except ValueError as error:
        raise EditkitError(f"--axes {axes} is not allowed; give whole numbers such as 16,56,56.") from error
    print(provider().convert(source, destination, split))
