"""`editkit eval`: measure edits."""

from pathlib import Path
from typing import Annotated

import typer

from editkit.cli.options import Backbone, Device, Dtype, Method, Steps, no_bars

app = typer.Typer(help="Measure edits.", no_args_is_help=True)


@app.command()
def shapesworld(
    method: Method = "kontext",
    backbone: Backbone = "tiny",
    n: Annotated[int, typer.Option(help="Held-out examples.")] = 1000,
    sessions: Annotated[int, typer.Option(help="Held-out sessions of five edits in a row.")] = 0,
    steps: Steps = None,
    batch_size: Annotated[int, typer.Option(help="Edits that run together.")] = 32,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for report.json and grid.png.")
    ] = Path("out/shapesworld"),
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Success on held-out ShapesWorld edits, by category and kind, with ceiling and copy baseline."""
    from editkit import api, images
    from editkit.evaluation import shapesworld as scores

    images.check_folder(output)
    editor = api.load(backbone, device, dtype)
    no_bars()
    report = scores.evaluate(editor, method, n=n, sessions=sessions, steps=steps, batch_size=batch_size)
    print(scores.table(report))
    scores.write(report, output)
    print(f"{output / 'report.json'}  {output / 'grid.png'}")
