"""The options of a seed search, for every command that has one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli.options import pairs
from editkit.errors import EditkitError

Search = Annotated[int, typer.Option(help="Try this many seeds and keep the one a judge prefers.")]
Judge = Annotated[
    str | None, typer.Option(help="Who judges: preserve, tiny, qwen-vl or openai.  [default: preserve]")
]
SearchMode = Annotated[str | None, typer.Option(help="continue or restart the winner.  [default: continue]")]
PreviewSteps = Annotated[
    int | None, typer.Option(help="Steps before the judge looks; a quarter of all if not given.")
]
BothOrders = Annotated[
    bool | None,
    typer.Option(
        "--both-orders/--one-order",
        help="Ask the judge twice, the pictures swapped; or once.  [default: both-orders]",
    ),
]
JudgeOption = Annotated[list[str] | None, typer.Option(help="An option of the judge, key=value.")]
ContactSheet = Annotated[Path | None, typer.Option(help="Picture of all previews to write.")]


def asked(
    seeds: int,
    judge: str | None,
    mode: str | None,
    preview_steps: int | None,
    both_orders: bool | None,
    judge_option: list[str] | None,
    contact_sheet: Path | None,
) -> dict[str, Any] | None:
    """The fields of a `SeedSearch` that were given, or None where there is nothing to search.

    Raises:
        EditkitError: for options of a search that is not asked for.
    """
    options = pairs(judge_option, "--judge-option")
    given = {
        "judge": judge,
        "mode": mode,
        "preview_steps": preview_steps,
        "both_orders": both_orders,
        "options": options or None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if seeds != 1 or contact_sheet is not None:
        return {"seeds": seeds, **given}
    if given:
        raise EditkitError(
            "--judge, --search-mode, --preview-steps, --both-orders, --one-order and --judge-option need "
            "--search with several seeds."
        )
    return None
