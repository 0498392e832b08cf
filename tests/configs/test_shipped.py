"""Surface: every shipped YAML loads, and says only what differs from the defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backbones.load_options import LoadOptions
from backbones.random_init import RandomInitConfig
from editkit import config, registry
from editkit.inference import few_steps, mag_cache, speed, speed_settings
from tests import ROOT

CONFIGS = ROOT / "configs"

SHIPPED = sorted(
    path
    for path in CONFIGS.rglob("*.yaml")
    if path.parent.name not in ("accelerate", "evaluation", "hardware")
    and path.name != "stages.yaml"
    and path not in (speed.TABLE, few_steps.TABLE, mag_cache.TABLE)
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_configs(path: Path) -> None:
    values = config.read_yaml(path)
    assert "recipe" in values, "only training configs are shipped"
    settings = config.build(registry.recipe(values["recipe"]).CONFIG, values)
    assert settings.recipe == values["recipe"]
    if values["recipe"] == "edit":
        config.build(registry.method(settings.method).config, settings.options)
        if settings.fresh:
            fresh = config.build(RandomInitConfig, settings.fresh)
            assert (ROOT / fresh.words).is_file()


SPOKEN = ("recipe", "method", "backbone")
"""Keys that say what a config is for, also where they are the defaults."""


def leaves_of(values: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The keys of all that is set."""
    found: list[tuple[str, ...]] = []
    for key, value in values.items():
        deeper = isinstance(value, dict) and value
        found += leaves_of(value, (*above, key)) if deeper else [(*above, key)]
    return found


def at(settings: Any, leaf: Sequence[str]) -> tuple[Any, Any]:
    """What a config holds at a key, and what it would hold there unasked."""
    held, usual = settings, dataclasses.MISSING
    for name in leaf:
        if not dataclasses.is_dataclass(held):
            held, usual = held[name], dataclasses.MISSING
            continue
        if dataclasses.is_dataclass(usual):
            usual = getattr(usual, name)
        else:
            (field,) = (each for each in dataclasses.fields(held) if each.name == name)
            made = field.default_factory
            usual = field.default if made is dataclasses.MISSING else made()
        held = getattr(held, name)
    return held, usual


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_configs_name_only_what_differs(path: Path) -> None:
    values = config.read_yaml(path)
    settings = config.build(registry.recipe(values["recipe"]).CONFIG, values)
    for leaf in leaves_of(values):
        held, usual = at(settings, leaf)
        assert held != usual or leaf[-1] in SPOKEN, f"{'.'.join(leaf)} is the default"


@pytest.mark.parametrize("path", sorted((CONFIGS / "hardware").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_hardware_lies_over_a_config(path: Path) -> None:
    below = CONFIGS / "flux1-dev" / "kontext-lora.yaml"
    values, changes = config.layered(below, [str(path), "fit.steps=3"])
    settings = config.build(registry.recipe(values["recipe"]).CONFIG, values, changes)
    assert settings.gradient_checkpointing
    assert settings.fit.steps == 3
    config.build(LoadOptions, settings.load)


@pytest.mark.parametrize("path", sorted((CONFIGS / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_launcher_settings(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(path)).num_processes == 8


def test_measured_speeds() -> None:
    """Each entry is `exact`, or has all settings, so that later defaults change nothing."""
    for base, methods in config.read_yaml(speed.TABLE).items():
        for method, speeds in methods.items():
            assert registry.method(method).name == method
            assert speeds.keys() == {*speed.MEASURED, "steps"}
            for name in speed.MEASURED:
                settings = speeds[name]
                found = speed.resolve(name, base, method)
                if found is None:
                    assert settings == speed.EXACT
                    continue
                assert speed_settings.as_values(found).keys() == settings.keys()
    assert speed.resolve(speed.EXACT, None, "kontext") is None


def test_configs_are_shipped() -> None:
    assert SHIPPED
