"""Law: the bytes that estimates count are those of real quantized weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from backbones import inventory
from backbones.low_memory import published_weights
from backbones.quantized_sizes import CLIP_PLAIN, T5_PLAIN, bytes_of_a_weight
from backbones.specs import PARAMETERS
from backbones.weight_tracker import weight_bytes
from tests.backbones.files.encoders import saved_home
from tests.backbones.files.quantization import EIGHT, FOUR, QUANTO, TORCHAO, loaded


@pytest.mark.parametrize(
    ("package", "options", "layer"),
    [
        ("bitsandbytes", EIGHT, "Linear8bitLt"),
        ("bitsandbytes", FOUR, "Linear4bit"),
        ("torchao", TORCHAO, "Linear"),
        ("optimum.quanto", QUANTO, "QLinear"),
    ],
)
def test_a_weight_takes_what_is_counted(
    package: str, options: dict[str, Any], layer: str, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    made = loaded("text_encoder_2", saved_home(tmp_path), options)
    query = made.encoder.block[0].layer[0].SelfAttention.q
    assert type(query).__name__ == layer
    # Of 8 bits each row has a scale and a zero of its own, which is little where rows are long.
    rows = 8 * query.out_features if "4bit" not in layer else 0
    counted = bytes_of_a_weight(options) * query.in_features * query.out_features
    assert weight_bytes([query.weight]) == pytest.approx(counted, abs=rows)


def test_other_kinds_are_counted_by_their_bits() -> None:
    kinds: list[tuple[dict[str, Any], float]] = [
        ({}, 2),
        ({"weights": "float8"}, 1),
        ({"weights": "int4"}, 0.5625),
        ({"weights_dtype": "int2"}, 0.3125),
        ({"quant_type": "Int4WeightOnlyConfig"}, 0.5625),
        ({"quant_type": "NVFP4"}, 0.5625),
        ({"quant_type": "FP8"}, 1),
    ]
    assert [bytes_of_a_weight(kind) for kind, _ in kinds] == [size for _, size in kinds]


def test_what_stays_plain_is_that_of_the_published_encoders() -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    with torch.device("meta"):
        t5 = T5EncoderModel(
            T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
                     feed_forward_proj="gated-gelu")
        )  # fmt: skip
        clip = CLIPTextModel(
            CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                           num_attention_heads=12, max_position_embeddings=77)
        )  # fmt: skip
    for model, plain, name in ((t5, T5_PLAIN, "text_encoder_2"), (clip, CLIP_PLAIN, "text_encoder")):
        linear = {
            id(module.weight): module.weight.numel()
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and not path.endswith("wo")
        }
        assert PARAMETERS[name] - plain == pytest.approx(sum(linear.values()), rel=0.002)


def test_what_fits_counts_quantized_parts() -> None:
    def fit(**quantization: Any) -> Any:
        (found,) = (
            each
            for each in inventory.memory_fits(24e9, {"quantization": quantization})
            if (each.family, each.role) == ("flux1-dev", "kontext")
        )
        return found

    plain, small = fit(), fit(text_encoder_2=FOUR)
    published = published_weights()
    assert (plain.transformer, plain.encoders) == (published.transformer, published.encoders)
    assert plain.preset == small.preset == "24g"
    assert plain.travels == small.travels == plain.transformer
    assert small.encoders == pytest.approx(4.56e9, rel=0.01)
    assert small.peak < plain.peak
    both = fit(transformer=FOUR, text_encoder_2=FOUR)
    assert (both.preset, both.travels) == ("", 0)
    assert both.peak == pytest.approx(11.4e9, rel=0.01)
