"""Behaviour: the garbage collector is off during imports alone."""

from __future__ import annotations

import gc

import pytest

import editkit
from editkit.startup import no_garbage_collection


def test_the_collector_is_off_in_the_block_alone() -> None:
    with no_garbage_collection():
        assert not gc.isenabled()
        with no_garbage_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_leaves_it_on() -> None:
    with pytest.raises(ZeroDivisionError), no_garbage_collection():
        _ = 1 / 0
    assert gc.isenabled()


def test_a_collector_that_a_program_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_loading_leaves_the_objects_of_a_program_to_the_collector() -> None:
    frozen = gc.get_freeze_count()
    editkit.load("tiny", "cpu")
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen
