"""The table of autoencoders: what one loses on photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.backbone import Backbone
from editkit.errors import EditkitError
from editkit.evaluation import autoencoder
from editkit.evaluation.metrics.perceptual import Perceptual, PerceptualConfig
from tests.command_line import Cli, refused
from tests.evaluation.metrics.cases import case, photograph


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut", "coffee"):
        Image.fromarray(photograph(name, 300)).save(folder / f"{name}.png")
    return folder


def test_nothing_is_lost_between_equal_pictures() -> None:
    shown = photograph("coffee")
    found = autoencoder.Comparison().figures(shown, shown)
    assert found == {"pdist": 0, "ssim": pytest.approx(1), "psnr": 100}


def test_a_known_loss_has_its_known_figure() -> None:
    """8 levels of 255 are 30.07 dB, and the standard error is the textbook's."""
    gray = np.full((64, 64, 3), 128, np.uint8)
    found = autoencoder.Comparison().figures(gray, gray + 8)
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 8), abs=1e-4)
    assert autoencoder.figure([1, 2, 3, 4]) == autoencoder.Figure(
        mean=2.5, error=pytest.approx((5 / 3) ** 0.5 / 2)
    )
    assert autoencoder.figure([1]).error is None


def test_the_embedded_autoencoder_on_a_photograph(tiny: Backbone, photographs: Path, tmp_path: Path) -> None:
    """It only knows flat colours: far from lossless, and the same figures as the metrics give."""
    photograph, broken = photographs / "astronaut.png", tmp_path / "broken.png"
    broken.write_bytes(b"x")
    found = autoencoder.measure(tiny, [broken, photograph], lambda count: None)
    assert found.n == 1
    assert "broken" in found.unreadable[0]
    assert 5 < found.figures["psnr"].mean < 40
    assert 0.05 < found.figures["pdist"].mean < 1
    assert found.weights == tiny.vae_hash()
    before = np.asarray(Image.open(photograph).resize((256, 256), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(before.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        made = tiny.decode(tiny.encode(pixels), 256, 256).clamp(0, 1)
    after = (made * 255).round().byte()[0].permute(1, 2, 0).numpy()
    expected = Perceptual(PerceptualConfig(net="vgg")).score(case(after, answer=before))
    assert found.figures["pdist"].mean == pytest.approx(expected.values["lpips"], rel=1e-4)


def test_a_folder_without_pictures_is_refused(tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(EditkitError, match=r"None of the 1 pictures can be read; the first: .*broken"):
        autoencoder.measure(tiny, autoencoder.pictures(tmp_path), lambda count: None)
    with pytest.raises(EditkitError, match="no pictures at"):
        autoencoder.pictures(tmp_path / "nothing.txt")


@pytest.mark.slow
def test_the_command(cli: Cli, photographs: Path, tmp_path: Path) -> None:
    run = cli("eval", "vae", photographs, "-o", tmp_path, "--limit", 2)
    assert "PDist" in run.out
    told = json.loads((tmp_path / "vae.json").read_text())
    assert told["n"] == 2
    assert told["psnr"]["standard error"] > 0
    refused(cli("eval", "vae", tmp_path / "gone"), "There is nothing at")
