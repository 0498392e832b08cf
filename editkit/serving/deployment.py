"""Arguments of a Ray Serve deployment."""

from __future__ import annotations

from dataclasses import dataclass

from editkit.serving.settings import ServerSettings


@dataclass(frozen=True, kw_only=True)
class DeploymentConfig:
    """What a deployment runs, and on how much of the cluster."""

    backbone: str = "tiny"
    """A name from `editkit backbones`, a folder or Hub id."""
    device: str | None = None
    """Device of a replica; the best one that Ray lets it see where null."""
    dtype: str | None = None
    """float32, bfloat16 or float16."""
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
    batch: int = ServerSettings.batch
    """Largest number of edits in a batch."""
    queue: int = ServerSettings.queue
    """Edits that a replica holds at most."""
    timeout: float = ServerSettings.timeout
    """Longest time of a request, in seconds."""
    grace: float = ServerSettings.grace
    """Seconds to finish the edits that the server holds when it must stop."""
