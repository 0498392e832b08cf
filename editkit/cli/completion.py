"""Names that the shell completes; none of these imports torch."""


def methods(incomplete: str) -> list[str]:
    """Names of methods; behind a comma, those that may stand beside what was named before."""
    from editkit import registry

    before = incomplete[: incomplete.rfind(",") + 1]
    return [f"{before}{name}" for name in registry.method_names() if name not in before.split(",")]


def backbones() -> list[str]:
    """Names of backbones."""
    from editkit.backbone import provider

    return list(provider().families)


def planned_devices() -> list[str]:
    """Names of GPUs to plan for."""
    from editkit import gpus

    return list(gpus.KNOWN)
