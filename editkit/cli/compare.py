"""`editkit compare`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from editkit.cli.edit import Json, Load, Seed, Size, sides
from editkit.cli.options import Backbone, Device, Dtype, Steps, no_bars, pairs
from editkit.errors import EditkitError


def compare(
    image: Annotated[Path, typer.Argument(help="Picture to edit.")],
    instruction: Annotated[str, typer.Argument(help="The edit in words.")],
    method: Annotated[str, typer.Option("-m", "--method", help="Methods, with commas between.")] = "all",
    backbone: Backbone = "tiny",
    output: Annotated[Path, typer.Option("-o", "--output", help="Sheet to write.")] = Path("sheet.png"),
    mask: Annotated[Path | None, typer.Option(help="White where the edit may land.")] = None,
    seed: Seed = 0,
    steps: Steps = None,
    size: Size = None,
    judge: Annotated[
        str | None, typer.Option(help="Lets every two results duel: preserve, tiny, ...")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """One edit by every method, on one canvas and seed: a sheet with seconds, tokens and scores."""
    from editkit import api, comparison, config, images, judges, registry

    images.check_output(output)
    loaded = pairs(load, "--load")
    config.build(registry.backbones("loading").LoadOptions, loaded)
    names = registry.method_names() if method == "all" else [name.strip() for name in method.split(",")]
    editor = api.load(backbone, device, dtype, **loaded)
    no_bars()
    referee = judges.judge(judge) if judge else None
    asked = {"mask": mask, "seed": seed, "steps": steps}
    entries = comparison.compare(editor, image, instruction, names, size=sides(size), judge=referee, **asked)
    errors = {entry.result.method: entry.result.error for entry in entries if entry.result.error}
    if len(errors) == len(entries):
        raise EditkitError(next(iter(errors.values())))
    for name, error in errors.items():
        print(f"note: {name}: {error}", file=sys.stderr)
    images.save(comparison.sheet(image, entries), output, {"instruction": instruction})
    if as_json:
        print(json.dumps({"output": str(output), "methods": [entry.summary() for entry in entries]}))
        return
    for entry in entries:
        print(f"{entry.result.method:<10}" + "  ".join(entry.lines()[1:]))
    print(output)
