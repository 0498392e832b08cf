"""The command line: a thin layer of options over the API. Exit status 0, or 2 with one sentence on stderr."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit import cli_lora
from editkit.errors import EditkitError

# typer brings its own click in newer releases, so the class is reached through a name that typer exports.
UsageError: Any = typer.BadParameter.__base__
INTERRUPTED = 130  # what newer releases return on Ctrl-C, without a word

app = typer.Typer(
    name="editkit",
    help="Instruction-based image editing on FLUX, with interchangeable methods.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
evaluate = typer.Typer(help="Measure edits.", no_args_is_help=True)
weights = typer.Typer(help="Convert weights.", no_args_is_help=True)
app.add_typer(evaluate, name="eval")
app.add_typer(weights, name="weights")
app.add_typer(cli_lora.app, name="lora")

Method = Annotated[str, typer.Option("-m", "--method", help="A name from `editkit methods`.")]
Backbone = Annotated[
    str, typer.Option("-b", "--backbone", help="A name from `editkit backbones`, a folder or Hub id.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Picture to write; replaced if it exists.")]
Seed = Annotated[int, typer.Option(help="Of the noise.")]
Steps = Annotated[int | None, typer.Option(help="Euler steps.")]
Guidance = Annotated[float | None, typer.Option(help="Distilled guidance.")]
Size = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT that the network works at.")]
Negative = Annotated[str | None, typer.Option(help="What not to show; switches true guidance on.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best one here if not given.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
Json = Annotated[bool, typer.Option("--json", help="Print the recipe as JSON.")]
Options = Annotated[list[str] | None, typer.Option("--option", help="An option of the method, key=value.")]
Load = Annotated[list[str] | None, typer.Option("--load", help="An option of the backbone, key=value.")]


@app.command()
def edit(
    image: Annotated[Path, typer.Argument(help="Picture to edit.")],
    instruction: Annotated[str, typer.Argument(help="The edit in words.")],
    method: Method = "kontext",
    backbone: Backbone = "tiny",
    output: Output = Path("edited.png"),
    mask: Annotated[Path | None, typer.Option(help="White where the edit may land.")] = None,
    ref: Annotated[list[Path] | None, typer.Option(help="A reference picture; may be repeated.")] = None,
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    preserve: Annotated[
        bool, typer.Option("--preserve", help="Keep pixels outside the change identical.")
    ] = False,
    negative: Negative = None,
    search: Annotated[int, typer.Option(help="Try this many seeds and keep the one a judge prefers.")] = 1,
    judge: Annotated[str, typer.Option(help="Who judges: preserve or openai.")] = "preserve",
    search_mode: Annotated[str, typer.Option(help="continue or restart the winner.")] = "continue",
    judge_option: Annotated[list[str] | None, typer.Option(help="An option of the judge, key=value.")] = None,
    contact_sheet: Annotated[Path | None, typer.Option(help="Picture of all previews to write.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """Edit a picture; the result is exactly as large as it."""
    wanted = {"seeds": search, "judge": judge, "mode": search_mode}
    judging = {**wanted, "options": _pairs(judge_option, "--judge-option")}
    request = {
        "method": method,
        "mask": mask,
        "references": tuple(ref or ()),
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "size": _size(size),
        "preserve": preserve or None,
        "negative": negative,
        "search": judging if search != 1 or contact_sheet else None,
    }
    loading = (backbone, device, dtype, option, load)
    _edit(image, instruction, request, loading, output, as_json, contact_sheet)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The picture in words.")],
    method: Method = "kontext",
    backbone: Backbone = "tiny",
    output: Output = Path("generated.png"),
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    negative: Negative = None,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    as_json: Json = False,
) -> None:
    """Make a picture from text alone, with the same network."""
    request = {
        "method": method,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "size": _size(size),
        "negative": negative,
    }
    _edit(None, prompt, request, (backbone, device, dtype, option, load), output, as_json)


def _edit(
    image: Path | None,
    instruction: str,
    request: dict[str, Any],
    loading: tuple[str, str | None, str | None, list[str] | None, list[str] | None],
    output: Path,
    as_json: bool,
    contact_sheet: Path | None = None,
) -> None:
    import warnings

    from editkit import api, config, images, registry

    images.check_output(output)
    if contact_sheet:
        images.check_output(contact_sheet)
    backbone, device, dtype, option, load = loading
    chosen, loaded = {str(request["method"]): _pairs(option)}, _pairs(load, "--load")
    config.build(registry.backbones("loading").LoadOptions, loaded)  # none but these are keywords of `load`
    editor = api.load(backbone, device, dtype, options=chosen, **loaded)
    _no_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = editor.edit(image, instruction, **request)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    assert result.image is not None
    images.save(result.image, output, result.recipe)
    if contact_sheet and result.search:
        images.save(result.search.contact_sheet(), contact_sheet, result.recipe)
    if as_json:
        print(json.dumps({"output": str(output), "timings": dict(result.timings), **result.recipe}))
    else:
        print(f"{output} ({result.image.width}x{result.image.height}, {sum(result.timings.values()):.1f} s)")


@app.command()
def methods() -> None:
    """List the methods."""
    from editkit import api

    for method in api.methods():
        print(f"{method.name:<12}{method.summary}\n{'':<12}role {method.role}; {method.paper}")


@app.command()
def backbones() -> None:
    """List the backbones with their roles, licences and needs."""
    from editkit import registry

    for family in registry.backbones("specs").FAMILIES.values():
        print(f"{family.name}: {family.summary}")
        for name, role in family.roles.items():
            guidance = "no guidance" if role.guidance is None else f"guidance {role.guidance:g}"
            source = Path(role.source).name if Path(role.source).is_absolute() else role.source
            print(
                f"  {name:<8} {source:<37} {role.in_channels:>3} channels, {role.steps} steps, {guidance}, "
                f"{role.disk_gb:g} GB disk, {role.memory_gb:g} GB memory; {role.licence}"
            )


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML with what differs from the defaults.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dots for nested keys.")] = None,
) -> None:
    """Train from a config; `fit.resume=latest` goes on where the last run stopped."""
    from editkit import config as configs
    from editkit import registry
    from editkit.train.fit import check, fit

    values = configs.read(config)
    module = registry.recipe(str(values.get("recipe", "edit")))
    settings = configs.build(module.CONFIG, values, overrides or [])
    check(settings.fit)  # before the job, whose making can take long
    loss = fit(module.JOB(settings), settings.fit)
    print(f"{settings.fit.output}/export (loss {loss:.4f} after {settings.fit.steps} steps)")


@evaluate.command()
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
    _no_bars()
    report = scores.evaluate(editor, method, n=n, sessions=sessions, steps=steps, batch_size=batch_size)
    print(scores.table(report))
    scores.write(report, output)
    print(f"{output / 'report.json'}  {output / 'grid.png'}")


@weights.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A native .safetensors file, or a diffusers transformer folder.")
    ],
    destination: Annotated[Path, typer.Argument(help="A folder, or a .safetensors file on the way back.")],
    axes: Annotated[
        str | None, typer.Option(help="RoPE axes, such as 16,56,56, where they cannot be inferred.")
    ] = None,
) -> None:
    """Turn BFL's native FLUX naming into a diffusers folder, or back, exact to the bit."""
    from editkit import registry

    try:
        split = tuple(int(part) for part in axes.split(",")) if axes else None
    except ValueError as error:
        raise EditkitError(f"--axes {axes} is not allowed; give whole numbers such as 16,56,56.") from error
    print(registry.backbones("convert").convert(source, destination, split))


def _no_bars() -> None:
    """Weights load without a bar on stderr, which is for one sentence; downloads keep theirs."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    shown = not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if shown:
        enable_progress_bars()


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text.lower())
    if sides is None:
        raise EditkitError(f"--size {text} is not allowed; give WIDTHxHEIGHT, such as 1024x768.")
    return int(sides[1]), int(sides[2])


def _pairs(options: list[str] | None, name: str = "--option") -> dict[str, Any]:
    import yaml

    pairs = {}
    for option in options or ():
        key, equals, value = option.partition("=")
        if not equals:
            raise EditkitError(f"{name} {option} must read key=value.")
        try:
            pairs[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise EditkitError(
                f"{name} {option} is not YAML behind the equals sign; quote the value."
            ) from error
    return pairs


def main() -> None:
    """Run the command line; every failure that a person can mend is one sentence and status 2."""
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    try:
        status = app(standalone_mode=False)
    except EditkitError as error:
        _fail(str(error))
    except UsageError as error:
        problem = error.format_message().rstrip(".?")
        if type(error).__name__ == "NoArgsIsHelpError":  # a command of commands on its own asks for its help
            print(problem)
            sys.exit(0)
        problem = problem.replace(". Did you", "; did you")
        _fail(f"{problem}; run `editkit --help` to see what is allowed.")
    except (KeyboardInterrupt, typer.Abort):
        _fail("Stopped.")
    if status == INTERRUPTED:
        _fail("Stopped.")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(sentence: str) -> None:
    print(f"editkit: {sentence}", file=sys.stderr)
    sys.exit(2)
