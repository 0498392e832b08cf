"""Choose the samples of each batch: endless, shuffled, and the same on every machine and after a resume."""

import random
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from editkit.data.buckets import Bucket

Samples = list[tuple[Bucket, list[int]]]
"""Samples of a batch: buckets, each with the places of its samples."""


def take(samples: Samples, start: int, count: int) -> Samples:
    """Take `count` of the samples, from number `start` on."""
    found: Samples = []
    for bucket, places in samples:
        own = places[max(0, start) : max(0, start + count)]
        if own:
            found.append((bucket, own))
        start -= len(places)
    return found


class BatchSampler:
    """Chooses batches from buckets; each epoch shuffles samples and batches again.

    Memory holds 8 bytes a sample, its number among the samples of all buckets.

    Args:
        buckets: all samples.
        batch: number of samples in a batch.
        seed: seed of the order.
        mixed: whether one batch may have samples of different buckets.
    """

    def __init__(self, buckets: Sequence[Bucket], batch: int, seed: int, *, mixed: bool = False) -> None:
        self.buckets, self.batch, self.seed, self.mixed = buckets, batch, seed, mixed
        counts = [len(bucket) for bucket in buckets]
        self._starts = [0, *accumulate(counts)]
        # A bucket smaller than a batch still gives one batch, with repeats.
        self.per_epoch = sum(max(1, count // batch) for count in ([sum(counts)] if mixed else counts))
        self._epoch = -1
        self._samples, self._order = array("q"), array("q")

    def __call__(self, number: int) -> Samples:
        """Return the samples of batch `number`."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._shuffle(epoch)
        start = self._order[place]
        return self._by_bucket(self._samples[start : start + self.batch])

    def _shuffle(self, epoch: int) -> None:
        """Put the samples in an order, and the places where batches start in it."""
        rng = random.Random(f"epoch {self.seed} {epoch}")
        ends = self._starts[-1:] if self.mixed else self._starts[1:]
        self._samples, self._order = array("q"), array("q")
        for start, end in zip([0, *ends], ends, strict=False):
            together = array("q", range(start, end))
            rng.shuffle(together)
            together *= -(-self.batch // len(together))
            first = len(self._samples)
            self._samples += together
            last = first + len(together) - self.batch + 1
            self._order += array("q", range(first, last, self.batch))
        rng.shuffle(self._order)

    def _by_bucket(self, numbers: Sequence[int]) -> Samples:
        found: dict[int, list[int]] = {}
        for number in numbers:
            bucket = bisect_right(self._starts, number) - 1
            found.setdefault(bucket, []).append(number - self._starts[bucket])
        return [(self.buckets[bucket], places) for bucket, places in found.items()]


class MixtureSampler:
    """Takes batches from several samplers by weight.

    After any number of batches, no sampler is a whole batch behind its share.

    Args:
        samplers: one for each dataset.
        weights: relative weight of each sampler.
    """

    def __init__(self, samplers: Sequence[BatchSampler], weights: Sequence[float]) -> None:
        self.samplers = samplers
        self.shares = [weight / sum(weights) for weight in weights]
        self._chosen: list[int] = []
        self._places: list[int] = []
        self._counts = [0] * len(samplers)

    def __call__(self, number: int) -> Samples:
        """Return the samples of batch `number`."""
        while len(self._chosen) <= number:
            owed = [
                share * (len(self._chosen) + 1) - count
                for share, count in zip(self.shares, self._counts, strict=True)
            ]
            sampler = owed.index(max(owed))
            self._chosen.append(sampler)
            self._places.append(self._counts[sampler])
            self._counts[sampler] += 1
        return self.samplers[self._chosen[number]](self._places[number])
