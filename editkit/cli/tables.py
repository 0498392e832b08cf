"""Tables as text: folded to the terminal's width, and as wide as they are anywhere else."""

import io
import shutil
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

ANY_WIDTH = 10_000
RIGHT = ">"


def columns(sides: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> Table:
    """Build a table of aligned cells.

    Args:
        sides: `<` or `>` for each column. Those on the right hold figures, which are never folded.
        rows: of anything that has a text, or of further tables; cells may lack at the end.
        head: names of the columns, if any.
    """
    table = Table(box=None, show_header=bool(head), pad_edge=False, padding=(0, 2, 0, 0))
    for place, side in enumerate(sides):
        table.add_column(
            Text(head[place]) if head else "",
            justify="right" if side == RIGHT else "left",
            no_wrap=side == RIGHT,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Table) else Text(str(cell)) for cell in row))
    return table


def text(table: Table) -> str:
    """Format a table in plain letters, without spaces at the ends of lines."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else ANY_WIDTH
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
