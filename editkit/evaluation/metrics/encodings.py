"""Encodings of pictures by content, so that a source and an answer are encoded once for all methods."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from torch import Tensor

from editkit.evaluation.records import RGB

BYTES = 256 << 20
"""Memory that a cache may hold; what was not asked for longest goes first."""

Encoding = Sequence[Tensor]


class Encodings:
    """Encodes pictures and keeps the encodings in memory, by the pictures' content.

    Pictures are encoded one by one: rounding depends on what is encoded together, and a figure must not
    depend on what else was scored. Threads may use it at once.

    Args:
        encode: gives the tensors of a picture.
        limit: bytes to hold; a larger encoding is not kept.
    """

    def __init__(self, encode: Callable[[RGB], Encoding], limit: int = BYTES) -> None:
        self._encode, self._limit = encode, limit
        self._held: OrderedDict[bytes, Encoding] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    def __call__(self, picture: RGB) -> Encoding:
        """The tensors of a picture, (H, W, 3)."""
        key = _key(picture)
        with self._lock:
            if (known := self._held.get(key)) is not None:
                self._held.move_to_end(key)
                return known
        made = self._encode(picture)
        with self._lock:
            self._keep(key, made)
        return made

    def _keep(self, key: bytes, made: Encoding) -> None:
        if key in self._held or _size(made) > self._limit:
            return
        self._held[key] = made
        self._bytes += _size(made)
        while self._bytes > self._limit:
            self._bytes -= _size(self._held.popitem(last=False)[1])


def _key(picture: RGB) -> bytes:
    return hashlib.blake2b(f"{picture.shape}".encode() + picture.tobytes(), digest_size=16).digest()


def _size(made: Encoding) -> int:
    return sum(each.nbytes for each in made)
