"""The server as a Ray Serve deployment: the same app on every replica, which Ray places over the cluster.

`serve run editkit.serving.ray_serve:application replicas=2` starts it; `docs/deploy.md` has a config.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editkit import api, config
from editkit.errors import EditkitError
from editkit.serving import logs, run
from editkit.serving.app import Server
from editkit.serving.deployment import DeploymentConfig
from editkit.serving.settings import ServerSettings


def application(args: Mapping[str, Any]) -> Any:
    """Build the Ray Serve application from the arguments of `serve run` or of a config file.

    Raises:
        EditkitError: for an unknown argument, or where Ray is missing.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise EditkitError("Ray Serve needs a package: pip install 'editkit[serve,ray]'.") from error
    chosen = config.build(DeploymentConfig, dict(args))

    def app() -> Any:
        return server(chosen).app

    deployment: Any = serve.deployment(
        name="editkit",
        num_replicas=chosen.replicas,
        # The app has a queue of its own, which answers 429 where it is full.
        max_ongoing_requests=2 * chosen.queue,
        graceful_shutdown_timeout_s=chosen.grace + run.ANSWER_SECONDS,
        health_check_period_s=10,
        ray_actor_options={"num_gpus": chosen.gpus, "num_cpus": chosen.cpus},
    )
    return deployment(serve.ingress(app)()).bind()


def server(chosen: DeploymentConfig) -> Server:
    """Make one replica's server, on the first device that Ray lets it see."""
    logs.set_up()
    settings = ServerSettings(
        api_key=chosen.api_key or os.environ.get("EDITKIT_API_KEY") or None,
        adapters=None if chosen.adapters is None else Path(chosen.adapters),
        batch=chosen.batch,
        queue=chosen.queue,
        timeout=chosen.timeout,
        grace=chosen.grace,
    )
    methods: Sequence[str] = chosen.methods
    return run.made(
        lambda device: api.load(chosen.backbone, device, chosen.dtype), [chosen.device], methods, settings
    )
