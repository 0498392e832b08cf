"""Behaviour: memory that runs out is one sentence, and other errors stay what they are."""

from __future__ import annotations

import pytest
import torch

from editkit.errors import EditkitError
from editkit.inference.memory import enough_memory


def test_an_allocation_that_fails_is_one_sentence() -> None:
    with pytest.raises(EditkitError, match="too little memory for this edit"), enough_memory():
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_stay() -> None:
    with pytest.raises(RuntimeError, match="must match"), enough_memory():
        torch.ones(2) + torch.ones(3)
