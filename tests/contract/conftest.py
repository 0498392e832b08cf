"""Every method, each with the options under which it conditions otherwise."""

from __future__ import annotations

from typing import Any

import pytest

import editkit
from backbones.flux import Flux
from editkit import config
from editkit.method import Conditioner, Method, Sampler, Trainer

OTHER_WAYS: dict[str, list[dict[str, Any]]] = {
    "kontext": [{"layout": "offset"}, {"layout": "stitch", "sizes": "exact"}],
    "icedit": [
        {"template": "paper", "loss": "right", "encoding": "mode"},
        {"moe": {"experts": 2, "rank": 2, "balance": 0.1}},
    ],
    "aceplus": [{"layout": "sequence"}, {"model": "full"}, {"model": "full", "layout": "sequence"}],
}
"""Options under which a method conditions otherwise than by default, and has to keep the contract too."""

CASES = [(record, way) for record in editkit.methods() for way in ({}, *OTHER_WAYS.get(record.name, ()))]


@pytest.fixture(params=CASES, ids=lambda case: " ".join((case[0].name, *case[1])))
def case(request: pytest.FixtureRequest) -> tuple[Method, dict[str, Any]]:
    return request.param


@pytest.fixture
def method(case: tuple[Method, dict[str, Any]]) -> Method:
    return case[0]


@pytest.fixture
def options(case: tuple[Method, dict[str, Any]]) -> dict[str, Any]:
    return case[1]


@pytest.fixture
def parts(method: Method, options: dict[str, Any], random_flux: Flux) -> tuple[Conditioner, Sampler, Trainer]:
    built = config.build(method.config, options)
    return tuple(part(random_flux, built) for part in (method.conditioner, method.sampler, method.trainer))


@pytest.fixture
def role(method: Method, options: dict[str, Any], random_flux: Flux) -> str:
    return method.role_under(config.build(method.config, options))


@pytest.fixture
def editor(method: Method, options: dict[str, Any], random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux, {method.name: options})
