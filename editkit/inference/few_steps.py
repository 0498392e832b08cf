"""Find the adapter or weights that were distilled for few steps, and the steps and guidance they want."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from editkit import config, notes, packages
from editkit.backbone import Backbone
from editkit.errors import EditkitError

TABLE = packages.ROOT / "configs" / "few-steps.yaml"
"""Adapters for few steps: editkit's own, and published ones."""
FEW_STEPS = ("ladd", "progressive")
"""Kinds of distillation that teach few steps, in a config's `distill`."""
OWN = "config.yaml"
"""File in which an export of editkit's training holds the run's config."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FewSteps:
    """The settings for weights that were distilled for few steps.

    Attributes:
        steps: number of Euler steps.
        guidance: the guidance input.
        adapter: an adapter to add, or to use at another scale, as a file, folder or Hub id; None where the
            weights are in use already.
        scale: the adapter's scale.
    """

    steps: int
    guidance: float
    adapter: str | None = None
    scale: float = 1.0


def find(backbone: Backbone, method: str, role: str, lora: Mapping[str, float]) -> FewSteps:
    """Find what was distilled for few steps: among the given adapters, the weights, or published adapters.

    A published adapter that is in use with the scale 1, the usual one, gets its published scale.

    Args:
        backbone: the backbone; nothing of it is loaded.
        method: name of the method, for the sentence.
        role: the transformer's role.
        lora: scales of adapters that are in use, by file, folder or Hub id.

    Raises:
        EditkitError: where there is none, or several, or an export's config is incomplete.
    """
    source = backbone.role(role).source
    scales = {source: 1.0, **lora}
    given = {each: found for each in (*lora, source) if (found := _given(each, scales[each]))}
    if len(given) > 1:
        raise EditkitError(f"{' and '.join(given)} were both distilled for few steps; give one of them.")
    if given:
        return next(iter(given.values()))
    for entry in published(TABLE):
        if entry["weights"] == source:
            if lora:
                notes.tell(
                    f"--fast adds {entry['adapter']} to the given adapters; your own is known by "
                    "the config.yaml beside it, in a folder of this machine."
                )
            return FewSteps(**{name: entry[name] for name in ("adapter", "scale", "steps", "guidance")})
    raise EditkitError(
        f"No weights or adapter for few steps are known for {method} on {backbone.name}; train one with "
        "distill.progressive or distill.ladd, and give the folder of its export, which holds config.yaml, "
        "with --lora."
    )


@cache
def published(path: Path) -> list[dict[str, Any]]:
    """Read a table of adapters for few steps; editkit's own, and their weights, become paths."""
    import yaml

    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text())
    paths = ("adapter", "weights")
    return [entry | {name: _located(entry[name]) for name in paths} for entry in entries]


def _located(source: str) -> str:
    shipped = packages.ROOT / source
    return str(shipped) if shipped.is_dir() else source


def _given(source: str, scale: float) -> FewSteps | None:
    """Return how an adapter or a pipeline folder is used, if it is known to be distilled for few steps."""
    for entry in published(TABLE):
        if _names(source, entry["adapter"]):
            found = FewSteps(steps=entry["steps"], guidance=entry["guidance"])
            another = scale == 1 and entry["scale"] != 1
            return replace(found, adapter=source, scale=entry["scale"]) if another else found
    path = Path(source)
    # Weights of a whole transformer are in a folder of the export.
    for folder in (path, path.parent) if path.exists() else ():
        if (folder / OWN).is_file():
            return _trained(folder / OWN)
    return None


def _names(source: str, adapter: str) -> bool:
    """Whether a source is a published adapter: its folder, the file in it, or its repository on the Hub."""
    path = Path(source).resolve()
    inside = path.parent if path.is_file() else path
    repository = source.count("/") == 1 and adapter.startswith(f"hf://{source}/")
    return adapter in (source, str(inside)) or repository


def _trained(path: Path) -> FewSteps | None:
    settings = config.read_yaml(path)
    distill = settings.get("distill")
    given = [distill.get(name) for name in FEW_STEPS] if isinstance(distill, dict) else []
    found = [options for options in given if options is not None]
    if not found:
        return None
    try:
        return FewSteps(steps=found[0]["steps"], guidance=settings["guidance"])
    except (KeyError, TypeError) as error:
        raise EditkitError(
            f"{path} lacks the steps of distill, or guidance; give the folder that training exported, whole."
        ) from error
