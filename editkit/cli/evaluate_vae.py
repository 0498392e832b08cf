"""`editkit eval vae`: what a backbone's autoencoder loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editkit.cli import options, terminal
from editkit.cli.options import Backbone, Device, Dtype, Load
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.evaluation.autoencoder import Losses

REPORT = "vae.json"


def vae(
    pictures: Annotated[Path, typer.Argument(metavar="PICTURES", help="Folder of pictures, or one.")],
    backbone: Backbone = "tiny",
    limit: Annotated[int | None, options.whole_number("Take the first pictures only, by name.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder to write vae.json into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    load: Load = None,
    device: Device = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Encode and decode pictures at 256 by 256: perceptual distance, SSIM and PSNR, mean ± standard error."""
    verbosity.add(quiet, verbose)
    if limit is not None and limit < 1:
        raise EditkitError(f"--limit {limit} is not allowed; give 1 or more.")
    if not pictures.exists():
        raise EditkitError(f"There is nothing at {pictures}; give a folder of pictures that exists.")
    from editkit.backbone import provider
    from editkit.evaluation import autoencoder
    from editkit.imaging import images

    if out is not None:
        images.check_folder(out)
    paths = autoencoder.pictures(pictures, limit)
    loaded = provider().load(backbone, device, dtype, options.pairs(load, "--load"))
    with terminal.progress("pictures", len(paths)) as bar:
        found = autoencoder.measure(loaded, paths, bar.advance)
    options.say(found.unreadable)
    told = json.dumps(found.plain(), indent=2)
    print(told if as_json else table(found))
    if out is not None:
        from editkit import atomic_files

        with atomic_files.whole(out / REPORT) as file:
            file.write(f"{told}\n".encode())
        if not as_json:
            print(out / REPORT)


def table(found: Losses) -> str:
    """The figures as text."""
    from editkit.cli.tables import columns, text
    from editkit.evaluation.report.tables import number

    cells = [
        number(each.mean) + ("" if each.error is None else f" ± {number(each.error)}")
        for each in found.figures.values()
    ]
    return text(columns("<>>>>", [(found.backbone, found.n, *cells)], ("", "n", "PDist", "SSIM", "PSNR, dB")))
