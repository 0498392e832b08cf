"""`editkit methods` and `editkit backbones`."""

from pathlib import Path
from typing import Annotated, Any

import typer


def methods(
    name: Annotated[str | None, typer.Argument(help="One of them, with its tasks and options.")] = None,
) -> None:
    """List the methods, or what one of them can do and be told."""
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


def backbones() -> None:
    """List the backbones with their roles, licences and needs."""
    from editkit.backbone import provider
    from editkit.cli.tables import columns, text

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
