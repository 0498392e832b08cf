"""The arguments of a Ray Serve deployment, without Ray: each one reaches the server of a replica."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from editkit import EditkitError, config
from editkit.serving import ray_serve
from editkit.serving.deployment import DeploymentConfig
from editkit.serving.settings import ServerSettings

NOT_ITS_OWN = {"linger", "held_pixels", "pictures", "results"}
"""Settings that the command line does not offer either."""


def test_all_limits_can_be_set() -> None:
    known = {each.name for each in fields(ServerSettings)}
    assert known - {each.name for each in fields(DeploymentConfig)} == NOT_ITS_OWN
    given = {"judges": ["tiny"], "steps": 7, "pixels": 1000, "seeds": 2, "body_seconds": 3.5}
    settings = config.build(DeploymentConfig, given).settings("from outside")
    assert (settings.judges, settings.steps, settings.pixels, settings.seeds) == (("tiny",), 7, 1000, 2)
    assert (settings.body_seconds, settings.api_key) == (3.5, "from outside")
    assert settings.batch == ServerSettings.batch
    with pytest.raises(EditkitError, match="steps=0"):
        config.build(DeploymentConfig, {"steps": 0}).settings(None)
    with pytest.raises(EditkitError, match=r"There is no judge 'tinny'; .* did you mean 'tiny'"):
        config.build(DeploymentConfig, {"judges": ["tinny"]}).settings(None)


def test_loading_and_options_reach_the_editor(tmp_path: Path) -> None:
    given = {
        "device": "cpu",
        "methods": ["kontext"],
        "options": {"kontext": {"context": "cached"}},
        "load": {"attention": "native"},
    }
    server = ray_serve.server(config.build(DeploymentConfig, given))
    editor = server.queue.lanes[0].editor
    assert editor.method("kontext")[1].context == "cached"  # type: ignore[attr-defined]
    assert editor.backbone.loading() == {"attention": "native"}
    with pytest.raises(EditkitError, match="low_memory"):
        ray_serve.server(config.build(DeploymentConfig, {**given, "low_memory": "1g"}))
