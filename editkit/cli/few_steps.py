"""`--fast`: edit in few steps, by what was distilled for them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.editor import Editor
    from editkit.inference.few_steps import FewSteps

Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Edit in few steps: with a distilled --lora or distilled weights, else with a known adapter.",
    ),
]
CHOSEN = ("steps", "guidance")
"""Fields of a request that `--fast` chooses."""


def check_few_steps(asked: Mapping[str, Any]) -> None:
    """Check that a request leaves open what `--fast` chooses.

    Raises:
        EditkitError: where it does not.
    """
    if own := [name for name in CHOSEN if asked[name] is not None]:
        raise EditkitError(f"--fast chooses steps and guidance; leave --{own[0]} or --fast out.")


def chosen(editor: "Editor", method: str, lora: Mapping[str, float]) -> "FewSteps":
    """Find what a method edits in few steps by, on an editor with these adapters.

    Raises:
        EditkitError: where nothing is known, or several are.
    """
    from editkit.inference.few_steps import find

    record, _ = editor.method(method)
    return find(editor.backbone, record.name, editor.role(method), lora)


def adapted(editor: "Editor", found: "FewSteps") -> "Editor":
    """Give an editor the adapter that was found, if any."""
    return editor if found.adapter is None else editor.configured(None, {found.adapter: found.scale})
