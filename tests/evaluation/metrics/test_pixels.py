"""L1, L2, PSNR and SSIM against values by hand and by scikit-image, and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torchmetrics.functional.image import structural_similarity_index_measure

from editkit.evaluation.metrics import load_metric
from editkit.evaluation.metrics.pixels import tensor
from tests.evaluation.metrics.cases import case, noise, photograph


@pytest.fixture(scope="module")
def pixels():
    return load_metric("pixels")


def test_values_by_hand(pixels) -> None:
    result, answer = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)
    answer[:8] = 51  # a fifth of the range on half of the picture
    found = pixels.score(case(result, answer=answer)).values
    assert found["l1"] == pytest.approx(0.1, abs=1e-6)
    assert found["l2"] == pytest.approx(0.02, abs=1e-6)
    assert found["psnr"] == pytest.approx(10 * np.log10(1 / 0.02), abs=1e-4)


def test_values_of_another_library(pixels) -> None:
    answer = photograph("astronaut")
    result = np.clip(answer + np.random.default_rng(0).normal(0, 12, answer.shape), 0, 255).astype(np.uint8)
    found = pixels.score(case(result, answer=answer)).values
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(answer, result), abs=1e-3)
    _, places = structural_similarity_index_measure(
        tensor(result), tensor(answer), data_range=1.0, return_full_image=True
    )
    # torchmetrics' own mean is over the whole picture, that of the definition leaves the border out.
    assert found["ssim"] == pytest.approx(float(places[..., 5:-5, 5:-5].mean()), abs=1e-3)


def test_ssim_of_plain_pictures_by_hand(pixels) -> None:
    dark, light = (np.full((16, 16, 3), level, np.uint8) for level in (51, 102))
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert pixels.score(case(dark, answer=light)).values["ssim"] == pytest.approx(expected, abs=1e-4)


def test_identity_and_noise(pixels) -> None:
    answer = photograph("coffee")
    same = pixels.score(case(answer, answer=answer)).values
    assert (same["l1"], same["l2"], same["psnr"]) == (0, 0, 100)
    assert same["ssim"] == pytest.approx(1, abs=1e-5)
    worse = [
        pixels.score(
            case(
                np.clip(answer + np.random.default_rng(1).normal(0, s, answer.shape), 0, 255).astype(
                    np.uint8
                ),
                answer=answer,
            )
        ).values
        for s in (5, 20, 60)
    ]
    assert worse[0]["l1"] < worse[1]["l1"] < worse[2]["l1"]
    assert worse[0]["ssim"] > worse[1]["ssim"] > worse[2]["ssim"]
    assert worse[0]["psnr"] > worse[1]["psnr"] > worse[2]["psnr"]


def test_another_size_is_made_the_answers_by_the_published_rule(pixels) -> None:
    answer, result = noise(0, (32, 32)), noise(1, (64, 48))
    resized = np.asarray(Image.fromarray(result).resize((32, 32), Image.Resampling.BICUBIC))
    by_hand = np.abs(resized.astype(float) - answer.astype(float)).mean() / 255
    assert pixels.score(case(result, answer=answer)).values["l1"] == pytest.approx(by_hand, abs=1e-5)
    assert "bicubic" in pixels.describe()["resize"]


def test_without_an_answer_there_are_no_figures(pixels) -> None:
    assert not pixels.score(case(noise())).values
    assert not pixels.score(case(noise(), source=noise(1))).values


def test_pictures_too_small_for_ssim_have_the_rest(pixels) -> None:
    assert set(pixels.score(case(noise(0, (8, 8)), answer=noise(1, (8, 8)))).values) == {"l1", "l2", "psnr"}


def test_source_pixels() -> None:
    metric = load_metric("source-pixels")
    found = metric.score(case(noise(0), source=noise(0))).values
    assert (found["source_l1"], found["source_psnr"]) == (0, 100)
    assert {column.name for column in metric.columns} == set(found)
