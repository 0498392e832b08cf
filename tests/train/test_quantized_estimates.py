"""Memory of runs on quantized weights, as it is planned."""

from __future__ import annotations

from typing import Any

import pytest

from editkit.train.estimate.plan import plan
from tests.train.test_estimate import settings


@pytest.mark.slow
def test_quantized_weights_are_smaller() -> None:
    four = settings(
        backbone="flux1-dev",
        dtype="bfloat16",
        fit={"batch": 1},
        load={"quantization": {"type": "BitsAndBytesConfig", "load_in_4bit": True}},
    )
    assert plan(four).memory["transformer"] == pytest.approx(0.56 * 11.9e9, rel=0.05)


def test_quantization_counts_in_each_spelling() -> None:
    """The type may be left out for bitsandbytes, and models may be named."""
    four = {"load_in_4bit": True}
    sizes = [
        plan(settings(dtype="bfloat16", load={"quantization": each})).memory["transformer"]
        for each in ({"type": "BitsAndBytesConfig", **four}, four, {"transformer": four})
    ]
    assert sizes == [sizes[0]] * 3
    others = ({}, {"text_encoder_2": four})
    whole = [
        plan(settings(dtype="bfloat16", load={"quantization": each})).memory["transformer"] for each in others
    ]
    assert whole == [whole[0]] * 2
    assert sizes[0] < whole[0]


def test_quantized_text_encoders_are_smaller() -> None:
    def sizes(**quantization: Any) -> dict[str, float]:
        return plan(settings(dtype="bfloat16", load={"quantization": quantization})).memory

    four = {"load_in_4bit": True}
    beside = "autoencoder and encoders"
    plain, both = sizes(), sizes(text_encoder=four, text_encoder_2=four)
    assert both["transformer"] == plain["transformer"]
    assert both[beside] < sizes(text_encoder_2=four)[beside] < plain[beside]
    assert sizes(**four)[beside] == plain[beside]


def test_four_bits_of_every_library_are_four() -> None:
    torchao = {"type": "TorchAoConfig", "quant_type": "Int4WeightOnlyConfig"}
    found = [
        plan(settings(dtype="bfloat16", load={"quantization": each})).memory["transformer"]
        for each in ({"load_in_4bit": True}, torchao)
    ]
    assert found[0] == found[1]
