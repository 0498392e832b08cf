"""`editkit compare`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli.edit import Json, Load, Preserve, References, Seed, Size, sides
from editkit.cli.options import Backbone, Device, Dtype, Negative, Steps, no_bars, pairs
from editkit.errors import EditkitError


def compare(
    image: Annotated[Path, typer.Argument(help="Picture to edit.")],
    instruction: Annotated[str, typer.Argument(help="The edit in words.")],
    method: Annotated[str, typer.Option("-m", "--method", help="Methods, with commas between.")] = "all",
    backbone: Backbone = "tiny",
    output: Annotated[Path, typer.Option("-o", "--output", help="Sheet to write.")] = Path("sheet.png"),
    mask: Annotated[Path | None, typer.Option(help="White where the edit may land.")] = None,
    ref: References = None,
    seed: Seed = 0,
    steps: Steps = None,
    size: Size = None,
    preserve: Preserve = False,
    negative: Negative = None,
    judge: Annotated[
        str | None, typer.Option(help="Lets every two results duel: preserve, tiny, ...")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An option of a method, method.key=value.")
    ] = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """One edit by every method, on one canvas and seed: a sheet with seconds, tokens and scores."""
    from editkit import api, config, judges, packages, registry
    from editkit.cli import tables
    from editkit.imaging import images
    from editkit.inference import comparison

    images.check_output(output)
    loaded, options = pairs(load, "--load"), _by_method(option)
    config.build(packages.backbones("loading").LoadOptions, loaded)
    names = registry.method_names() if method == "all" else [name.strip() for name in method.split(",")]
    editor = api.load(backbone, device, dtype, options=options, **loaded)
    no_bars()
    referee = judges.judge(judge) if judge else None
    asked: dict[str, Any] = {"mask": mask, "references": tuple(ref or ()), "seed": seed, "steps": steps}
    asked |= {"preserve": preserve or None, "negative": negative}
    entries = comparison.compare(editor, image, instruction, names, size=sides(size), judge=referee, **asked)
    errors = {entry.result.method: entry.result.error for entry in entries if entry.result.error}
    if len(errors) == len(entries):
        raise EditkitError(next(iter(errors.values())))
    notes = {entry.result.method: entry.result.notes for entry in entries}
    for name, told in notes.items():
        for note in (*told, *([errors[name]] if name in errors else [])):
            print(f"note: {name}: {note}", file=sys.stderr)
    images.save(comparison.sheet(image, entries), output, {"instruction": instruction})
    if as_json:
        print(json.dumps({"output": str(output), "methods": [entry.summary() for entry in entries]}))
        return
    print(tables.text(tables.columns("<<<", (entry.lines() for entry in entries))))
    print(output)


def _by_method(options: list[str] | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, value in pairs(options).items():
        method, dot, key = name.partition(".")
        if not dot:
            raise EditkitError(f"--option {name}={value} must read method.key=value.")
        found.setdefault(method, {})[key] = value
    return found
