"""Law: three methods in one process hold each weight once."""

from __future__ import annotations

import editkit
from benchmarks import switching


def test_resident_weights_are_those_that_are_needed() -> None:
    resident, needed = switching.weights(editkit.load("tiny", device="cpu"))
    assert resident <= 1.05 * needed
