"""Records of steps without a state wait for each other, and none is lost that somebody could go on from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hanse.coordinator import journal
from hanse.coordinator.journal import StoreJournal
from hanse.messages import Record
from hanse.rounds import Step
from hanse.store import Store
from hanse.store.states import RunState
from tests.waiting import PATIENCE, eventually

STATE = Record({"so": "far"})


class Written:
    """A store with a run that is computed, and what each commit was of."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(None, home)
        made = self.store.runs.create({}, proposer="ada", nodes=["a"], seed=0)
        self.run = self.store.runs.propose(made.id, "0" * 64, {}, actor="ada", nodes=["a"], expires=4e9).id
        self.store.runs.transition(self.run, RunState.RUNNING, "ada")
        self.commits: list[list[int]] = []
        self.fault: Exception | None = None
        real = self.store.rounds.checkpoint

        def counted(run: str, step: int, state: Any, record: Any, earlier: Sequence[Any] = ()) -> Any:
            if self.fault is not None:
                raise self.fault
            self.commits.append([*(number for number, _ in earlier), step])
            return real(run, step, state, record, earlier)

        monkeypatch.setattr(self.store.rounds, "checkpoint", counted)

    def journal(self) -> StoreJournal:
        return StoreJournal(self.store, self.run, lambda *_: None)

    @property
    def steps(self) -> list[int]:
        return [row.step for row in self.store.rounds.list(self.run)]


def step(number: int, status: str = "ok") -> Step:
    return Step(number, "train", 1, "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00", status=status)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.setattr(journal, "_TOGETHER_S", 60.0)  # however slow the machine is
    return Written(tmp_path, monkeypatch)


def test_records_without_a_state_are_one_commit_with_the_next_that_has_one(written: Written) -> None:
    async def body() -> None:
        it = written.journal()
        for number in range(4):
            await it.step(step(number), STATE, False)
        assert written.commits == []
        await it.step(step(4), STATE, True)
        assert written.commits == [[0, 1, 2, 3, 4]]
        await it.step(step(5), STATE, False)
        await it.step(step(6, "failed"), STATE, False)
        assert written.commits[1:] == [[5, 6]]
        await it.step(step(7), STATE, False)
        await it.end()
        assert written.commits[2:] == [[7]]
        await it.end()

    asyncio.run(body())
    assert written.steps == list(range(8))
    assert written.store.rounds.checkpoints(written.run) == (4,)
    told = written.store.events.since(run=written.run, kinds=["round"])
    assert [event.detail["step"] for event in told] == list(range(8))
    assert len(written.commits) == 3


def test_a_record_waits_no_longer_than_a_moment(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_TOGETHER_S", 0.01)

    async def body() -> None:
        it = written.journal()
        await it.step(step(0), STATE, False)
        await eventually(lambda: written.steps == [0])
        await it.end()

    asyncio.run(body())
    assert written.commits == [[0]]


@pytest.mark.parametrize("where", ["while it waits", "at the end"])
def test_a_fault_of_storage_is_told_at_the_next_step_or_at_the_end(
    where: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_TOGETHER_S", 0.0 if where == "while it waits" else 60.0)
    written.fault = OSError("no space left")

    async def body() -> None:
        it = written.journal()
        await it.step(step(0), STATE, False)
        if where == "at the end":
            with pytest.raises(OSError, match="no space"):
                await it.end()
            return
        with pytest.raises(OSError, match="no space"):
            async with asyncio.timeout(PATIENCE):
                for number in range(1, 10_000):
                    await asyncio.sleep(0.01)
                    await it.step(step(number), STATE, False)

    asyncio.run(body())
    assert written.steps == []


def test_no_state_is_kept_after_records_that_could_not_be(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on from it would never do their steps again."""
    monkeypatch.setattr(journal, "_TOGETHER_S", 0.0)
    written.fault = OSError("no space left")

    async def body() -> None:
        it = written.journal()
        await it.step(step(0), STATE, False)
        assert it._soon is not None
        await asyncio.wait([it._soon])
        written.fault = None
        with pytest.raises(OSError, match="no space"):
            await it.step(step(1), STATE, True)
        await it.end()

    asyncio.run(body())
    assert written.commits == []


def test_the_last_record_is_written_that_came_while_others_were(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's last step is its evaluation: without its record the run has no final loss."""
    monkeypatch.setattr(journal, "_TOGETHER_S", 0.0)

    async def body() -> None:
        it = written.journal()
        loop, writes, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        real = written.store.rounds.checkpoint

        def slow(*given: Any) -> Any:
            loop.call_soon_threadsafe(writes.set)
            assert go_on.wait(PATIENCE)
            return real(*given)

        monkeypatch.setattr(written.store.rounds, "checkpoint", slow)
        await it.step(step(0), STATE, False)
        await writes.wait()
        await it.step(step(1), STATE, False)
        go_on.set()
        await it.end()

    asyncio.run(body())
    assert written.steps == [0, 1]
