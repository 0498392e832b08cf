"""Encodings are made once for equal pictures, and memory is bounded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from editkit.evaluation.metrics.encodings import Encodings
from tests.evaluation.metrics.cases import noise

ROOM = 1024


class Counted:
    """Encodes a picture as so many bytes, and counts."""

    def __init__(self, size: int = 256) -> None:
        self.calls, self.size = 0, size

    def __call__(self, picture: np.ndarray) -> tuple[Tensor, ...]:
        self.calls += 1
        return (torch.full((self.size,), int(picture[0, 0, 0]), dtype=torch.uint8),)


def test_equal_pictures_are_encoded_once() -> None:
    encode = Counted()
    encodings = Encodings(encode, ROOM)
    first = encodings(noise(0))
    assert encodings(noise(0).copy()) is first
    assert encodings(noise(1))[0][0] == noise(1)[0, 0, 0]
    assert encode.calls == 2
    encodings(noise(0).reshape(64, 48, 3))  # the same bytes in another shape
    assert encode.calls == 3


def test_what_was_not_asked_for_longest_goes_first() -> None:
    encode = Counted()
    encodings = Encodings(encode, ROOM)
    for seed in (0, 1, 2, 3, 0, 4):
        encodings(noise(seed))
    assert encode.calls == 5
    encodings(noise(0))
    assert encode.calls == 5
    encodings(noise(1))
    assert encode.calls == 6


def test_what_is_too_large_is_not_kept() -> None:
    encode = Counted(ROOM + 1)
    encodings = Encodings(encode, ROOM)
    for _ in range(2):
        assert len(encodings(noise())[0]) == ROOM + 1
    assert encode.calls == 2
