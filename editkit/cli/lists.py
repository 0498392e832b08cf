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

    for method in api.methods() if name is None else [registry.method(name)]:
        print(f"{method.name:<12}{method.summary}\n{'':<12}role {method.role}; {method.paper}")
        if name is None:
            continue
        if method.tasks:
            print("\ntasks (--task NAME)")
        for task in method.tasks:
            known = dataclasses.asdict(task)
            told = {key: value for key, value in known.items() if key not in ("name", "summary")}
            print(f"  {task.name:<16}{task.summary}\n{'':<18}{_listed(told)}")
        print("\noptions (--option key=value)")
        options = dataclasses.asdict(config.build(method.config, {}))
        for key, value in options.items():
            print(f"  {key:<18}{_word(value)}")


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

    for family in provider().families.values():
        print(f"{family.name}: {family.summary}")
        for name, role in family.roles.items():
            guidance = "no guidance" if role.guidance is None else f"guidance {role.guidance:g}"
            source = role.file or role.source
            if Path(source).is_absolute():
                source = f"{role.start}, widened" if role.start else Path(source).name
            print(
                f"  {name:<8} {source:<37} {role.in_channels:>3} channels, {role.steps} steps, {guidance}, "
                f"{role.disk_gb:g} GB disk, {role.memory_gb:g} GB memory; {role.licence}"
            )
