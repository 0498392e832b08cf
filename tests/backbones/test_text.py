"""Text encoders of random weights."""

from __future__ import annotations

import torch

from backbones import random_encoders
from tests import ROOT
from tests.random_weights import LETTERS


def test_pooled_text_reads_the_whole_prompt() -> None:
    """CLIP looks back alone, so only its end token has seen every word; transformers finds it by its id."""
    words = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    t5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    encoders = random_encoders.random_encoders(words, letters=LETTERS, clip=sizes, t5=t5, length=48)
    with torch.no_grad():
        pooled = encoders(["make the red circle blue", "make the red circle green"]).pooled_BD
    assert not torch.allclose(pooled[0], pooled[1], atol=1e-4)
