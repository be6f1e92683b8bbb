"""What the loop writes: a large state once, also when it is the model that the run ends with."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hanse.coordinator.journal import StoreJournal
from hanse.messages import Record, digest
from hanse.rounds import Step
from hanse.store.store import Store

START = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path / 'hanse.db'}", tmp_path / "store", fsync=False) as opened:
        yield opened


@pytest.fixture
def journal(store: Store, monkeypatch: pytest.MonkeyPatch) -> StoreJournal:
    run = store.runs.create({"rounds": 3}, proposer="ada", nodes=["a"], seed=7)
    store.runs.propose(run.id, "hash", {"code": "x"}, actor="ada")
    store.consents.record(run.id, "a", "accept", "hash", actor="owner")
    return StoreJournal(store, store.consents.settle(run.id, "hanse", start=True).id, lambda kind, run, detail: None)


def state(k: int) -> Record:
    return Record({"round": k}, {"w": np.full(100_000, float(k))})


def test_the_last_state_is_not_written_again(
    store: Store, journal: StoreJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    put = store.blobs.put
    monkeypatch.setattr(store.blobs, "put", lambda record: written.append(record) or put(record))
    first, second = state(1), state(2)
    asyncio.run(journal.step(Step(0, "train", 1, START), first))
    asyncio.run(journal.step(Step(1, "train", 2, START), second))
    assert journal.put(second) == digest(second)
    assert written == [first, second]
    store.blobs.delete(digest(second))
    assert journal.put(second) == digest(second)  # somebody removed it: again
    assert store.blobs.has(digest(second))
    other = Record({"model": True}, second.arrays)
    assert journal.put(other) == digest(other)
    assert [id(record) for record in written] == [id(r) for r in (first, second, second, other)]


def test_failed_steps_and_small_states_make_no_files(store: Store, journal: StoreJournal) -> None:
    failed = Step(0, "train", 1, START, status="failed")
    asyncio.run(journal.step(failed, state(0)))
    asyncio.run(journal.step(Step(0, "train", 1, START), Record({"n": 1}, {"w": np.ones(3)})))
    assert not store.blobs.sizes()


def test_the_state_before_is_not_held_while_the_next_is_written(
    store: Store, journal: StoreJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    put = store.blobs.put

    def watched(record: Record) -> str:
        gc.collect()
        held.append(sum(isinstance(o, Record) and o.nbytes == 800_000 for o in gc.get_objects()))
        return put(record)

    monkeypatch.setattr(store.blobs, "put", watched)
    for k in range(3):
        asyncio.run(journal.step(Step(k, "train", k, START), state(k)))
    assert held == [1, 1, 1]
