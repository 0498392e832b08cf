"""`editkit replay`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from editkit.cli import pictures, terminal
from editkit.cli.options import Lora, scaled


def replay(
    picture: Annotated[Path, typer.Argument(help="PNG file that editkit wrote.")],
    image: Annotated[
        Path | None,
        typer.Option(help="Source picture, if it is neither where the recipe says nor beside the PNG."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Mask, if it is neither where the recipe says nor beside the PNG.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="Reference picture, if it is elsewhere; give all of them, in order."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Picture to write.")] = None,
    # Its own option: what a person usually runs on must not stand over what the recipe says.
    device: Annotated[
        str | None, typer.Option(help="Device to run on: cpu, cuda or mps. If not given, the recipe's.")
    ] = None,
    lora: Lora = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a picture again from its recipe, and say whether it is identical, close or different.

    Exit status: 0 if identical or close, 1 if different, 2 if it cannot be made again.
    """
    from editkit.imaging import images

    if output:
        images.check_output(output)
        pictures.check_held(output, picture, "picture")
    pictures.check_sources([picture], "picture")
    pictures.check_sources([image])
    pictures.check_sources([mask], "mask")
    pictures.check_sources(reference or (), "reference")
    references = tuple(reference or ())
    pictures.check_apart([output], [picture, image, mask, *references])
    with terminal.progress("replay"):
        from editkit.api import replay as made_again

        found = made_again(
            picture, image=image, mask=mask, references=references, device=device, lora=scaled(lora)
        )
    if output:
        images.save(found.image, output, found.recipe)
    if as_json:
        told = {"verdict": found.verdict, "greatest": found.greatest, "mean": found.mean}
        print(json.dumps({**told, "reasons": list(found.reasons)}))
    else:
        print(f"{picture}: {found.summary_line()}")
    if not found.same:
        raise typer.Exit(1)
