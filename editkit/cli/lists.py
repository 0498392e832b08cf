"""`editkit methods` and `editkit backbones`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from editkit.cli import completion
from editkit.cli.options import DeviceAlias, Load, planned_device
from editkit.errors import EditkitError

COUNTED = ("quantization", "transformer", "text_encoder", "text_encoder_2", "vae")
"""Loading options that an estimate counts."""


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.methods, help="Name of a method, to see its tasks and options."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--plan-device",
            autocompletion=completion.planned_devices,
            help="GPU to plan for, such as rtx4090-24g: estimate an edit's memory and time with flux1-dev.",
        ),
    ] = None,
    load: Load = None,
    alias: DeviceAlias = None,
) -> None:
    """List the methods, or the tasks and options of one method, or estimate an edit on a GPU."""
    import dataclasses

    from editkit import api, config, registry
    from editkit.cli.tables import columns, text

    device = planned_device(device, alias)
    if device is not None or load:
        _estimates(device, registry.method_names() if name is None else [name], load)
        return
    found = api.methods() if name is None else [registry.method(name)]
    about = [((each.name, each.summary), ("", f"role {each.role}; {each.paper}")) for each in found]
    print(text(columns("<<", (row for rows in about for row in rows))))
    if name is None:
        return
    (method,) = found
    if method.tasks:
        tasks = [row for task in method.tasks for row in _task(dataclasses.asdict(task))]
        print("\ntasks (--task NAME)", text(columns("<<", tasks)), sep="\n")
    options = dataclasses.asdict(config.build(method.config, {}))
    rows = ((f"  {key}", _word(value)) for key, value in options.items())
    print("\noptions (--option key=value)", text(columns("<<", rows)), sep="\n")


def _task(known: dict[str, Any]) -> list[tuple[str, str]]:
    """Its name and summary, and what else is known of it."""
    rest = {key: value for key, value in known.items() if key not in ("name", "summary")}
    return [(f"  {known['name']}", known["summary"]), ("", _listed(rest))]


def _listed(values: dict[str, Any]) -> str:
    """Those that are set, as words."""
    return ", ".join(f"{key} {_word(value)}" for key, value in values.items() if value not in (None, "", ()))


def _word(value: Any) -> str:
    """A value as it would be given."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "[]"
    if isinstance(value, str) and value != value.strip():
        return repr(value)
    return "null" if value is None else str(value)


def backbones(
    device: Annotated[
        str | None,
        typer.Option(
            "--plan-device",
            autocompletion=completion.planned_devices,
            help="GPU to plan for, such as rtx4090-24g: show what fits and how.",
        ),
    ] = None,
    load: Load = None,
    alias: DeviceAlias = None,
) -> None:
    """List the backbones with their roles, licences and needs, or say what fits a GPU."""
    from editkit.backbone import provider
    from editkit.cli.tables import columns, text

    device = planned_device(device, alias)
    if device is not None or load:
        _fits(device, load)
        return
    for family in provider().families.values():
        print(f"{family.name}: {family.summary}")
        rows = []
        for name, role in family.roles.items():
            guidance = "no guidance" if role.guidance is None else f"guidance {role.guidance:g}"
            source = role.file or role.source
            if Path(source).is_absolute():
                source = f"{role.start}, widened" if role.start else Path(source).name
            needs = (
                f"{role.in_channels} channels, {role.steps} steps, {guidance}, "
                f"{role.disk_gb:g} GB disk, {role.memory_gb:g} GB memory; {role.licence}"
            )
            rows.append((f"  {name}", source, needs))
        print(text(columns("<<<", rows)))


def _fits(device: str | None, load: list[str] | None) -> None:
    """Each role's weights by part, and the preset with which it fits."""
    from editkit import gpus
    from editkit.backbone import provider
    from editkit.cli.tables import columns, text

    loading = _loading(device, load)
    known, inventory = gpus.by_name(device or ""), provider().inventory
    head = ("", "", "transformer", "encoders", "VAE", "activations", "settings", "weights at once")
    rows = []
    for each in inventory.memory_fits(known.capacity, loading):
        sizes = (each.transformer, each.encoders, each.vae, inventory.ROOM)
        peak = "" if each.preset is None else _gigabytes(each.peak)
        rows.append((each.family, each.role, *map(_gigabytes, sizes), _settings(each.preset), peak))
    print(f"GB {_precision(loading)} on {known.name}; activations are those of one megapixel, at most.")
    print(text(columns("<<>>>><>", rows, head)))
    if not loading:
        print(f"Several roles in one process: {_settings(inventory.best_preset(known.capacity))}")


def _estimates(device: str | None, names: Sequence[str], load: list[str] | None) -> None:
    """Print the estimated memory and seconds of one edit by each of these methods."""
    from editkit import gpus
    from editkit.cli.tables import columns, text
    from editkit.train.estimate import edits
    from editkit.train.estimate.plan import UTILIZATION

    loading = _loading(device, load)
    known = gpus.by_name(device or "")
    rows = []
    for each in edits.estimate(known, names, loading):
        seconds = "" if each.seconds is None else f"{each.seconds:.0f}"
        memory = "" if each.preset is None else _gigabytes(each.memory)
        canvas = f"{each.width}x{each.height}"
        shape = (each.method, canvas, each.tokens, each.steps, f"{each.flops / 1e12:.0f}")
        rows.append((*shape, _settings(each.preset), memory, seconds))
    head = ("", "canvas", "tokens", "steps", "TFLOP a step", "settings", "GB at once", "seconds")
    side, backbone = edits.SIDE, edits.BACKBONE
    print(f"An edit of {side}x{side} pixels with {backbone} on {known.name}.")
    print("These are estimates from shapes and the maker's figures, not measurements.")
    print(text(columns("<<>>><>>", rows, head)))
    print(f"Seconds are those of the steps alone: {UTILIZATION:.0%} of the device's bf16 figure, or")
    print(f"{edits.TRANSFER / 1e9:.0f} GB/s where weights come to the device in each step.")


def _loading(device: str | None, load: list[str] | None) -> dict[str, Any]:
    """Return the loading options of an estimate.

    Raises:
        EditkitError: where no device is named, or for an option that estimates do not count.
    """
    from editkit.backbone import provider
    from editkit.cli.options import pairs
    from editkit.train.estimate import edits

    if device is None:
        raise EditkitError("--load is for an estimate; name a device too, such as --plan-device rtx4090-24g.")
    loaded = pairs(load, "--load")
    if strange := [key for key in loaded if key not in COUNTED]:
        counted = ", ".join(COUNTED)
        raise EditkitError(f"An estimate counts --load of {counted} alone; leave {strange[0]} out.")
    provider().estimate(edits.BACKBONE, loaded)  # refuses what loading would refuse
    return loaded


def _precision(loading: dict[str, Any]) -> str:
    """Say which models are not in bfloat16."""
    quantization = loading.get("quantization") or {}
    # Where it names no model, it is the transformer's.
    parts = ([key for key in quantization if key in COUNTED] or ["transformer"]) if quantization else []
    told = [f"{' and '.join(parts)} quantized"] if parts else []
    if files := [key for key in loading if key != "quantization"]:
        told.append(f"{' and '.join(files)} as in the files given")
    return f"{', '.join(told)}, the rest in bfloat16" if told else "in bfloat16"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g}"


def _settings(preset: str | None) -> str:
    if preset is None:
        return "does not fit"
    return f"--low-memory {preset}" if preset else "none needed"
