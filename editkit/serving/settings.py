"""Settings of the server: its address, its limits, and what a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from editkit.errors import EditkitError, unknown
from editkit.judges import JUDGES


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits of the server; each is checked before the work that it limits."""

    api_key: str | None = None
    """Key that programs must send, as a bearer token. None lets everybody in."""
    adapters: Path | None = None
    """Folder of the .safetensors files that a request may name as its `adapter`."""
    judges: tuple[str, ...] = ("preserve", "tiny")
    """Judges that a seed search may use."""
    batch: int = 8
    """Largest number of edits that run as one batch."""
    linger: float = 0.05
    """Longest wait, in seconds, for requests that are being decoded and may join a batch."""
    queue: int = 64
    """Largest number of edits that wait or run; further ones are answered with 429."""
    held_pixels: int = 200_000_000
    """Pixels of the pictures of all edits held at most; a pixel takes 12 bytes."""
    timeout: float = 600.0
    """Longest time, in seconds, from the end of a request to its answer."""
    grace: float = 60.0
    """Longest time, in seconds, to finish edits once the server is asked to stop."""
    body_bytes: int = 50 * 2**20
    """Size of the largest request."""
    body_seconds: float = 60.0
    """Longest time, in seconds, that a client may take to send a request."""
    pixels: int = 25_000_000
    """Largest number of pixels of a picture."""
    canvas_pixels: int = 4_200_000
    """Largest number of pixels of `size`."""
    steps: int = 100
    """Largest number of steps of an edit, and of the draft that its speed may ask for."""
    seeds: int = 16
    """Largest number of seeds of a search."""
    pictures: int = 16
    """Largest number of pictures in a request, as with OpenAI."""
    results: int = 10
    """Largest `n`, as with OpenAI."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not value > 0 and name != "linger":
                raise EditkitError(f"{name}={value} is not allowed; give a positive number.")
        if strange := [name for name in self.judges if name not in JUDGES]:
            raise EditkitError(unknown("judge", strange[0], JUDGES))
        if self.queue < self.results:
            raise EditkitError(f"queue={self.queue} is too short; give at least {self.results}.")
        if self.adapters is not None and not self.adapters.is_dir():
            raise EditkitError(f"The folder of adapters {self.adapters} is missing; make it or name another.")
