"""`editkit eval`: measure edits."""

from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli import completion, options, terminal
from editkit.cli.options import Backbone, Device, Dtype, Lora, LowMemory, Options, whole_number
from editkit.cli.request import takes

app = typer.Typer(help="Measure edits.", no_args_is_help=True)


BatchSize = Annotated[int, whole_number("Number of edits that run together.")]


@app.command()
@takes("method", "steps", "negative")
def shapesworld(
    asked: dict[str, Any],
    backbone: Backbone = "tiny",
    n: Annotated[int, whole_number("Number of held-out examples.")] = 1000,
    sessions: Annotated[int, whole_number("Number of held-out sessions, each with five edits in a row.")] = 0,
    compound: Annotated[
        int, whole_number("Number of held-out edits whose instruction joins two or three.")
    ] = 0,
    *,
    batch_size: BatchSize = 32,
    option: Options = None,
    lora: Lora = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to write report.json and grid.png into.")
    ] = Path("out/shapesworld"),
    device: Device = None,
    dtype: Dtype = None,
    low_memory: LowMemory = None,
) -> None:
    """Measure success on held-out ShapesWorld edits, by category and kind."""
    from editkit.imaging import images

    images.check_folder(output)
    named = {asked["method"]: options.pairs(option)}
    options.check_options(named)
    with terminal.progress("load"):
        from editkit.shapesworld import evaluate as scores

        editor = options.editor(backbone, device, dtype, named, lora=lora, low_memory=low_memory)
    with terminal.progress("edits", n + sessions * scores.TURNS + compound) as bar:
        report = scores.evaluate(
            editor,
            n=n,
            sessions=sessions,
            compound=compound,
            batch_size=batch_size,
            watch=bar.count,
            **asked,
        )
    print(edits_table(report))
    scores.write(report | options.given(named[asked["method"]], lora), output)
    print(f"{output / 'report.json'}  {output / 'grid.png'}")


@app.command()
@takes("steps", "negative")
def masked(
    asked: dict[str, Any],
    method: Annotated[
        str,
        typer.Option(
            "-m",
            "--method",
            autocompletion=completion.methods,
            help="Method to measure; it must have tasks.",
        ),
    ],
    backbone: Backbone = "tiny",
    n: Annotated[int, whole_number("Number of held-out examples of each kind.")] = 500,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of edit, such as diptych or diptych/replace; may be repeated. If not given, all."
        ),
    ] = None,
    *,
    batch_size: BatchSize = 32,
    option: Options = None,
    lora: Lora = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write report.json into.")] = Path(
        "out/masked"
    ),
    device: Device = None,
    dtype: Dtype = None,
    low_memory: LowMemory = None,
) -> None:
    """Measure success on held-out ShapesWorld edits with masks and references, by task."""
    from editkit.imaging import images

    images.check_folder(output)
    named = {method: options.pairs(option)}
    options.check_options(named)
    with terminal.progress("load"):
        from editkit import shapesworld as world
        from editkit.shapesworld import evaluate_masked as scores
        from editkit.shapesworld.evaluate import write_report

        editor = options.editor(backbone, device, dtype, named, lora=lora, low_memory=low_memory)
    with terminal.progress("edits", n * len(kind or world.MASKED)) as bar:
        report = scores.evaluate(
            editor, method, kind or (), n=n, batch_size=batch_size, watch=bar.count, **asked
        )
    print(masked_table(report))
    write_report(report | options.given(named[method], lora), output)
    print(output / "report.json")


def edits_table(report: dict[str, Any]) -> str:
    """The report of `shapesworld` as text."""
    from editkit.cli.tables import columns, text

    head = ("", "n", "success", "sharp", "ceiling", "sharp", "copy", "sharp", "inside", "outside")
    shares = ("success", "sharp", "ceiling", "ceiling_sharp", "copy", "copy_sharp")
    digits = dict.fromkeys(shares, 3) | {"inside": 4, "outside": 4}
    sections = [("overall", report["overall"]), *report["categories"].items()]
    sections += [(f"  {kind}", row) for kind, row in report["kinds"].items()]
    if compound := report.get("compound"):
        sections.append(("two or three edits at once", compound))
    rows = [
        (name, row["n"], *(f"{row[column]:.{places}f}" for column, places in digits.items()))
        for name, row in sections
        if row["n"]
    ]
    if sessions := report.get("sessions"):
        rows.append(
            (
                "five turns in a row",
                sessions["n"],
                *(f"{sessions[score]:.3f}" for score in ("success", "sharp")),
            )
        )
    made = text(columns("<>>>>>>>>>", rows, head))
    if sessions:
        made += f"\ndrift by turn  {' '.join(f'{value:.4f}' for value in sessions['drift'])}"
    return made


def masked_table(report: dict[str, Any]) -> str:
    """The report of `masked` as text."""
    from editkit.cli.tables import columns, text

    figures = ("success", "sharp", "inside", "outside", "moved", "seconds")
    rows: list[tuple[object, ...]] = []
    for name, row in report["kinds"].items():
        rows.append((name, row["n"], *(f"{row[figure]:.3f}" for figure in figures)))
        rows += [
            (f"  {kind}", own["n"], f"{own['success']:.3f}", f"{own['sharp']:.3f}")
            for kind, own in row["kinds"].items()
            if kind != name
        ]
    return text(columns("<>>>>>>>", rows, ("", "n", *figures)))
