"""`editkit methods` and `editkit backbones`."""

from pathlib import Path


def methods() -> None:
    """List the methods."""
    from editkit import api

    for method in api.methods():
        print(f"{method.name:<12}{method.summary}\n{'':<12}role {method.role}; {method.paper}")


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
