"""Names that the shell completes, none of which imports torch; and the script that asks for them."""

from typer import _completion_shared

FIRST_TAB = """
if [[ $funcstack[1] == _%(prog_name)s ]]; then
  %(complete_func)s
fi
"""
"""End of zsh's script, which zsh runs as the function `_editkit` at the first Tab of a shell.

typer's own script only defines the function for later ones then, so that the first Tab would do nothing.
"""


def mend_zsh() -> None:
    """Let zsh complete at the first Tab of a shell, where typer's script does not do so by itself."""
    scripts: dict[str, str] = _completion_shared._completion_scripts
    if "funcstack" not in scripts["zsh"]:
        scripts["zsh"] += FIRST_TAB


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
