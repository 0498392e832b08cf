"""Arguments of a Ray Serve deployment."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from editkit.serving.settings import ServerSettings


@dataclass(frozen=True, kw_only=True)
class DeploymentConfig:
    """The settings of a deployment: what it runs, and on how much of the cluster."""

    backbone: str = "tiny"
    """A name from `editkit backbones`, a folder or Hub id."""
    device: str | None = None
    """Device of a replica; the best one that Ray lets it see where null."""
    dtype: str | None = None
    """float32, bfloat16 or float16."""
    load: dict[str, Any] = field(default_factory=dict)
    """Loading options of the backbone."""
    low_memory: str | None = None
    """Preset for devices with little memory: 16g, 24g, 48g or auto."""
    lora: dict[str, float] = field(default_factory=dict)
    """Scales of adapters that every method uses besides its own, by file, folder or Hub id."""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Options by method name."""
    methods: tuple[str, ...] = ()
    """Methods to offer; all that can be loaded where empty."""
    replicas: int = 1
    """Number of replicas; each loads the weights once."""
    gpus: float = 0.0
    """GPUs of a replica."""
    cpus: float = 1.0
    """CPU cores of a replica."""
    api_key: str | None = None
    """Key that clients must send; EDITKIT_API_KEY where null. Without either, everybody is let in."""
    adapters: str | None = None
    """Folder of the .safetensors files that requests may name."""
    judges: tuple[str, ...] = ServerSettings.judges
    """Judges that a seed search may use."""
    batch: int = ServerSettings.batch
    """Largest number of edits in a batch."""
    queue: int = ServerSettings.queue
    """Edits that a replica holds at most."""
    timeout: float = ServerSettings.timeout
    """Longest time of a request, in seconds."""
    grace: float = ServerSettings.grace
    """Seconds to finish the edits that the server holds when it must stop."""
    body_bytes: int = ServerSettings.body_bytes
    """Size of the largest request."""
    body_seconds: float = ServerSettings.body_seconds
    """Longest time, in seconds, that a client may take to send a request."""
    pixels: int = ServerSettings.pixels
    """Largest number of pixels of a picture."""
    canvas_pixels: int = ServerSettings.canvas_pixels
    """Largest number of pixels of a request's size."""
    steps: int = ServerSettings.steps
    """Largest number of steps of an edit, and of a draft."""
    seeds: int = ServerSettings.seeds
    """Largest number of seeds of a search."""

    @property
    def loading(self) -> dict[str, Any]:
        """Loading options, the preset among them."""
        return self.load if self.low_memory is None else {**self.load, "low_memory": self.low_memory}

    def settings(self, api_key: str | None) -> ServerSettings:
        """Make the server's settings.

        Args:
            api_key: used where the deployment has none of its own.

        Raises:
            EditkitError: for a limit that is not positive, or a missing folder.
        """
        shared = {each.name for each in fields(ServerSettings)} & {each.name for each in fields(self)}
        given = {name: getattr(self, name) for name in shared}
        given["api_key"] = self.api_key or api_key
        given["adapters"] = None if self.adapters is None else Path(self.adapters)
        return ServerSettings(**given)
