"""Shift-tolerant LPIPS with its published weights, on photographs, beside the package's own code."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from editkit.errors import EditkitError
from editkit.evaluation.metrics import load_metric
from editkit.evaluation.metrics.pixels import tensor
from editkit.evaluation.metrics.shift_tolerant import ShiftTolerantLPIPS, published
from tests.evaluation.metrics.cases import case, photograph


@pytest.fixture(scope="module")
def lpips():
    return load_metric("lpips")


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_packages_own_code_gives_the_same(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its imports that are never used for this network are replaced by empty modules."""
    for name in ("torchvision", "torchvision.models", "torchsummary", "IPython"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["torchvision"].models = sys.modules["torchvision.models"]  # type: ignore[attr-defined]
    sys.modules["torchsummary"].summary = None  # type: ignore[attr-defined]
    sys.modules["IPython"].embed = None  # type: ignore[attr-defined]
    theirs = importlib.import_module("stlpips_pytorch.stlpips").LPIPS(
        net=net, variant="shift_tolerant", verbose=False
    )
    ours, _ = published(net)
    first, second = tensor(photograph("astronaut", 80)), tensor(photograph("chelsea", 80))
    with torch.no_grad():
        expected = theirs(2 * first - 1, 2 * second - 1).item()
        assert ours(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_identity_and_order(lpips) -> None:
    """A blurred photograph is further away than a shifted one, and another one is furthest."""
    whole = photograph("astronaut", 136)
    answer, shifted = whole[4:132, 4:132], whole[5:133, 5:133]
    blurred = np.stack([gaussian_filter(answer[..., c], 1) for c in range(3)], axis=-1)
    pictures = (answer, shifted, blurred, photograph("coffee"))
    found = [lpips.score(case(picture, answer=answer)).values["lpips"] for picture in pictures]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] < 0.5 * found[2]
    assert len(set(found)) == 4


def test_symmetry_and_columns(lpips) -> None:
    first, second = photograph("coffee", 64), photograph("chelsea", 64)
    one = lpips.score(case(first, answer=second, source=first)).values
    other = lpips.score(case(second, answer=first)).values
    assert one["lpips"] == pytest.approx(other["lpips"], rel=1e-5)
    assert one["source_lpips"] == 0


def test_every_published_weight_has_its_place(lpips) -> None:
    network = ShiftTolerantLPIPS("alex")
    assert lpips.network.state_dict().keys() == network.state_dict().keys()
    assert "stlpips-pytorch 0.0.2" in lpips.describe()["revision"]


def test_options_are_checked() -> None:
    with pytest.raises(EditkitError, match="net must be one of alex, vgg"):
        load_metric("lpips", {"net": "squeeze"})
