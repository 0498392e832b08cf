"""Choose the samples of each batch: endless, shuffled, and the same on every machine and after a resume."""

import random
from collections.abc import Sequence

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

    Args:
        buckets: all samples.
        batch: number of samples in a batch.
        seed: seed of the order.
        mixed: whether one batch may have samples of different buckets.
    """

    def __init__(self, buckets: Sequence[Bucket], batch: int, seed: int, *, mixed: bool = False) -> None:
        self.buckets, self.batch, self.seed, self.mixed = buckets, batch, seed, mixed
        counts = [len(bucket.instructions) for bucket in buckets]
        # A bucket smaller than a batch still gives one batch, with repeats.
        self.per_epoch = sum(max(1, count // batch) for count in ([sum(counts)] if mixed else counts))
        self._epoch = -1
        self._order: list[Samples] = []

    def __call__(self, number: int) -> Samples:
        """Return the samples of batch `number`."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffle(epoch)
        return self._order[place]

    def _shuffle(self, epoch: int) -> list[Samples]:
        rng = random.Random(f"epoch {self.seed} {epoch}")
        samples = [
            [(number, place) for place in range(len(bucket.instructions))]
            for number, bucket in enumerate(self.buckets)
        ]
        order = []
        for together in [[pair for each in samples for pair in each]] if self.mixed else samples:
            rng.shuffle(together)
            together *= -(-self.batch // len(together))
            order += [
                self._by_bucket(together[start : start + self.batch])
                for start in range(0, len(together) - self.batch + 1, self.batch)
            ]
        rng.shuffle(order)
        return order

    def _by_bucket(self, pairs: Sequence[tuple[int, int]]) -> Samples:
        numbers = dict.fromkeys(number for number, _ in pairs)
        return [(self.buckets[n], [place for number, place in pairs if number == n]) for n in numbers]


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
