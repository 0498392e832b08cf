"""Options that commands share, and how they are read."""

from typing import Annotated, Any

import typer

from editkit.errors import EditkitError

Method = Annotated[str, typer.Option("-m", "--method", help="A name from `editkit methods`.")]
Backbone = Annotated[
    str, typer.Option("-b", "--backbone", help="A name from `editkit backbones`, a folder or Hub id.")
]
Steps = Annotated[int | None, typer.Option(help="Euler steps.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best one here if not given.")]
Options = Annotated[list[str] | None, typer.Option("--option", help="An option of the method, key=value.")]
Negative = Annotated[str | None, typer.Option(help="What not to show; switches true guidance on.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]


def pairs(options: list[str] | None, name: str = "--option") -> dict[str, Any]:
    """key=value options as a dict; values are YAML.

    Raises:
        EditkitError: where one is not of that form.
    """
    import yaml

    found = {}
    for option in options or ():
        key, equals, value = option.partition("=")
        if not equals:
            raise EditkitError(f"{name} {option} must read key=value.")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise EditkitError(
                f"{name} {option} is not YAML behind the equals sign; quote the value."
            ) from error
    return found
