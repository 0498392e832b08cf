"""`editkit batch`."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import few_steps, options, search, terminal
from editkit.cli.few_steps import Fast
from editkit.cli.options import Backbone, Device, Dtype, Load, Lora, LowMemory, Options
from editkit.cli.request import takes
from editkit.errors import EditkitError
from editkit.request import FIELDS

if TYPE_CHECKING:
    from editkit.editor import Editor
    from editkit.inference.few_steps import FewSteps
    from editkit.serving.jobs.job import Share
    from editkit.serving.jobs.manifest import Item
    from editkit.serving.jobs.plan import Batch
    from editkit.serving.jobs.store import Store

Manifest = Annotated[
    Path, typer.Argument(help="JSONL, CSV, parquet, a Hugging Face dataset on disk, or a folder of pictures.")
]
Columns = Annotated[
    list[str] | None, typer.Option(help="Column that holds a field, as FIELD=COLUMN; may be repeated.")
]
Preset = Annotated[
    str | None, typer.Option(help="Columns of a known dataset, such as magicbrush or instructpix2pix.")
]
Shard = Annotated[str | None, typer.Option(metavar="K/N", help="Do part K of N only; K counts from 0.")]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Address of a Ray cluster, auto to find it; local starts one here."),
]


@takes(*(name for name in FIELDS if name not in ("image", "instruction")))
def batch(
    asked: dict[str, Any],
    manifest: Manifest,
    backbone: Backbone = "tiny",
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for pictures, logs and recipes.parquet.")],
    instruction: Annotated[str | None, typer.Option(help="Instruction for items that have none.")] = None,
    column: Columns = None,
    preset: Preset = None,
    batch_size: Annotated[int, options.whole_number("Largest number of edits in a batch.")] = 8,
    shard: Shard = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try items that failed before again.")] = False,
    ray: Cluster = None,
    workers: Annotated[int, options.whole_number("Workers on the Ray cluster.")] = 1,
    gpus: Annotated[float, typer.Option(help="GPUs of each worker on the Ray cluster.")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    option: Options = None,
    load: Load = None,
    lora: Lora = None,
    low_memory: LowMemory = None,
    fast: Fast = False,
) -> None:
    """Edit all items of a manifest. Give the same command again to go on after a stop."""
    _check_numbers(batch_size, ray, workers, gpus)
    if fast:
        few_steps.check_few_steps(asked)
    shared = _shared(asked, instruction)
    from editkit.serving.jobs import job, plan
    from editkit.serving.jobs import manifest as manifests
    from editkit.serving.jobs.store import Store

    share = _share(shard)
    if ray is not None and share.of > 1:
        raise EditkitError("--ray spreads the work itself; leave --shard and accelerate out.")
    items = manifests.read_manifest(manifest, shared, _columns(column), preset)
    _tell_drawn(items)
    loading: dict[str, Any] = {"backbone": backbone, "dtype": dtype}
    loading |= {"load": load, "lora": lora, "low_memory": low_memory}
    named = {asked["method"]: options.pairs(option)}
    editor = partial(options.editor, device=device or _own_device(), options=named, **loading)
    chosen = None
    if fast:
        chosen = few_steps.chosen(editor(), asked["method"], options.scaled(lora))
        editor, items = partial(_adapted, editor, chosen), _in_few_steps(items, asked["method"], chosen)
    kept = {"option": option, "batch_size": batch_size, "fast": chosen and asdict(chosen)}
    store = Store(out, {**loading, **kept})
    batches = plan.batches(items, batch_size)
    if ray is not None:
        from editkit.serving import ray_jobs

        ray_jobs.run(editor, batches, store, address=ray, workers=workers, gpus=gpus, retry=retry)
    else:
        _run_share(editor, batches, store, share, retry)
    _tell(job.finish(items, store), store.folder)


def _check_numbers(batch_size: int, ray: str | None, workers: int, gpus: float) -> None:
    """Check the size of a batch, and the options of a cluster.

    Raises:
        EditkitError: for a number that is not allowed, or options of a cluster without one.
    """
    if batch_size < 1:
        raise EditkitError(f"--batch-size {batch_size} is not allowed; give at least 1.")
    if ray is None and (workers, gpus) != (1, 0):
        raise EditkitError("--workers and --gpus are for a cluster; give --ray too, or leave them out.")
    if workers < 1 or not 0 <= gpus < math.inf:
        raise EditkitError(
            f"--workers {workers} --gpus {gpus:g} is not allowed; give 1 worker or more, and 0 GPUs or more."
        )


def _shared(asked: dict[str, Any], instruction: str | None) -> dict[str, Any]:
    """Fields for every item of the manifest, which an item's own fields replace."""
    shared = {name: value for name, value in asked.items() if value not in (None, ())}
    shared["search"] = search.requested(asked["search"], None)
    if shared["search"] is None:
        del shared["search"]
    shared |= {name: _whole(shared[name]) for name in ("references", "mask") if name in shared}
    if instruction is not None:
        shared["instruction"] = instruction
    return shared


def _adapted(load: "Callable[[], Editor]", found: "FewSteps") -> "Editor":
    """Load an editor that edits in few steps; a cluster's worker gets this function."""
    return few_steps.adapted(load(), found)


def _in_few_steps(items: "Sequence[Item]", method: str, found: "FewSteps") -> "list[Item]":
    """Items with the steps and guidance of what they are made by; one that says otherwise fails."""
    chosen = {name: getattr(found, name) for name in few_steps.CHOSEN}
    made = []
    for item in items:
        own = [name for name in few_steps.CHOSEN if item.row.get(name) not in (None, "")]
        if item.row.get("method") not in (None, "", method):
            own.append("method")
        problem = f"--fast chooses steps and guidance for {method}; leave {own[0]} out." if own else None
        shared = {**item.shared, **chosen}
        made.append(replace(item, shared=shared, problem=item.problem or problem))
    return made


def _run_share(
    editor: "Callable[[], Editor]",
    batches: "Sequence[Batch]",
    store: "Store",
    share: "Share",
    retry: bool,
) -> None:
    """Make the batches of this process, with an editor that is loaded when the first one needs it."""
    from editkit.serving.jobs import job

    first, last = share.range(len(batches))
    with terminal.progress("batch", sum(map(len, batches[first:last]))) as bar:
        job.run(cache(editor), batches, store, share, retry=retry, tell=lambda _: bar.advance(1))


def _tell_drawn(items: "Sequence[Item]") -> None:
    """Say which items have no picture where others have one: an empty cell may be a slip."""
    valid = [each for each in items if each.problem is None]
    drawn = [each.name for each in valid if each.row.get("image") in (None, "")]
    if 0 < len(drawn) < len(valid):
        options.say(
            [f"{len(drawn)} items have no image and are drawn from their words; the first: {drawn[0]}"]
        )


def _tell(done: Any, folder: Path) -> None:
    """Print the outcome.

    Raises:
        EditkitError: where items failed.
    """
    if done is None:
        print(f"{folder} (this process' part; others have some left)")
        return
    failed = [each for each in done if each.error is not None]
    options.say(f"{each.name}: {each.error}" for each in failed[:20])
    if failed:
        raise EditkitError(
            f"{len(failed)} of {len(done)} items failed; {folder / 'recipes.parquet'} says why of each."
        )
    print(f"{folder / 'recipes.parquet'} ({len(done)} pictures)")


def _share(shard: str | None) -> Any:
    """The part of this process: as asked for, as `accelerate launch` says, or everything."""
    from editkit.serving.jobs.job import Share

    name, given = "--shard", shard
    if given is None:
        name = "RANK/WORLD_SIZE in the environment,"
        given = f"{os.environ.get('RANK', 0)}/{os.environ.get('WORLD_SIZE', 1)}"
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", given)
    if found is None or int(found[1]) >= int(found[2]):
        raise EditkitError(f"{name} {given} is not allowed; give K/N with K from 0 to N - 1, such as 0/4.")
    return Share(place=int(found[1]), of=int(found[2]))


def _own_device() -> str | None:
    """The GPU that `accelerate launch` gives to this process."""
    if "LOCAL_RANK" not in os.environ:
        return None
    import torch

    return f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else None


def _columns(given: list[str] | None) -> dict[str, str]:
    found = {}
    for each in given or ():
        field, equals, name = each.partition("=")
        if not (equals and name):
            raise EditkitError(f"--column {each} must have the form FIELD=COLUMN.")
        if field in found:
            raise EditkitError(f"--column names {field} twice; give it once.")
        found[field] = name
    return found


def _whole(value: Any) -> Any:
    """Paths from the command line, which do not start at the manifest's folder."""
    if isinstance(value, tuple):
        return [str(each.absolute()) for each in value]
    return str(value.absolute())
