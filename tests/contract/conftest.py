"""Every method, each with the options under which it conditions otherwise."""

from __future__ import annotations

from typing import Any

import pytest

import editkit
from backbones.flux import Flux
from editkit import config
from editkit.method import Conditioner, Method, Sampler, Trainer
from tests.contract.asked import CASES, named


@pytest.fixture(params=CASES, ids=named)
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
