"""`editkit lora publish`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editkit.cli.lora import Source, check_files, signatures, tell_written
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.backbone import Role


def publish(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must be missing or empty.")],
    backbone: Annotated[
        str, typer.Option("-b", "--backbone", help="Backbone that the LoRA belongs to: a name.")
    ] = "flux1-dev",
    method: Annotated[
        str | None,
        typer.Option("-m", "--method", help="Method that edits with it, if the file does not tell."),
    ] = None,
) -> None:
    """Write a folder to upload to the Hub: the LoRA in diffusers' names, and a model card."""
    check_files([source])
    from editkit import adapters
    from editkit.adapters import hub_folder
    from editkit.backbone import provider

    (state, about), known = adapters.read_adapter(source), signatures()
    try:
        summary = provider().lora.inspect(state, about, known)
        if method is None and summary.method not in known:
            raise EditkitError(f"its method is {summary.method}; name one with --method.")
        method = method or summary.method
        left = hub_folder.write(source, folder, backbone, method, _role(backbone, method), summary)
    except EditkitError as error:
        raise EditkitError(f"{adapters.file(source)} cannot be published: {error}") from error
    tell_written(folder, None, left, 0.0)
    print(f"upload it with: hf upload OWNER/{folder.name} {folder}")


def _role(backbone: str, method: str) -> "Role":
    """Find the role of a backbone that a method edits with."""
    from editkit import registry
    from editkit.backbone import provider

    families = provider().families
    if backbone not in families:
        raise EditkitError(f"The backbone {backbone} is unknown; give one of {', '.join(families)}.")
    roles, wanted = families[backbone].roles, registry.method(method).role
    if wanted not in roles:
        raise EditkitError(f"The backbone {backbone} has no role {wanted}, which {method} needs.")
    return roles[wanted]
