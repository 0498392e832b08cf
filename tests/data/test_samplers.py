"""Streams of batches."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from editkit.data.buckets import Bucket
from editkit.data.samplers import BatchSampler
from tests.data.numbered import numbered_bucket


def places(batches: list[tuple[Bucket, list[int]]]) -> list[list[int]]:
    return [chosen for _, chosen in batches]


def test_the_stream_shows_every_sample_once_an_epoch(tmp_path: Path) -> None:
    filled = [numbered_bucket(count, tmp_path) for count in (12, 8, 2)]
    stream = BatchSampler(filled, batch=4, seed=0)
    assert stream.per_epoch == 3 + 2 + 1
    epochs = [[stream(epoch * 6 + n)[0] for n in range(6)] for epoch in range(3)]
    for epoch in epochs:
        counts = [
            Counter(place for bucket, chosen in epoch if bucket is each for place in chosen)
            for each in filled
        ]
        assert counts[0] == Counter(range(12))
        assert counts[1] == Counter(range(8))
        assert counts[2] == Counter({0: 2, 1: 2})  # smaller than a batch: shown twice
    assert places(epochs[0]) != places(epochs[1])
    # Any batch can be asked for at once, as a resumed run does.
    ((bucket, chosen),) = BatchSampler(filled, batch=4, seed=0)(14)
    assert bucket is epochs[2][2][0]
    assert chosen == epochs[2][2][1]
    other = BatchSampler(filled, batch=4, seed=1)
    assert places([other(n)[0] for n in range(6)]) != places(epochs[0])


def test_a_mixed_stream_puts_sizes_together(tmp_path: Path) -> None:
    filled = [numbered_bucket(count, tmp_path) for count in (12, 8, 2)]
    stream = BatchSampler(filled, batch=4, seed=0, mixed=True)
    assert stream.per_epoch == 22 // 4
    batches = [stream(n) for n in range(5)]
    assert all(sum(len(chosen) for _, chosen in batch) == 4 for batch in batches)
    assert any(len(batch) > 1 for batch in batches)
    shown = [(id(bucket), place) for batch in batches for bucket, chosen in batch for place in chosen]
    assert len(set(shown)) == 20
    assert [stream(n) for n in range(5)] == batches


def test_orders_are_those_of_earlier_checkpoints(tmp_path: Path) -> None:
    """Written out with lists: a run that began with another version resumes in the same order."""
    filled = [numbered_bucket(count, tmp_path) for count in (13, 2)]
    for mixed in (False, True):
        rng = random.Random("epoch 5 0")
        parts = [[(number, place) for place in range(len(bucket))] for number, bucket in enumerate(filled)]
        expected = []
        for together in [[*parts[0], *parts[1]]] if mixed else parts:
            rng.shuffle(together)
            together *= -(-4 // len(together))
            expected += [together[start : start + 4] for start in range(0, len(together) - 3, 4)]
        rng.shuffle(expected)
        stream = BatchSampler(filled, batch=4, seed=5, mixed=mixed)
        assert stream.per_epoch == len(expected)
        for number, batch in enumerate(expected):
            found = [(filled.index(bucket), place) for bucket, chosen in stream(number) for place in chosen]
            assert sorted(found) == sorted(batch)
            if not mixed:
                assert found == batch
