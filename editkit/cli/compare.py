"""`editkit compare`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import completion, options, pictures, terminal
from editkit.cli.options import Backbone, Device, Dtype, Json, Load, Lora, LowMemory, OptionsByMethod
from editkit.cli.request import takes
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editkit.inference.comparison import Entry
    from editkit.request import ImageInput


@takes("image", "instruction", "mask", "references", "seed", "steps", "size", "preserve", "negative")
def compare(
    asked: dict[str, Any],
    method: Annotated[
        str,
        typer.Option(
            "-m",
            "--method",
            autocompletion=completion.methods,
            help="Methods to compare, separated by commas.",
        ),
    ] = "all",
    backbone: Backbone = "tiny",
    output: Annotated[Path, typer.Option("-o", "--output", help="Contact sheet to write.")] = Path(
        "sheet.png"
    ),
    *,
    judge: Annotated[
        str | None,
        typer.Option(help="Judge that compares every two results: preserve, tiny, qwen-vl or openai."),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    option: OptionsByMethod = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    as_json: Json = False,
) -> None:
    """Edit one picture with several methods and one seed; write a sheet with seconds, tokens and scores."""
    from editkit.imaging import images

    images.check_output(output)
    source, asked["image"] = asked["image"], _checked(asked)
    pictures.check_apart([output], [source, asked["mask"], *asked["references"]])
    named = options.by_method(option)
    options.check_options(named)
    with terminal.progress("load") as bar:
        from editkit import judges, registry
        from editkit.cli import tables
        from editkit.inference import comparison

        names = registry.method_names() if method == "all" else [name.strip() for name in method.split(",")]
        editor = options.editor(backbone, device, dtype, named, load, lora, low_memory)
        referee = judges.load_judge(judge) if judge else None
        entries = comparison.compare(editor, methods=names, judge=referee, watch=bar.begin, **asked)
    _say(entries)
    sheet = comparison.sheet(asked["image"], entries)
    pictures.write_sheet(sheet, output, {"instruction": asked["instruction"]})
    if as_json:
        print(json.dumps({"output": str(output), "methods": [entry.summary() for entry in entries]}))
        return
    print(tables.text(tables.columns("<<<", (entry.lines() for entry in entries))))
    print(output)


def _checked(asked: dict[str, Any]) -> "ImageInput":
    """Check the pictures, and return the one to edit, which stdin may hold."""
    image = pictures.read_source(asked["image"])
    if isinstance(image, Path):
        pictures.check_sources([image])
    pictures.check_sources([asked["mask"]], "mask")
    pictures.check_sources(asked["references"], "reference")
    return image


def _say(entries: "Sequence[Entry]") -> None:
    """Print the notes and the failures of each method.

    Raises:
        EditkitError: where all of them failed.
    """
    results = [entry.result for entry in entries]
    if all(result.error for result in results):
        raise EditkitError(results[0].error)
    for result in results:
        told = (*result.notes, *([result.error] if result.error else []))
        options.say(f"{result.method}: {note}" for note in told)
