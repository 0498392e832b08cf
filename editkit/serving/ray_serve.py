"""The server as a Ray Serve deployment: the same app on every replica, which Ray places over the cluster.

`serve run editkit.serving.ray_serve:application replicas=2` starts it; `docs/deploy.md` has a config.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from editkit import api, config
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.serving import run
from editkit.serving.app import Server
from editkit.serving.deployment import DeploymentConfig


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
    settings = chosen.settings(os.environ.get("EDITKIT_API_KEY") or None)

    def load(device: str | None) -> Editor:
        return api.load(
            chosen.backbone, device, chosen.dtype, options=chosen.options, lora=chosen.lora, **chosen.loading
        )

    return run.made(load, [chosen.device], chosen.methods, settings)
