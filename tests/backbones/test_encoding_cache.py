"""Memories of encoded texts and pictures."""

from __future__ import annotations

from pathlib import Path

import torch

import editkit
from backbones.encoding_cache import CAPACITY, LruCache
from tests.pictures import photo


def test_memories_keep_precisions_apart(random_pipeline: Path) -> None:
    """Training encodes under autocast; an edit after it must not get those."""
    flux = editkit.load(str(random_pipeline), "cpu").backbone
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = flux.encode(photo(64, 64)), flux.text(["a red circle"]).tokens_BTD
    with torch.no_grad():
        fine = flux.encode(photo(64, 64)), flux.text(["a red circle"]).tokens_BTD
    for one, other in zip(rough, fine, strict=True):
        assert other.dtype == torch.float32
        assert not torch.equal(one.float(), other)


def test_memory_recalls_in_order_and_forgets_the_oldest() -> None:
    memory, asked = LruCache(), []

    def made(keys: list[int]):
        def make(places: list[int]) -> list[str]:
            asked.extend(keys[place] for place in places)
            return [str(keys[place]) for place in places]

        return make

    for keys in ([1, 2, 1], [2, 3], [1]):
        assert memory.get_or_compute(keys, made(keys)) == [str(key) for key in keys]
    assert sorted(asked) == [1, 2, 3]
    many = list(range(10, 10 + CAPACITY + 50))
    assert memory.get_or_compute(many, made(many)) == [str(key) for key in many]
    assert len(memory) == CAPACITY
    assert 1 not in memory
    assert many[-1] in memory
