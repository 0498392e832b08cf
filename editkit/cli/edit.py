"""`editkit edit` and `editkit generate`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli import options, search
from editkit.cli.options import Backbone, Device, Dtype, Json, Load, Lora, LowMemory, Options
from editkit.cli.request import takes
from editkit.cli.search import ContactSheet
from editkit.errors import EditkitError
from editkit.request import FIELDS, EditRequest

Output = Annotated[Path, typer.Option("-o", "--output", help="Picture to write; replaced if it exists.")]
Listed = list[str] | None
Loading = tuple[str, str | None, str | None, Listed, Listed, Listed, str | None]
"""Backbone, device, dtype, and the options of method and backbone and the adapters."""
SOURCE = ("image", "mask", "preserve", "align")
"""Fields that mean nothing without a picture to edit."""


@takes(*FIELDS)
def edit(
    asked: dict[str, Any],
    backbone: Backbone = "tiny",
    output: Output = Path("edited.png"),
    *,
    contact_sheet: ContactSheet = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    as_json: Json = False,
) -> None:
    """Edit a picture; the result is exactly as large as it."""
    loading = (backbone, device, dtype, option, load, lora, low_memory)
    _edit(asked, output, contact_sheet, loading, as_json)


@takes(*(name for name in FIELDS if name not in SOURCE), instruction="prompt")
def generate(
    asked: dict[str, Any],
    backbone: Backbone = "tiny",
    output: Output = Path("generated.png"),
    *,
    contact_sheet: ContactSheet = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    as_json: Json = False,
) -> None:
    """Make a picture from text and references, with the same network."""
    loading = (backbone, device, dtype, option, load, lora, low_memory)
    _edit({"image": None, **asked}, output, contact_sheet, loading, as_json)


def _edit(
    asked: dict[str, Any],
    output: Path,
    contact_sheet: Path | None,
    loading: Loading,
    as_json: bool,
) -> None:
    from editkit.imaging import images

    request = EditRequest(**{**asked, "search": search.asked(asked["search"], contact_sheet)})
    images.check_output(output)
    if contact_sheet:
        images.check_output(contact_sheet)
        if contact_sheet.absolute() == output.absolute():
            raise EditkitError(f"-o and --contact-sheet are both {output}; give two files.")
    backbone, device, dtype, option, load, lora, low_memory = loading
    named = {request.method: options.pairs(option)}
    editor = options.editor(backbone, device, dtype, named, load, lora, low_memory)
    result = editor.run(request)
    options.say(result.notes)
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
