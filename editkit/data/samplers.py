"""The order in which samples come: endless, shuffled, and the same on every machine and after every stop."""

import random
from collections.abc import Sequence

from editkit.data.buckets import Bucket

Picked = list[tuple[Bucket, list[int]]]
"""The samples of a batch: each bucket with its samples' places."""


def share(picked: Picked, start: int, count: int) -> Picked:
    """Take `count` of a step's samples, beginning at `start`."""
    found: Picked = []
    for bucket, places in picked:
        own = places[max(0, start) : max(0, start + count)]
        if own:
            found.append((bucket, own))
        start -= len(places)
    return found


class Stream:
    """An endless, deterministic order of batches: each epoch shuffles samples and batches anew.

    Args:
        filled: all samples.
        batch: number of samples in a batch.
        seed: seed of the order.
        mixed: whether samples of different buckets may go together.
    """

    def __init__(self, filled: Sequence[Bucket], batch: int, seed: int, *, mixed: bool = False) -> None:
        self.buckets, self.batch, self.seed, self.mixed = filled, batch, seed, mixed
        counts = [len(bucket.instructions) for bucket in filled]
        # A bucket smaller than a batch still gives one, with repeats.
        self.per_epoch = sum(max(1, count // batch) for count in ([sum(counts)] if mixed else counts))
        self._epoch = -1
        self._order: list[Picked] = []

    def __call__(self, number: int) -> Picked:
        """Return the samples of batch `number`."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return self._order[place]

    def _shuffled(self, epoch: int) -> list[Picked]:
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
                self._picked(together[start : start + self.batch])
                for start in range(0, len(together) - self.batch + 1, self.batch)
            ]
        rng.shuffle(order)
        return order

    def _picked(self, pairs: Sequence[tuple[int, int]]) -> Picked:
        numbers = dict.fromkeys(number for number, _ in pairs)
        return [(self.buckets[n], [place for number, place in pairs if number == n]) for n in numbers]


class Mixture:
    """Batches of several streams, by weight: after any number of them none is a whole batch behind its share.

    Args:
        streams: one stream for each dataset.
        weights: relative weight of each stream.
    """

    def __init__(self, streams: Sequence[Stream], weights: Sequence[float]) -> None:
        self.streams = streams
        self.shares = [weight / sum(weights) for weight in weights]
        self._chosen: list[int] = []
        self._places: list[int] = []
        self._counts = [0] * len(streams)

    def __call__(self, number: int) -> Picked:
        """Return the samples of batch `number`."""
        while len(self._chosen) <= number:
            owed = [
                share * (len(self._chosen) + 1) - count
                for share, count in zip(self.shares, self._counts, strict=True)
            ]
            stream = owed.index(max(owed))
            self._chosen.append(stream)
            self._places.append(self._counts[stream])
            self._counts[stream] += 1
        return self.streams[self._chosen[number]](self._places[number])
