"""`editkit methods` and `editkit backbones`."""

from pathlib import Path
from typing import Annotated, Any

import typer


def methods(
    name: Annotated[
        str | None, typer.Argument(help="Name of a method, to see its tasks and options.")
    ] = None,
) -> None:
    """List the methods, or the tasks and options of one method."""
    import dataclasses

    from editkit import api, config, registry
    from editkit.cli.tables import columns, text

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
            "--plan-device", "--device", help="GPU to plan for, such as rtx4090-24g: show what fits and how."
        ),
    ] = None,
) -> None:
    """List the backbones with their roles, licences and needs, or say what fits a GPU."""
    from editkit.backbone import provider
    from editkit.cli.tables import columns, text

    if device is not None:
        _fits(device)
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


def _fits(device: str) -> None:
    """Each role's weights by part, and the preset with which it fits."""
    from editkit.backbone import provider
    from editkit.cli.tables import columns, text
    from editkit.train.estimate import devices

    known, inventory = devices.by_name(device), provider().inventory
    head = ("", "", "transformer", "encoders", "VAE", "activations", "settings", "weights at once")
    rows = []
    for each in inventory.memory_fits(known.capacity):
        sizes = (each.transformer, each.encoders, each.vae, inventory.ROOM)
        peak = "" if each.preset is None else _gigabytes(each.peak)
        rows.append((each.family, each.role, *map(_gigabytes, sizes), _settings(each.preset), peak))
    print(f"GB in bfloat16 on {known.name}; activations are those of one megapixel, at most.")
    print(text(columns("<<>>>><>", rows, head)))
    print(f"Several roles in one process: {_settings(inventory.best_preset(known.capacity))}")


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g}"


def _settings(preset: str | None) -> str:
    if preset is None:
        return "does not fit"
    return f"--low-memory {preset}" if preset else "none needed"
