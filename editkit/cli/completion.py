"""Names that the shell completes, none of which imports torch; and the script that asks for them."""

from typing import Any

from typer import _completion_classes, _completion_shared

FIRST_TAB = """
if [[ $funcstack[1] == _%(prog_name)s ]]; then
  %(complete_func)s
fi
"""
"""End of zsh's script, which zsh runs as the function `_editkit` at the first Tab of a shell.

typer's own script only defines the function for later ones then, so that the first Tab would do nothing.
"""


class BashComplete(_completion_classes.BashComplete):
    """Completes behind `--option=` too, which bash splits into the option, the sign and the value."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, without signs behind options, and that one."""
        args, incomplete = super().get_completion_args()
        before = ["", *args]
        kept = [
            word
            for last, word in zip(before, args, strict=False)
            if not (word == "=" and last.startswith("--"))
        ]
        return kept, incomplete


class _Joined:
    """Completes behind `--option=` in shells that take the option, the sign and the value for one word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[Any]:
        """Return the completions of a word, which begin as the word does."""
        found: list[Any] = super().get_completions(args, incomplete)  # type: ignore[misc]
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("--"):
            for each in found:
                each.value = f"{option}={each.value}"
        return found


class ZshComplete(_Joined, _completion_classes.ZshComplete):
    """Completes behind `--option=` too."""


class FishComplete(_Joined, _completion_classes.FishComplete):
    """Completes behind `--option=` too."""


def mend() -> None:
    """Let shells complete behind an equals sign, and zsh at the first Tab of a shell."""
    _completion_classes.BashComplete = BashComplete  # type: ignore[misc]
    _completion_classes.ZshComplete = ZshComplete  # type: ignore[misc]
    _completion_classes.FishComplete = FishComplete  # type: ignore[misc]
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
