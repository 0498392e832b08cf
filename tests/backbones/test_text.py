"""Text encoders of random weights."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from backbones import random_encoders
from backbones.text import Encoders
from tests import ROOT
from tests.random_weights import LETTERS


def small_encoders() -> Encoders:
    words = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    t5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    return random_encoders.random_encoders(words, letters=LETTERS, clip=sizes, t5=t5, length=48)


def test_pooled_text_reads_the_whole_prompt() -> None:
    """CLIP looks back alone, so only its end token has seen every word; transformers finds it by its id."""
    encoders = small_encoders()
    with torch.no_grad():
        pooled = encoders(["make the red circle blue", "make the red circle green"]).pooled_BD
    assert not torch.allclose(pooled[0], pooled[1], atol=1e-4)


def test_threads_share_the_tokenizers() -> None:
    """A server's request threads count tokens while a batch is encoded: padding must not change under it."""
    encoders, prompt, ended = small_encoders(), "make the red circle blue", threading.Event()

    def count_tokens() -> None:
        while not ended.is_set():
            encoders.too_long(prompt)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(count_tokens)
        try:
            shapes = {encoders([prompt]).tokens_BTD.shape for _ in range(100)}
        finally:
            ended.set()
    assert shapes == {(1, 48, 32)}
