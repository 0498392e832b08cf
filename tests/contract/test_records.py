"""A method's folder, record and options."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re

import pytest
from typing_extensions import get_protocol_members

import editkit
from backbones.flux import Flux
from editkit import config, registry
from editkit.backbone import Transformer, TransformerConfig
from editkit.method import Conditioner, Method, Sampler, Trainer
from tests import ROOT
from tests.contract.asked import FILES


@pytest.mark.parametrize("package", ["editkit", "backbones"])
def test_no_method_is_named(package: str) -> None:
    """But for the one that is taken where none is named, whose name is a role's too, and in docstrings."""
    names = re.compile(rf"(?<![a-z])({'|'.join(record.name for record in editkit.methods())})(?![a-z])")
    found = set()
    for path in sorted((ROOT / package).rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        told = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
                found |= {node.value} if names.search(node.value) else set()
            if isinstance(node, ast.Name | ast.Attribute | ast.arg):
                word = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
                assert not names.search(str(word)), f"{path} has {word}"
    columns = {"kontext_images"}  # of another program's data
    assert found - columns == {"kontext"}


def test_a_transformer_has_what_the_core_uses_of_it(random_flux: Flux) -> None:
    """Which mypy cannot tell, since diffusers counts as untyped."""
    for role in random_flux.roles:
        transformer = random_flux.transformer(role)
        missing = {name for name in get_protocol_members(Transformer) if not hasattr(transformer, name)}
        assert not missing
        assert all(hasattr(transformer.config, name) for name in get_protocol_members(TransformerConfig))


def test_there_are_methods() -> None:
    assert "kontext" in {record.name for record in editkit.methods()}


def test_record(method: Method) -> None:
    folder = ROOT / "methods" / method.name
    assert folder.is_dir()
    assert importlib.import_module(f"methods.{method.name}").METHOD is method
    for line in (method.summary, method.paper):
        assert line.strip() == line != ""
        assert "\n" not in line
    assert any(method.role in family.roles for family in editkit.backbones())
    assert issubclass(method.conditioner, Conditioner)
    assert issubclass(method.sampler, Sampler)
    assert issubclass(method.trainer, Trainer)
    if method.defaults is not None:
        assert method.defaults.keys() <= {"steps", "guidance"}


def test_folder(method: Method) -> None:
    folder = ROOT / "methods" / method.name
    assert {path.name for path in folder.iterdir()} >= FILES
    for part in ("config", "conditioner", "sampler", "trainer"):
        assert getattr(method, part).__module__ == f"methods.{method.name}.{part}"
    assert len((folder / "README.md").read_text().split()) > 50


def test_config(method: Method) -> None:
    assert registry.method_config(method.name) is method.config
    built = config.build(method.config, {})
    assert isinstance(built, method.config)
    assert type(built).__dataclass_params__.frozen
    for field in dataclasses.fields(built):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(built, field.name, None)
    with pytest.raises(editkit.EditkitError, match="Unknown key"):
        config.build(method.config, {"no such option": 1})
