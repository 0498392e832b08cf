"""The chosen experts, measured and plotted."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from methods.icedit import routing
from tests.pictures import image


def test_routing(adapted: editkit.Editor, tmp_path: Path) -> None:
    requests = {
        kind: [editkit.EditRequest(image=image(64, 64, seed), instruction=kind, method="icedit", steps=1)]
        for seed, kind in enumerate(("recolour", "remove"))
    }
    found = routing.measure(adapted, requests)
    assert found.keys() == requests.keys()
    for shares, weights in found.values():
        assert len(shares) == 3
        for module, share in shares.items():
            assert sum(share) == pytest.approx(1)
            assert weights[module] == pytest.approx(share)  # the released router gives the chosen one all
    assert found["recolour"][0] != found["remove"][0]
    routing.plot({kind: shares for kind, (shares, _) in found.items()}, tmp_path / "routing.png")
    with Image.open(tmp_path / "routing.png") as plot:
        assert plot.width > 300
        assert len(set(plot.convert("RGB").getdata())) > 20
    with pytest.raises(editkit.EditkitError, match="cannot be written"):
        routing.plot({kind: shares for kind, (shares, _) in found.items()}, tmp_path / "no" / "routing.png")


def test_routing_needs_experts(random_flux: Flux) -> None:
    request = editkit.EditRequest(image=image(64, 64), instruction="make it blue", method="icedit", steps=1)
    with pytest.raises(editkit.EditkitError, match="has no experts"):
        routing.measure(editkit.Editor(random_flux), {"any": [request]})
