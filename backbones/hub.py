"""Find or download the files of a model: in a local folder, in the Hub's cache, or on the Hub."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from backbones import hub_cache, refusals
from backbones.specs import FAMILIES
from editkit.errors import EditkitError, unknown

PROBE_SECONDS = 1.5
"""Longest wait for the Hub's first answer, in seconds."""
NOT_WEIGHTS = ("*.json", "*.txt", "*.model")
"""Patterns of a pipeline's files that hold no weights."""
TOKENIZERS = ("tokenizer/tokenizer_config.json", "tokenizer_2/tokenizer_config.json")
"""Files without which a pipeline's tokenizers are incomplete."""
CONFIG_FILES = [
    "model_index.json",
    *(f"{part}/config.json" for part in ("transformer", "vae", "text_encoder", "text_encoder_2")),
]
"""Files that describe a pipeline's models without their weights."""


def file_patterns(parts: Iterable[str], *others: str) -> list[str]:
    """Return patterns of the files that these components of a pipeline need, and `others`."""
    return [*NOT_WEIGHTS, *others, *(f"{part}/*.safetensors" for part in parts)]


def fetch(repository: str, licence: str | None, wanted: Sequence[str]) -> Path:
    """Return a repository's folder: a local one, one in the Hub's cache, or a downloaded one.

    Args:
        repository: a Hub id, or a folder.
        licence: the licence that must be accepted before the download, or None.
        wanted: patterns of the files that are needed.

    Raises:
        EditkitError: within two seconds where the weights are absent and the Hub cannot be reached.
    """
    if os.path.isdir(repository):
        return Path(repository)
    if os.path.isabs(repository):
        raise EditkitError(
            f"The weights at {repository} are missing; reinstall editkit, or train them (docs/tiny.md)."
        )
    from huggingface_hub import snapshot_download
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
    if not is_reachable():
        some = found is not None and any(found.rglob("*.safetensors"))
        raise EditkitError(refusals.unreachable(repository, licence, absent if some else []))
    try:
        return Path(snapshot_download(repository, allow_patterns=list(wanted)))
    except (HfHubHTTPError, OSError) as error:
        raise EditkitError(refusals.refused(repository, licence, error)) from error


def is_reachable() -> bool:
    """Whether the Hub may be asked, and it, or the proxy before it, accepts a connection.

    A client would retry for much longer.
    """
    import socket
    from threading import Event, Thread
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(address.scheme)
    if proxy and not proxy_bypass(str(address.hostname)):
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    answered = Event()

    def knock() -> None:
        with suppress(OSError), socket.create_connection((address.hostname, port), timeout=PROBE_SECONDS):
            answered.set()

    # In a thread, since the look-up of a host name has no timeout.
    knocking = Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(PROBE_SECONDS)
    return answered.is_set()
