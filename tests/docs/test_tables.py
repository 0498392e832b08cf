"""Surface: tables on pages agree with the code, and links lead somewhere."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

import editkit
from editkit import config, gpus, registry
from editkit.train.estimate import plan as plans
from editkit.train.settings import EditTrainConfig
from tests import ROOT
from tests.command_line import picture
from tests.docs.pages import DOCS, METHOD_PAGES, README, named


def rows(text: str, first: str) -> list[list[str]]:
    """Cells of the table whose first column is called so."""
    found = re.search(rf"^\| {first} \|.*\n\|[- |]+\n((?:\|.*\n?)*)", text, re.MULTILINE)
    assert found, first
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


@pytest.mark.parametrize("page", METHOD_PAGES, ids=named)
def test_options_of_methods(page: Path) -> None:
    """Every option is in the README's table, with its default."""
    record = registry.method(page.parent.name)
    usual = dataclasses.asdict(config.build(record.config, {}))
    told = {name.strip("`"): default for name, default, *_ in rows(page.read_text(), "option")}
    assert told.keys() == usual.keys()
    for name, default in told.items():
        if default.startswith("`"):
            assert yaml.safe_load(default.strip("`")) == usual[name], name


def test_backbones_in_the_readme() -> None:
    text = README.read_text()
    told = {name.strip("`"): (roles, licence) for name, roles, licence, *_ in rows(text, "backbone")}
    known = {family.name: family for family in editkit.backbones()}
    assert told.keys() == known.keys()
    for name, (roles, licence) in told.items():
        assert re.findall(r"\w+", roles) == list(known[name].roles)
        for role in known[name].roles.values():
            assert role.licence in licence


def test_scores_in_the_readme_are_those_of_the_model_card() -> None:
    card = {tuple(row) for row in rows((DOCS / "tiny.md").read_text(), "category")}
    told = rows(README.read_text(), "category")
    assert len(told) > 5
    assert {tuple(row) for row in told} <= card


PLANNED = {"RTX 4090": "rtx4090-24g", "A100": "a100-80g", "H100": "h100-80g"}
"""Cards of the table of steps, as plans name them."""


def test_hours_and_views_of_pairs_are_those_of_plans(tmp_path: Path) -> None:
    """One plan, since hours are in proportion to steps and to the cards' speed."""
    files = [f"configs/{name}.yaml" for name in ("flux1-dev/kontext-lora", "hardware/24g")]
    values, _ = config.layered(ROOT / files[0], [str(ROOT / files[1])])
    record = {"source": "a.png", "answer": "a.png", "instruction": "make the car red"}
    picture(tmp_path / "a.png", (1024, 1024))
    (tmp_path / "pairs.jsonl").write_text(json.dumps(record) + "\n")
    settings = config.build(EditTrainConfig, values, [f"data.path={tmp_path / 'pairs.jsonl'}"])
    plan = plans.plan(settings, "h100-80g")
    text = (DOCS / "guides" / "fine-tune.md").read_text()
    head = [cell.strip() for cell in re.search(r"^\| pairs \|(.*)\|$", text, re.MULTILINE)[1].split("|")]  # type: ignore[index]
    for pairs, *cells in rows(text, "pairs"):
        found = dict(zip(head, cells, strict=True))
        count, steps = (int(number.replace(",", "")) for number in (pairs, found["steps"]))
        views = float(found["each pair is seen"].split()[0])
        assert views == pytest.approx(steps * settings.fit.samples / count, rel=0.01)
        for card, name in PLANNED.items():
            speed = gpus.by_name(name).speed
            assert speed
            hours = plan.flops * steps / (speed * plans.UTILIZATION) / 3600
            assert float(found[f"{card}, 1 megapixel"].split()[0]) == pytest.approx(hours, abs=0.06, rel=0.02)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 160


OUTSIDE = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *METHOD_PAGES]
"""Pages that are read without the site, whose links mkdocs does not check."""


@pytest.mark.parametrize("page", OUTSIDE, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if re.match("[a-z]+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}, (
                target
            )
