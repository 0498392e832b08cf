"""`editkit arena`: people vote on results side by side."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editkit.cli import options
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.evaluation.arena import Votes

FILE = "arena.sqlite"


def arena(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs of one benchmark.")],
    votes: Annotated[
        Path | None, typer.Option(help="File of the votes. If not given, arena.sqlite in the first run.")
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(
            help="Qualities to vote on, with commas between. If none are given, "
            "instruction,preservation,overall. With --ranking, those to rank; all if none are given."
        ),
    ] = None,
    ranking: Annotated[bool, typer.Option("--ranking", help="Print the ranking, and open no page.")] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the votes as .csv or .json, and open no page.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, options.whole_number("Port to listen at.")] = 7861,
    share: Annotated[
        bool, typer.Option("--share", help="Open a public link through gradio's servers.")
    ] = False,
    password: Annotated[
        str | None,
        typer.Option(envvar="EDITKIT_PASSWORD", help="Password that voters must give.", show_envvar=True),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Open a page of blind votes on two results side by side, or rank the votes so far."""
    verbosity.add(quiet, verbose)
    from editkit import packages
    from editkit.evaluation.arena import Votes, open_contest
    from editkit.evaluation.arena.contest import DEFAULT

    asked = [each.strip() for each in qualities.split(",") if each.strip()] if qualities else list(DEFAULT)
    if not asked or len(set(asked)) < len(asked):
        raise EditkitError(
            f"--qualities {qualities} names none, or one twice; give names with commas between."
        )
    file = votes or runs[0] / FILE
    if ranking or export is not None:
        if not file.is_file():
            raise EditkitError(f"There are no votes at {file}; open the page first, or give --votes.")
        _tell(Votes(file), export, ranking, asked if qualities else [])
        return
    contest = open_contest(runs)
    options.say(contest.left_out())
    packages.own_package("demos")
    importlib.import_module("demos.arena").serve(
        contest, Votes(file), asked, host=host, port=port, share=share, password=password or None
    )


def _tell(votes: Votes, export: Path | None, ranked: bool, qualities: Sequence[str]) -> None:
    if qualities and not ranked:
        raise EditkitError(
            "--qualities has no use with --export alone, which writes all votes; leave it out."
        )
    told = table(votes, qualities) if ranked else ""
    if export is not None:
        options.say([f"{votes.export(export)} votes"])
        print(export)
    if ranked:
        print(told)


def table(votes: Votes, qualities: Sequence[str] = ()) -> str:
    """The ranking of each quality as text; of all that have votes where none are given.

    Raises:
        EditkitError: where there are no votes on a quality.
    """
    from editkit.cli.tables import columns, text
    from editkit.evaluation.arena import ranking

    found = votes.all()
    known = list(dict.fromkeys(vote.quality for vote in found))
    if strange := [each for each in qualities if each not in known]:
        raise EditkitError(
            f"There are no votes on {strange[0]!r}; there are on {', '.join(sorted(known)) or 'nothing'}."
        )
    rows = [
        (
            quality,
            rank.contestant,
            f"{rank.rating:.0f}",
            f"{rank.low:.0f} to {rank.high:.0f}",
            rank.wins,
            rank.ties,
            rank.losses,
        )
        for quality in qualities or known
        for rank in ranking([vote for vote in found if vote.quality == quality])
    ]
    if not rows:
        return "There are no votes yet."
    return text(columns("<<>>>>>", rows, ("", "", "rating", "95 % interval", "won", "tied", "lost")))
