"""`editkit lora`: inspect, convert and merge LoRA files, and collapse a LoRA-MoE."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli.options import say, split_scale, whole_number
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.backbone import AdapterSignature, ExpertsSummary, LoraSummary
    from editkit.method import Collapse

app = typer.Typer(help="Inspect, convert, merge and publish LoRA files.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(help="LoRA to read: a .safetensors file, or a folder with one.")]
Destination = Annotated[
    Path, typer.Argument(help="Where to write: a .safetensors file, which is replaced if it exists.")
]


@app.command()
def inspect(
    file: Source,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Describe a LoRA file: dialect, rank, the layers that it adapts, and tensors that would not load."""
    check_files([file])
    from editkit import adapters
    from editkit.backbone import provider

    state, about = adapters.read_adapter(file)
    try:
        summary = provider().lora.inspect(state, about, signatures())
    except EditkitError as error:
        raise EditkitError(f"{adapters.file(file)} cannot be read as a LoRA: {error}") from error
    print(json.dumps(asdict(summary)) if as_json else _table(summary))


@app.command()
def convert(
    source: Source,
    destination: Destination,
    to: Annotated[str, typer.Option("--to", help="Dialect to write: diffusers, kohya, bfl or comfyui.")],
    rank: Annotated[int | None, whole_number("Reduce updates of a higher rank to this rank.")] = None,
) -> None:
    """Write a LoRA in another dialect. Without --rank, every weight gets the same update as before."""
    check_files([source])
    from editkit.backbone import provider

    tell_written(destination, rank, *provider().lora.convert(source, destination, to, rank))


@app.command()
def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="LoRAs to add up: files or folders, each with =SCALE behind it if the scale is not 1."
        ),
    ],
    destination: Destination,
    rank: Annotated[
        int | None, whole_number("Highest rank of the result. If not given, the ranks add up.")
    ] = None,
) -> None:
    """Add LoRAs up and write the sum as one LoRA, in the dialect of diffusers."""
    terms = [(Path(path), scale) for path, scale in map(split_scale, sources)]
    check_files(path for path, _ in terms)
    from editkit.backbone import provider

    tell_written(destination, rank, *provider().lora.merge(terms, destination, rank))


@app.command()
def collapse(
    source: Source,
    destination: Destination,
    way: Annotated[
        str,
        typer.Option(
            help="How experts become one: svd finds the nearest update, average takes the mean of "
            "their matrices."
        ),
    ] = "svd",
    rank: Annotated[
        int | None,
        whole_number("Rank of the LoRA that replaces the experts. If not given, the rank of one expert."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="JSON file: for each module a list with the mean weight of each expert."),
    ] = None,
) -> None:
    """Turn a LoRA-MoE into a plain LoRA, and say how much is lost."""
    check_files([source])
    from editkit import adapters
    from editkit.backbone import provider

    lora = provider().lora
    lora.check_destination(destination)
    state, about = adapters.read_adapter(source)
    try:
        experts = lora.inspect(state, about, signatures()).experts
        if experts is None:
            raise EditkitError("there are no experts in it; give a LoRA-MoE.")
        routing = _routing(weights, state) if weights else None
        scale = experts.alpha / experts.rank
        plain = _collapser()(state, way=way, weights=routing, rank=rank, scale=scale)
        tensors, metadata = lora.plain_lora(state, plain.state, about)
    except EditkitError as error:
        raise EditkitError(f"{adapters.file(source)} cannot be collapsed: {error}") from error
    lora.write_file(tensors, metadata, destination)
    worst = max(plain.errors, key=plain.errors.__getitem__)
    say(_limits(experts, routed=bool(routing)))
    print(destination)
    print(f"mean relative error {plain.error:.4f} over {len(plain.errors)} modules")
    print(f"worst {plain.errors[worst]:.4f} at {worst}")


def check_files(files: Iterable[Path]) -> None:
    """Look for the files before torch is imported, which takes long."""
    from editkit.adapters.files import check_adapter_file

    for each in files:
        check_adapter_file(each)


def tell_written(destination: Path, rank: int | None, left: Sequence[str], lost: float) -> None:
    if left:
        say([f"{len(left)} tensors of text encoders were left out, such as {left[0]}"])
    print(destination)
    if rank is not None:
        print(f"relative error {lost:.4f}")


def signatures() -> "dict[str, AdapterSignature]":
    """Return the signatures that recognise each method's adapter files."""
    from editkit import registry

    signatures = {name: registry.method(name).signature for name in registry.method_names()}
    return {name: signature for name, signature in signatures.items() if signature}


def _collapser() -> "Collapse":
    """Return the collapse of the method whose adapters carry experts."""
    from editkit import registry

    found = (registry.method(name).collapse_adapter for name in registry.method_names())
    return next(collapse for collapse in found if collapse)


def _limits(experts: "ExpertsSummary", *, routed: bool) -> Iterator[str]:
    """Notes on what a plain LoRA and the errors printed of it leave out."""
    if experts.router == "paper" and not routed:
        yield (
            "this router does not give experts their full weight, so the plain LoRA is too strong; "
            "give the mean weights with --weights"
        )
    if experts.top_k > 1:
        yield (
            f"each token uses {experts.top_k} experts, but the errors below are of single experts; "
            "use them to compare --way and --rank only"
        )


def _routing(path: Path, state: Mapping[str, Any]) -> dict[str, list[float]]:
    wanted = "give JSON with a list of weights, one an expert, by module"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EditkitError(f"--weights {path} cannot be read; {wanted}.") from error
    except ValueError as error:
        raise EditkitError(f"--weights {path} is no JSON; {wanted}.") from error
    if not isinstance(values, dict) or not all(map(_numbers, values.values())):
        raise EditkitError(f"--weights {path} holds something else; {wanted}.")
    if strange := [name for name in values if f"transformer.{name}.lora_route.weight" not in state]:
        raise EditkitError(f"--weights {path} names {strange[0]}, which has no experts; {wanted}.")
    return values


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )


def _table(summary: "LoraSummary") -> str:
    from editkit.cli.tables import columns, text

    note = "LoRA-MoE" if summary.experts else summary.sort
    takes = f", x_embedder takes {summary.x_embedder}" if summary.x_embedder else ", no x_embedder"
    rows: list[tuple[str, object]] = [
        ("dialect", summary.dialect),
        ("method", f"{summary.method}{'' if note == 'LoRA' else f' ({note})'}"),
        ("width", f"{summary.width}{takes}"),
        ("rank", ", ".join(map(str, summary.ranks))),
        ("alpha", ", ".join(f"{alpha:g}" for alpha in summary.alphas)),
        ("coverage", f"{summary.modules} of {summary.possible} linear modules"),
        ("", columns("><", ((number, kind) for kind, number in summary.kinds.items()))),
    ]
    if experts := summary.experts:
        each = f"{experts.number} of rank {experts.rank}, alpha {experts.alpha:g}"
        routed = f"on {experts.modules} more modules; top-k {experts.top_k}, router {experts.router}"
        rows.append(("experts", f"{each}, {routed}"))
    few = ", ".join(summary.unplaced[:2]) + (", ..." if len(summary.unplaced) > 2 else "")
    # Experts are no part of a plain LoRA; whoever loads the file with diffusers alone loses them.
    where = " by diffusers alone, not by editkit" if summary.experts else ""
    left = f"{len(summary.unplaced)} tensors ({few}){where}" if summary.unplaced else "none"
    return text(columns("<<", [*rows, ("unloaded", left)]))
