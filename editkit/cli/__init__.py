"""The command line: a thin layer of options over the API.

Exit status 0, 2 with one sentence on stderr, or 130 after Ctrl-C.
"""

import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from editkit import __version__, packages
from editkit.cli import (
    arena,
    batch,
    compare,
    completion,
    data,
    defaults,
    demo,
    doctor,
    edit,
    evaluate,
    evaluate_reports,
    evaluate_runs,
    evaluate_vae,
    lists,
    lora,
    lora_publish,
    replay,
    serve,
    stages,
    train,
    weights,
)
from editkit.cli.defaults import EPILOG
from editkit.cli.options import say
from editkit.cli.terminal import Quiet, Verbose, verbosity
from editkit.errors import EditkitError, EditkitWarning

# typer brings its own click in newer releases, so the class is reached through a name that typer exports.
UsageError: Any = typer.BadParameter.__base__
SHOWN = warnings.showwarning
BRACES = str.maketrans("", "", "{}")
INTERRUPTED = 130  # what newer releases return on Ctrl-C, without a word

app = typer.Typer(
    name="editkit",
    help="Instruction-based image editing on FLUX, with interchangeable methods.",
    no_args_is_help=True,
    epilog=EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    edit.edit,
    edit.generate,
    compare.compare,
    replay.replay,
    lists.methods,
    lists.backbones,
    train.train,
    stages.stages,
    demo.demo,
    serve.serve,
    batch.batch,
    arena.arena,
    doctor.doctor,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"editkit {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
]


@app.callback()
def root(
    context: typer.Context, version: Version = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Instruction-based image editing on FLUX, with interchangeable methods."""
    verbosity.quiet = verbosity.verbose = False
    verbosity.add(quiet, verbose)
    context.default_map = defaults.by_command(context.command, defaults.kept())


for command in COMMANDS:
    app.command()(command)
for command in (
    evaluate_runs.run,
    evaluate_vae.vae,
    evaluate_reports.report,
    evaluate_reports.compare,
    evaluate_reports.export,
    evaluate_reports.benchmarks,
):
    evaluate.app.command()(command)
lora.app.command()(lora_publish.publish)
for name, group in (("eval", evaluate), ("data", data), ("weights", weights), ("lora", lora)):
    app.add_typer(group.app, name=name)


def main() -> None:
    """Run the command line; every failure that a person can mend is one sentence and status 2."""
    packages.own_package("backbones")  # which silences libraries, if it comes before them
    warnings.showwarning = _note  # type: ignore[assignment]
    completion.mend()
    try:
        status = app(standalone_mode=False)
    except EditkitError as error:
        if verbosity.verbose:
            traceback.print_exc()
        _fail(str(error), getattr(error, "status", 2))
    except UsageError as error:
        problem = error.format_message().rstrip(".?")
        if type(error).__name__ == "NoArgsIsHelpError":  # a command of commands on its own asks for its help
            print(problem)
            sys.exit(0)
        problem = problem.replace(". Did you", "; did you")
        command, wanted = _command(error.ctx)
        # The argument that click names may not be the one that was forgotten, so the whole line is shown.
        if problem.startswith("Missing argument"):
            problem += f", as in `{command} {wanted}`"
        _fail(f"{problem}; run `{command} --help` to see what is allowed.")
    except (KeyboardInterrupt, typer.Abort):
        _fail("Stopped.", INTERRUPTED)
    if status == INTERRUPTED:
        _fail("Stopped.", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _command(context: Any) -> tuple[str, str]:
    """The command that was given, and its arguments as its help names them."""
    names: list[str] = []
    pieces = [] if context is None else context.command.collect_usage_pieces(context)
    wanted = " ".join(
        piece.strip("[]").translate(BRACES).replace("...", "…").upper() for piece in pieces[1:]
    )  # not [OPTIONS]
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(["editkit", *names]), wanted


def _note(message: Any, category: type[Warning], *rest: Any) -> None:
    """editkit's own warnings as notes; libraries', which speak to programmers, where Python's -W asks."""
    if issubclass(category, EditkitWarning):
        say([str(message)])
    elif sys.warnoptions or verbosity.verbose:
        SHOWN(message, category, *rest)


def _fail(sentence: str, status: int = 2) -> None:
    print(f"editkit: {sentence}", file=sys.stderr)
    sys.exit(status)
