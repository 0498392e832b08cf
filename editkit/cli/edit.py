"""`editkit edit` and `editkit generate`."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli import few_steps, options, pictures, search, terminal
from editkit.cli.few_steps import Fast
from editkit.cli.options import Backbone, Device, Dtype, Json, Load, Lora, LowMemory, Options
from editkit.cli.request import takes
from editkit.cli.search import ContactSheet
from editkit.cli.terminal import verbosity
from editkit.errors import EditkitError
from editkit.request import FIELDS, EditRequest
from editkit.types import EditResult

Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="Picture to write or replace; a folder for several; - for stdout."),
]
Drawn = Annotated[Path, typer.Option("-o", "--output", help="Picture to write or replace; - for stdout.")]
Listed = list[str] | None
Loading = tuple[str, str | None, str | None, Listed, Listed, Listed, str | None]
"""Backbone, device, dtype, options of the method and of the backbone, adapters, and a low-memory preset."""
SOURCE = ("image", "mask", "preserve", "align")
"""Fields that mean nothing without a picture to edit."""


@takes(*FIELDS, many="image")
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
    fast: Fast = False,
    as_json: Json = False,
) -> None:
    """Edit one or several pictures. Each result is exactly as large as its source."""
    sources = asked.pop("image")
    if contact_sheet and (len(sources) > 1 or os.path.isdir(sources[0])):
        raise EditkitError("--contact-sheet shows one edit's seeds; give one picture, or leave it out.")
    jobs = pictures.jobs(sources, output)
    pictures.check_sources([asked["mask"]], "mask")
    loading = (backbone, device, dtype, option, load, lora, low_memory)
    _edit(asked, jobs, contact_sheet, loading, fast, as_json)


@takes(*(name for name in FIELDS if name not in SOURCE), instruction="prompt")
def generate(
    asked: dict[str, Any],
    backbone: Backbone = "tiny",
    output: Drawn = Path("generated.png"),
    *,
    contact_sheet: ContactSheet = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    fast: Fast = False,
    as_json: Json = False,
) -> None:
    """Make a picture from text, with or without reference pictures."""
    pictures.check_output(output)
    loading = (backbone, device, dtype, option, load, lora, low_memory)
    _edit(asked, [(None, output)], contact_sheet, loading, fast, as_json)


def _edit(
    asked: dict[str, Any],
    jobs: Sequence[tuple[Path | None, Path]],
    contact_sheet: Path | None,
    loading: Loading,
    fast: bool,
    as_json: bool,
) -> None:
    """Carry out one edit, or several of different pictures; one that fails does not stop the others."""
    asked = {**asked, "search": search.requested(asked["search"], contact_sheet)}
    pictures.check_sources(asked["references"], "reference")
    _check_outputs(jobs[0][1], contact_sheet, as_json)
    sources, guides = [source for source, _ in jobs], [asked.get("mask"), *asked["references"]]
    pictures.check_apart([contact_sheet], [*sources, *guides])
    # One picture may be edited in place: it is replaced whole, and stays where the edit fails.
    pictures.check_apart([output for _, output in jobs], guides + (sources if len(jobs) > 1 else []))
    if fast:
        few_steps.check_few_steps(asked)
    piped = pictures.read_source(pictures.PIPE) if jobs[0][0] == pictures.PIPE else None
    if piped is not None:
        pictures.check_held(jobs[0][1], piped)
    backbone, device, dtype, option, load, lora, low_memory = loading
    with terminal.progress("load") as bar:
        named = {asked["method"]: options.pairs(option)}
        editor = options.editor(backbone, device, dtype, named, load, lora, low_memory)
        if fast:
            found = few_steps.chosen(editor, asked["method"], options.scaled(lora))
            editor = few_steps.adapted(editor, found)
            asked |= {name: getattr(found, name) for name in few_steps.CHOSEN}

        def run(source: Path | None, output: Path) -> None:
            watch = bar.begin(source.name if source else "generate")
            request = EditRequest(image=piped or source, **asked)
            result = editor.run(request, watch=watch, tell=options.say)
            _keep(result, output, contact_sheet)
            _tell(result, output, as_json)

        if len(jobs) == 1:
            run(*jobs[0])
        elif failed := sum(not _done(run, *job) for job in jobs):
            raise EditkitError(f"{failed} of {len(jobs)} pictures failed; see what is said of each above.")


def _done(run: Callable[[Path | None, Path], None], source: Path | None, output: Path) -> bool:
    """Whether one of several pictures could be edited; where not, say why."""
    try:
        run(source, output)
    except EditkitError as error:
        print(f"editkit: {source}: {error}", file=sys.stderr)
        return False
    return True


def _check_outputs(output: Path, contact_sheet: Path | None, as_json: bool) -> None:
    if as_json and output == pictures.PIPE:
        raise EditkitError("--json and -o - both write to stdout; leave one out.")
    if contact_sheet:
        from editkit.imaging import images

        images.check_output(contact_sheet)
        if contact_sheet.absolute() == output.absolute():
            raise EditkitError(f"-o and --contact-sheet are both {output}; give two files.")


def _keep(result: EditResult, output: Path, contact_sheet: Path | None) -> None:
    assert result.image is not None
    pictures.write(result.image, output, result.recipe)
    if contact_sheet and result.search:
        pictures.write_sheet(result.search.contact_sheet(), contact_sheet, result.recipe)


def _tell(result: EditResult, output: Path, as_json: bool) -> None:
    """Print where the result is, on stderr where stdout holds the picture."""
    assert result.image is not None
    options.say(result.notes)
    if verbosity.verbose:
        stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.timings.items())
        print(f"{output}: {stages}", file=sys.stderr)
    if as_json:
        searched = {"search": result.search.summary()} if result.search else {}
        moved = {"alignment": None if result.alignment is None else asdict(result.alignment)}
        told = {"output": str(output), "timings": dict(result.timings), **moved, **searched, **result.recipe}
        print(json.dumps(told))
    elif output != pictures.PIPE:
        print(f"{output} ({result.image.width}x{result.image.height}, {sum(result.timings.values()):.1f} s)")
