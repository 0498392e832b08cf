"""`editkit doctor FILE`: what a weight or LoRA file is, and with which command to use it."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.backbone import LoraSummary, MemoryFit, WeightFile

EDIT, GENERATE = 'editkit edit PICTURE "make the car red"', 'editkit generate "a red car"'
FAMILY, EMBEDDED = "flux1-dev", "tiny"
"""The family that text encoders and autoencoders are for, and the one that commands use by default."""
TEXT = "text"
"""Role of text to image."""
WEIGHTS = (".safetensors", ".gguf")
"""Endings of files that may hold models."""


def describe(path: Path) -> dict[str, Any]:
    """Describe a file, or the adapter in a folder, in JSON's types.

    Raises:
        EditkitError: where it is missing, damaged, or neither a model of FLUX nor a LoRA of its transformer.
    """
    from editkit.adapters.files import file, is_adapter

    found = file(path)
    if not os.path.isfile(found) or not (is_adapter(found) or found.suffix in WEIGHTS):
        raise EditkitError(f"{path} is no .safetensors or .gguf file that exists; give one.")
    from editkit.backbone import provider

    models = provider().inventory.weight_file(found) if found.suffix in WEIGHTS else None
    if models is not None:
        return _weights(found, models)
    if not is_adapter(found):
        raise EditkitError(f"{found} holds no model of FLUX; give another file.")
    from editkit import adapters
    from editkit.cli.lora import signatures

    state, about = adapters.read_adapter(path)
    try:
        summary = provider().lora.inspect(state, about, signatures())
    except EditkitError as error:
        raise EditkitError(f"{found} holds no model of FLUX, and is read as a LoRA: {error}") from error
    return _adapter(path, summary, sum(tensor.numel() for tensor in state.values()))


def text(found: dict[str, Any]) -> str:
    """Format a description as a table and the commands below it."""
    from editkit.cli.tables import columns, text

    size = found["bytes"]
    loaded = f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
    told = [("kind", found["kind"]), ("fits", found["fits"]), ("memory", f"{loaded} once it is loaded")]
    if found["here"]:
        told.append(("here", found["here"]))
    return "\n".join((text(columns("<<", told)), *([""] if found["commands"] else []), *found["commands"]))


def _adapter(path: Path, found: "LoraSummary", numbers: int) -> dict[str, Any]:
    from editkit import registry

    known = [name for name in found.method.split(" or ") if name in registry.method_names()]
    backbone = _backbone(found.base or FAMILY)
    # A method that has an adapter of its own wears this one instead, not on top.
    ways = {name: "--option adapter=" if registry.method(name).adapter else "--lora " for name in known}
    file = shlex.quote(str(path))
    commands = [f"{EDIT} -m {name}{backbone} {way}{file}" for name, way in ways.items()]
    kind = "LoRA-MoE" if found.experts else f"{found.sort} of rank {', '.join(map(str, found.ranks))}"
    fits = f"{found.base}, {found.method if known else 'any method'}"
    return {
        "file": str(path),
        "kind": f"{kind}, in {found.dialect} naming",
        "bytes": 2 * numbers,
        "fits": fits if found.base else f"no family: its transformer is {found.width} wide",
        "here": "",
        "commands": (commands or [f"{EDIT}{backbone} --lora {file}"]) if found.base else [],
        "adapter": asdict(found),
    }


def _weights(path: Path, found: "WeightFile") -> dict[str, Any]:
    here, commands = "", list[str]()
    channels = "" if found.channels is None else f", with {found.channels} channels"
    fits = f"no family{channels}: its shape is another"
    if found.base and (found.roles or not channels):
        fits = f"{found.base}, {' or '.join(found.roles) or 'any role'}"
        fits += _equal_shapes(found)
        here, settings = _here(path, found, found.base)
        commands = _commands(path, found, found.base, settings)
    return {
        "file": str(path),
        "kind": f"{' and '.join(found.models)}, {found.bits:.1f} bits a weight",
        "bytes": sum(found.models.values()),
        "fits": fits,
        "here": here,
        "commands": commands,
        "weights": asdict(found),
    }


def _equal_shapes(found: "WeightFile") -> str:
    """Name the published transformers that have this file's shapes, where there are several."""
    from editkit.backbone import provider

    sources = {
        role.source.rpartition("/")[2]: None
        for family in provider().families.values()
        for role in family.roles.values()
        if family.base == found.base and role.in_channels == found.channels and role.file is None
    }
    if len(sources) < 2:
        return ""
    *first, last = sources
    named = f"{', '.join(first)} and {last}"
    return f"; {named} have equal shapes, so choose the command by where the file comes from"


def _here(path: Path, found: "WeightFile", family: str) -> tuple[str, str]:
    """Say whether an edit with the file fits the first device, and with which settings."""
    from editkit import machine
    from editkit.backbone import provider

    device, inventory = machine.devices()[0], provider().inventory
    loading = {part: str(path) for part in found.models}
    fits: Sequence[MemoryFit] = [
        each
        for each in inventory.memory_fits(device.memory, loading)
        if each.family == family and (each.role in found.roles or found.channels is None)
    ]
    largest = max(fits, key=lambda each: each.transformer + each.encoders + each.vae)
    place = f"{device.name}, {device.memory / 1e9:.0f} GB"
    whole = largest.transformer + largest.encoders + largest.vae
    with_others = f"all models take {whole / 1e9:.1f} GB, and an edit {inventory.ROOM / 1e9:.0f} GB more"
    settings = f" --low-memory {largest.preset}" if largest.preset and device.name != "cpu" else ""
    fitting = whole + inventory.ROOM <= device.memory or settings
    return (
        f"{place}: {with_others}; {'fits' if fitting else 'does not fit'}{settings and ' with' + settings}",
        settings,
    )


def _commands(path: Path, found: "WeightFile", family: str, settings: str) -> list[str]:
    """Return the commands that use the file."""
    from editkit import registry

    named = [f"{part}={path}" for part in found.models]
    loads = "".join(f" --load {shlex.quote(each)}" for each in (*named, *found.options))
    rest = f"{_backbone(family)}{loads}{settings}"
    if found.channels is None:
        return [f"{EDIT}{rest}"]
    records = {name: registry.method(name) for name in registry.method_names()}
    commands = [f"{EDIT} -m {name}{rest}" for name, each in records.items() if each.role in found.roles]
    commands += [f"{GENERATE}{rest}"] if TEXT in found.roles else []
    # A role that a method takes under some of its options alone.
    signed = {name: each.signature.channels for name, each in records.items() if each.signature}
    return commands or [f"editkit methods {name}" for name in signed if found.channels in signed[name]]


def _backbone(family: str) -> str:
    return "" if family == EMBEDDED else f" -b {family}"
