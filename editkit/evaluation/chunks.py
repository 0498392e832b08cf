"""Chunks of items that are worked on together: the same in every run, by any number of processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from editkit.errors import EditkitError
from editkit.evaluation.records import Item, Problem

Session = list[tuple[int, Item]]
"""Items that follow each other, with their places; an item of its own is a session of one."""
Watch = Callable[[int], None]
"""Told of the number of results that are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One process's part of the work: every `world`-th chunk.

    Attributes:
        rank: number of the process, from 0 on.
        world: number of processes.
        independent: whether each process is a command of its own, at its own time, and waits for no other.
    """

    rank: int = 0
    world: int = 1
    independent: bool = False

    @property
    def leads(self) -> bool:
        """Whether the process begins the run and chooses its best and worst results."""
        return self.independent or self.rank == 0

    def has(self, chunk: int) -> bool:
        """Whether a chunk is this process's."""
        return chunk % self.world == self.rank


def sessions(items: Iterable[Item | Problem]) -> Iterator[Session]:
    """Neighbouring items of one session together, with the places of items; problems are left out."""
    held: Session = []
    for place, item in enumerate(each for each in items if isinstance(each, Item)):
        if held and not (item.session and item.session == held[-1][1].session):
            yield held
            held = []
        held.append((place, item))
    if held:
        yield held


def chunks(items: Iterable[Item | Problem], size: int, share: Share) -> Iterator[list[Session]]:
    """This process's chunks of `size` sessions."""
    held, number = list[Session](), 0
    for session in sessions(items):
        held.append(session)
        if len(held) == size:
            if share.has(number):
                yield held
            held, number = [], number + 1
    if held and share.has(number):
        yield held


def from_environment(shard: str | None = None) -> tuple[Share, Callable[[], None]]:
    """This process's share, from `K/N` or what accelerate and torchrun set, and how to wait for the others.

    Raises:
        EditkitError: where the share is none.
    """
    if shard is not None:
        rank, slash, world = shard.partition("/")
        if not (slash and rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
            raise EditkitError(f"--shard {shard} is not allowed; give K/N with K from 0 to N-1, such as 0/2.")
        return Share(rank=int(rank), world=int(world), independent=True), lambda: None
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Share(), lambda: None
    import torch
    from accelerate import PartialState

    # Without being told, it takes processes on CPUs for single ones.
    state = PartialState(cpu=not torch.accelerator.is_available())
    return Share(rank=state.process_index, world=state.num_processes), state.wait_for_everyone
