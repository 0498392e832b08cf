"""`editkit edit` and `editkit generate`."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli.options import Backbone, Device, Dtype, Method, Negative, Options, Steps, pairs
from editkit.cli.search import (
    BothOrders,
    ContactSheet,
    Judge,
    JudgeOption,
    PreviewSteps,
    Search,
    SearchMode,
    asked,
)
from editkit.errors import EditkitError

Output = Annotated[Path, typer.Option("-o", "--output", help="Picture to write; replaced if it exists.")]
Task = Annotated[str | None, typer.Option(help="What for, of a method with several: `editkit methods NAME`.")]
References = Annotated[list[Path] | None, typer.Option("--ref", help="A reference picture; may be repeated.")]
Seed = Annotated[int, typer.Option(help="Of the noise.")]
Guidance = Annotated[float | None, typer.Option(help="Distilled guidance.")]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT that the network works at.")]
Preserve = Annotated[bool, typer.Option("--preserve", help="Keep pixels outside the change identical.")]
Json = Annotated[bool, typer.Option("--json", help="Print the recipe as JSON.")]
Load = Annotated[list[str] | None, typer.Option("--load", help="An option of the backbone, key=value.")]


def edit(
    image: Annotated[Path, typer.Argument(help="Picture to edit.")],
    instruction: Annotated[str, typer.Argument(help="The edit in words.")],
    method: Method = "kontext",
    backbone: Backbone = "tiny",
    output: Output = Path("edited.png"),
    task: Task = None,
    mask: Annotated[Path | None, typer.Option(help="White where the edit may land.")] = None,
    ref: References = None,
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    preserve: Preserve = False,
    align: Annotated[
        bool, typer.Option("--align", help="Undo a measured shift or scale against the source.")
    ] = False,
    negative: Negative = None,
    search: Search = 1,
    judge: Judge = None,
    search_mode: SearchMode = None,
    preview_steps: PreviewSteps = None,
    both_orders: BothOrders = None,
    judge_option: JudgeOption = None,
    contact_sheet: ContactSheet = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """Edit a picture; the result is exactly as large as it."""
    searched = asked(search, judge, search_mode, preview_steps, both_orders, judge_option, contact_sheet)
    request = {
        "method": method,
        "task": task,
        "mask": mask,
        "references": tuple(ref or ()),
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "size": sides(size),
        "preserve": preserve or None,
        "align": align,
        "negative": negative,
        "search": searched,
    }
    loading = (backbone, device, dtype, option, load)
    _edit(image, instruction, request, loading, output, as_json, contact_sheet)


def generate(
    prompt: Annotated[str, typer.Argument(help="The picture in words.")],
    method: Method = "kontext",
    backbone: Backbone = "tiny",
    output: Output = Path("generated.png"),
    task: Task = None,
    ref: References = None,
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = None,
    search: Search = 1,
    judge: Judge = None,
    search_mode: SearchMode = None,
    preview_steps: PreviewSteps = None,
    both_orders: BothOrders = None,
    judge_option: JudgeOption = None,
    contact_sheet: ContactSheet = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """Make a picture from text and references, with the same network."""
    searched = asked(search, judge, search_mode, preview_steps, both_orders, judge_option, contact_sheet)
    request = {
        "method": method,
        "task": task,
        "references": tuple(ref or ()),
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "size": sides(size),
        "negative": negative,
        "search": searched,
    }
    loading = (backbone, device, dtype, option, load)
    _edit(None, prompt, request, loading, output, as_json, contact_sheet)


def _edit(
    image: Path | None,
    instruction: str,
    request: dict[str, Any],
    loading: tuple[str, str | None, str | None, list[str] | None, list[str] | None],
    output: Path,
    as_json: bool,
    contact_sheet: Path | None,
) -> None:
    import warnings

    from editkit import api, config, packages
    from editkit.imaging import images

    images.check_output(output)
    if contact_sheet:
        images.check_output(contact_sheet)
        if contact_sheet.absolute() == output.absolute():
            raise EditkitError(f"-o and --contact-sheet are both {output}; give two files.")
    backbone, device, dtype, option, load = loading
    chosen, loaded = {str(request["method"]): pairs(option)}, pairs(load, "--load")
    config.build(packages.backbones("loading").LoadOptions, loaded)  # none but these are keywords of `load`
    editor = api.load(backbone, device, dtype, options=chosen, **loaded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = editor.edit(image, instruction, **request)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    assert result.image is not None
    images.save(result.image, output, result.recipe)
    if contact_sheet and result.search:
        images.save(result.search.contact_sheet(), contact_sheet, result.recipe)
    if as_json:
        searched = {"search": result.search.summary()} if result.search else {}
        moved = {"alignment": None if result.alignment is None else asdict(result.alignment)}
        told = {"output": str(output), "timings": dict(result.timings), **moved, **searched, **result.recipe}
        print(json.dumps(told))
    else:
        print(f"{output} ({result.image.width}x{result.image.height}, {sum(result.timings.values()):.1f} s)")


def sides(text: str | None) -> tuple[int, int] | None:
    """WIDTHxHEIGHT as numbers.

    Raises:
        EditkitError: where it is not of that form.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text.lower())
    if found is None:
        raise EditkitError(f"--size {text} is not allowed; give WIDTHxHEIGHT, such as 1024x768.")
    return int(found[1]), int(found[2])
