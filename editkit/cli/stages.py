"""`editkit stages`."""

from pathlib import Path
from typing import Annotated

import typer


def stages(
    path: Annotated[Path, typer.Argument(metavar="LIST", help="YAML with configs and where weights go.")],
) -> None:
    """Train the configs of a list in order and install what comes out; given again, it goes on."""
    from editkit.train import in_order

    in_order.run(path)
