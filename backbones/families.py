"""Find the record of a FLUX family: in the table, in a local folder, or on the Hub."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.hub import CONFIG_FILES, fetch
from backbones.hub_cache import read_json
from backbones.specs import FAMILIES, PUBLISHED_SHAPE, TINY
from editkit.backbone import Family, Role
from editkit.errors import EditkitError, unknown

ROLE_OF_PIPELINE = {
    "FluxPipeline": "text",
    "FluxKontextPipeline": "kontext",
    "FluxFillPipeline": "fill",
}
"""Roles by the class names of diffusers' pipelines."""


def find_family(name: str) -> Family:
    """Return the family of a name, a local diffusers folder or a Hub id.

    Raises:
        EditkitError: where it is none of these.
    """
    name = os.fspath(name)
    if name in FAMILIES:
        return FAMILIES[name]
    if os.path.isdir(name):
        return _folder_family(Path(name))
    for known in FAMILIES.values():
        roles = {role: record for role, record in known.roles.items() if record.source == name}
        if roles:
            return replace(known, name=name, roles=roles)
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return _folder_family(fetch(name, None, CONFIG_FILES), source=name)
    raise EditkitError(unknown("backbone", name, [*FAMILIES, "any local diffusers folder or Hub id"]))


def config_folder(record: Role) -> Path | None:
    """Return a folder with the configs of a role's models; None for published FLUX, whose shapes are known.

    Raises:
        EditkitError: where the folder is on the Hub, and the Hub cannot be reached.
    """
    published = (role.source for known in FAMILIES.values() for role in known.roles.values())
    if record.source in published and not os.path.isdir(record.source):
        return None
    return fetch(record.source, None, CONFIG_FILES)


def _folder_family(folder: Path, source: str | None = None) -> Family:
    """Make a family of one role from the configs in a diffusers pipeline folder."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise EditkitError(f"The folder {folder} has no model_index.json; give a diffusers pipeline folder.")
    pipeline = str(read_json(index).get("_class_name", ""))
    role = ROLE_OF_PIPELINE.get(pipeline)
    if role is None:
        raise EditkitError(
            f"The folder {folder} holds a {pipeline or 'nameless pipeline'}; "
            f"it must be one of {', '.join(ROLE_OF_PIPELINE)}."
        )
    config = read_json(folder / "transformer" / "config.json")
    head, channels = config.get("attention_head_dim", 128), config.get("in_channels")
    if channels == 448:
        role = "ace"  # saved as FLUX.1 Fill's pipeline, since diffusers has none for ACE++
    if not (isinstance(head, int) and isinstance(channels, int)):
        raise EditkitError(f"The transformer's config in {folder} gives no in_channels; download it again.")
    tiny = head < 128
    base = base_family(config)
    known = FAMILIES[base] if base == "flux1-schnell" and role == "text" else FAMILIES["flux1-dev"]
    official = known.roles[role]
    spec = Role(
        source=source or str(folder),
        in_channels=channels,
        steps=8 if tiny else official.steps,
        guidance=(1.0 if tiny else official.guidance) if config.get("guidance_embeds") else None,
        sizes=((128, 128),) if tiny else official.sizes,
        area=128 * 128 if tiny else official.area,
        licence="see the folder's own licence",
    )
    roles = {role: spec} | ({"text": spec} if role == "kontext" else {})
    return Family(
        name=source or str(folder),
        summary=pipeline,
        sequence_length=48 if tiny else known.sequence_length,
        roles=roles,
        panels_alone=tiny,
        base=base,
    )


def base_family(config: dict[str, Any]) -> str | None:
    """Return the published family whose transformer has this config, whatever its input channels; or None."""
    if all(config.get(key) == value for key, value in PUBLISHED_SHAPE.items()):
        return "flux1-dev" if config.get("guidance_embeds") else "flux1-schnell"
    shipped = _tiny_config()
    return "tiny" if all(config.get(key) == shipped.get(key) for key in PUBLISHED_SHAPE) else None


def base_of_width(width: int) -> str | None:
    """Return the family by the width of its transformer, of FLUX.1 the first; None for another width."""
    configs = {"flux1-dev": PUBLISHED_SHAPE, "tiny": _tiny_config()}
    widths = {
        each["num_attention_heads"] * each["attention_head_dim"]: name for name, each in configs.items()
    }
    return widths.get(width)


def needed_options(base: str | None) -> tuple[str, ...]:
    """Return the loading options that a single file of a family needs, since they leave no trace in it."""
    return (f"axes={_tiny_config()['axes_dims_rope']}".replace(" ", ""),) if base == "tiny" else ()


def _tiny_config() -> dict[str, Any]:
    """Return the config of the embedded transformers, whose input channels alone differ."""
    return read_json(TINY / "kontext" / "transformer" / "config.json")
