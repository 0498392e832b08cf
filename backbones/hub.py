"""Where a family's components come from: shipped folders, local folders, the Hub."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from backbones import hub_cache, refusals
from backbones.specs import FAMILIES, PUBLISHED_SHAPE, TINY
from editkit.backbone import Family, Role
from editkit.errors import EditkitError, unknown

ROLE_OF_PIPELINE = {
    "FluxPipeline": "text",
    "FluxKontextPipeline": "kontext",
    "FluxFillPipeline": "fill",
}
PROBE_SECONDS = 1.5
TEXTS = ("*.json", "*.txt", "*.model")
"""All of a pipeline but its weights."""
TOKENIZERS = ("tokenizer/tokenizer_config.json", "tokenizer_2/tokenizer_config.json")
SHAPES = [
    "model_index.json",
    *(f"{part}/config.json" for part in ("transformer", "vae", "text_encoder", "text_encoder_2")),
]
"""All that is read of a pipeline without loading it."""


def family(name: str) -> Family:
    """The family that a name, a local diffusers folder or a Hub id stands for.

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
        return _folder_family(fetch(name, None, SHAPES), source=name)
    raise EditkitError(unknown("backbone", name, [*FAMILIES, "any local diffusers folder or Hub id"]))


def described(record: Role) -> Path | None:
    """A folder with the configs of a role's parts, or None for a published FLUX, whose shapes are known.

    Raises:
        EditkitError: where it is on the Hub, which cannot be reached.
    """
    published = (role.source for known in FAMILIES.values() for role in known.roles.values())
    if record.source in published and not os.path.isdir(record.source):
        return None
    return fetch(record.source, None, SHAPES)


def _folder_family(folder: Path, source: str | None = None) -> Family:
    """A family of one role, read off a diffusers pipeline folder."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise EditkitError(f"The folder {folder} has no model_index.json; give a diffusers pipeline folder.")
    pipeline = str(hub_cache.read(index).get("_class_name", ""))
    role = ROLE_OF_PIPELINE.get(pipeline)
    if role is None:
        raise EditkitError(
            f"The folder {folder} holds a {pipeline or 'nameless pipeline'}; "
            f"it must be one of {', '.join(ROLE_OF_PIPELINE)}."
        )
    config = hub_cache.read(folder / "transformer" / "config.json")
    head, channels = config.get("attention_head_dim", 128), config.get("in_channels")
    if channels == 448:
        role = "ace"  # in a folder of FLUX.1 Fill's pipeline, as diffusers has none for it
    official = FAMILIES["flux1-dev"].roles[role]
    if not (isinstance(head, int) and isinstance(channels, int)):
        raise EditkitError(f"The transformer's config in {folder} gives no in_channels; download it again.")
    tiny = head < 128
    base = _base(config)
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
        sequence_length=48 if tiny else 512,
        roles=roles,
        panels_alone=tiny,
        base=base,
    )


def _base(config: dict[str, Any]) -> str | None:
    """The published family that has a transformer of this config, whatever its input's channels."""
    if all(config.get(key) == value for key, value in PUBLISHED_SHAPE.items()):
        return "flux1-dev" if config.get("guidance_embeds") else "flux1-schnell"
    shipped = hub_cache.read(TINY / "kontext" / "transformer" / "config.json")
    return "tiny" if all(config.get(key) == shipped.get(key) for key in PUBLISHED_SHAPE) else None


def weights(parts: Iterable[str], *others: str) -> list[str]:
    """Patterns of a pipeline's files: these parts' weights, everything that is no weight, and others."""
    return [*TEXTS, *others, *(f"{part}/*.safetensors" for part in parts)]


def fetch(repository: str, licence: str | None, wanted: Sequence[str]) -> Path:
    """A repository's folder: local as it is, from the Hub's cache, or downloaded where the network allows.

    Args:
        repository: Hub id, or a folder.
        licence: what to accept before.
        wanted: patterns of the files that are needed.

    Raises:
        EditkitError: within two seconds where the weights are absent and cannot be had.
    """
    if os.path.isdir(repository):
        return Path(repository)
    if os.path.isabs(repository):
        raise EditkitError(
            f"The weights at {repository} are missing; reinstall editkit, or train them (docs/tiny.md)."
        )
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        found = hub_cache.snapshot(repository)
    except HFValidationError as error:
        raise EditkitError(
            unknown("backbone", repository, [*FAMILIES, "any local diffusers folder or Hub id"])
        ) from error
    absent = hub_cache.missing(found, wanted) if found else []
    if found and not absent:
        return found
    if constants.HF_HUB_OFFLINE or not _reachable():
        some = found is not None and any(found.rglob("*.safetensors"))
        raise EditkitError(refusals.unreachable(repository, licence, absent if some else []))
    try:
        return Path(snapshot_download(repository, allow_patterns=list(wanted)))
    except (HfHubHTTPError, OSError) as error:
        raise EditkitError(refusals.refused(repository, licence, error)) from error


def _reachable() -> bool:
    """Whether the Hub, or the proxy before it, answers at all, found out before a client starts to retry."""
    import socket
    from threading import Event, Thread
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(address.scheme)
    if proxy and not proxy_bypass(str(address.hostname)):
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    answered = Event()

    def knock() -> None:
        with suppress(OSError), socket.create_connection((address.hostname, port), timeout=PROBE_SECONDS):
            answered.set()

    # In a thread, since looking up a name heeds no timeout.
    knocking = Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(PROBE_SECONDS)
    return answered.is_set()


def device(name: str | None) -> torch.device:
    """The device asked for, or the best one here.

    Raises:
        EditkitError: where it is not there.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen).item()  # what needs memory there; `meta` has none
    except (RuntimeError, AssertionError) as error:
        raise EditkitError(
            f"The device {name!r} is not here; use cpu, or cuda or mps where the machine has one."
        ) from error
    return chosen


def dtype(name: str | torch.dtype | None, chosen: torch.device) -> torch.dtype:
    """The precision asked for, or the one that suits the device: fp32 on a CPU, else bf16.

    Raises:
        EditkitError: where it is unknown.
    """
    if name is None:
        return torch.float32 if chosen.type == "cpu" else torch.bfloat16
    known: dict[Any, torch.dtype] = {
        "float32": torch.float32,
        "fp32": torch.float32,
        "bfloat16": torch.bfloat16,
        "bf16": torch.bfloat16,
        "float16": torch.float16,
        "fp16": torch.float16,
    }
    known |= {value: value for value in known.values()}
    if name not in known:
        raise EditkitError(f"The dtype {name!r} is unknown; use float32, bfloat16 or float16.")
    return known[name]
