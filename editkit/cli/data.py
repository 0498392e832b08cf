"""`editkit data`: check the training data of a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editkit.cli import terminal
from editkit.cli.options import whole_number
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editkit.data.check import Check
    from editkit.data.datasets import Dataset

SIZES = 8
"""Largest number of sizes that are listed."""

app = typer.Typer(help="Check training data.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Check training data."""


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="YAML file of a run, or of its data alone.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="More YAML files, each over the one before, and key=value, with dots for nested keys, such "
            "as data.path=pairs."
        ),
    ] = None,
    limit: Annotated[
        int | None, whole_number("Number of records to check, from the first. If not given, all.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Contact sheet to write, with the worst pairs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check a run's pairs, also for validation: sizes, files, repeated or shifted pairs, masks, captions.

    Status 2 on errors.
    """
    from editkit import config as configs
    from editkit.data.datasets import ChainedDataset, dataset
    from editkit.imaging import images
    from editkit.train import preflight
    from editkit.train.settings import EditTrainConfig

    if limit is not None and limit < 1:
        raise EditkitError(f"--limit {limit} is not allowed; give at least 1.")
    if output:
        images.check_output(output)
    settings = configs.build(EditTrainConfig, *configs.layered(config, overrides or []))
    for name, data in settings.datasets().items():
        preflight.check_data(name, data)
    parts = [dataset(each) for each in settings.datasets().values()]
    _name_unused_columns(parts)
    records = ChainedDataset(parts)
    with terminal.progress("check", min(len(records), limit or len(records))) as bar:
        from editkit.data import check as checks  # needs torch

        found = checks.check_dataset(records, limit, bar.advance)
    sheet = found.sheet()
    if output and sheet:
        images.save(sheet, output)
    print(json.dumps(found.summary()) if as_json else findings_table(found))
    if found.failed:
        errors = {name: count for name, count in found.problems().items() if name in checks.ERRORS}
        told = ", ".join(f"{count} {name}" for name, count in errors.items())
        raise EditkitError(f"The data have errors: {told}; correct or leave out these records.")


def _name_unused_columns(parts: "Sequence[Dataset]") -> None:
    from editkit import notes
    from editkit.data.files import FileDataset

    for part in parts:
        if isinstance(part, FileDataset) and (unused := part.unused_columns()):
            names = ", ".join(map(repr, unused))
            notes.tell(
                f"Nothing is read from these columns of {part.path}: {names}; name those that are fields of "
                "a record in data.columns."
            )


def findings_table(found: "Check") -> str:
    """Format the contents and the problems of a dataset as text."""
    from editkit.cli.tables import columns, text
    from editkit.data.check import ERRORS

    sizes = [
        (f"  {width}x{height}", count, f"{width / height:.2f}")
        for (width, height), count in list(found.sizes.items())[:SIZES]
    ]
    problems = []
    for problem, count in found.problems().items():
        first = next(each for each in found.findings if each.problem == problem)
        told = f"first: record {first.index}, {first.detail}"
        problems.append(("error" if problem in ERRORS else "warning", problem, count, told))
    counts = {"record": found.count, "size": len(found.sizes), "kind": len(found.kinds)}
    return "\n".join(
        [
            ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()),
            *([text(columns("<>>", sizes))] if sizes else []),
            text(columns("<<><", problems)) if problems else "nothing wrong",
            *_unreadable(found),
        ]
    )


def _unreadable(found: "Check") -> list[str]:
    """Each record behind the first one that a run would leave out, as far as there is room."""
    from editkit.data.check import SHOWN

    others = [each for each in found.findings if each.problem == "unreadable"][1:]
    lines = [f"  record {each.index}: {each.detail}" for each in others[:SHOWN]]
    left = len(others) - SHOWN
    return lines + ([f"  and {left} more; --json names all"] if left > 0 else [])
