"""What a node remembers of a run, and for how long."""

from __future__ import annotations

import random

import pytest

from hanse.memories import KEPT_CHECKPOINTS, MOST, Memories, NodeMemory


def answer(kept: Memories, step: int, exchange: int, checkpoint: bool = True) -> list[tuple[int, int]]:
    memory = kept.before(step, exchange)
    trail = [*memory.algorithm.get("trail", []), (step, exchange)]
    memory.algorithm["trail"] = trail
    kept.keep(step, exchange, memory, checkpoint)
    return trail


@pytest.mark.parametrize("seed", range(20))
def test_an_exchange_always_finds_what_was_before_it(seed: int) -> None:
    """A coordinator that is killed at random goes on after one of its last two checkpoints."""
    random_, kept, every = random.Random(seed), Memories(), seed % 4 + 1
    order = [(s, e) for s in range(60) for e in range(3)]
    at, checkpoints = 0, [-1]
    for _ in range(400):
        if at >= len(order):
            break
        step, exchange = order[at]
        assert answer(kept, step, exchange, step % every == 0) == order[: at + 1]
        at += 1
        if exchange == 2 and step % every == 0:
            checkpoints = [*checkpoints, step][-2:]  # as the store keeps them
        if random_.random() < 0.1:
            back = random_.choice(checkpoints)
            at, checkpoints = order.index((back + 1, 0)), [c for c in checkpoints if c <= back]
    assert len(kept) <= 3 * (KEPT_CHECKPOINTS * every + 2)


def test_a_coordinator_that_keeps_no_state_does_not_fill_the_node() -> None:
    kept = Memories()
    for step in range(3 * MOST):
        answer(kept, step, 0, checkpoint=False)
    assert len(kept) <= MOST


def test_a_change_after_an_exchange_is_not_seen_by_the_next_one() -> None:
    kept = Memories()
    memory = kept.before(0, 0)
    memory.gather["key"] = 1
    memory.transforms["0 clip"] = {"n": 1}
    kept.keep(0, 0, memory)
    later = kept.before(0, 1)
    later.gather["key"], later.transforms["0 clip"]["n"] = 2, 2
    assert kept.before(0, 1).gather == {"key": 1}
    assert kept.before(0, 1).transforms == {"0 clip": {"n": 1}}


def test_what_remembers_nothing_takes_no_room() -> None:
    kept = Memories()
    for step in range(5):
        kept.keep(step, 0, NodeMemory())
    assert len(kept) == 0
    kept.keep(5, 0, NodeMemory({"a": 1}))
    assert kept.before(3, 0).blank
    assert kept.before(5, 0).blank
    assert kept.before(6, 0).algorithm == {"a": 1}
    kept.keep(6, 0, NodeMemory())  # it was told to forget: the step before is still known
    assert kept.before(6, 0).algorithm == {"a": 1}
    assert kept.before(7, 0).blank
    kept.keep(2, 0, NodeMemory())  # the run goes on from an earlier state
    assert len(kept) <= 2
    assert kept.before(9, 0).blank
