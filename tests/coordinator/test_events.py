"""Events as a stream: what comes by the dozen travels together, and nothing that somebody waits for waits with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hanse.coordinator.routes import events
from tests.waiting import PATIENCE

from .federation import Federation


def test_steps_are_told_together_and_what_is_more_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step of a while at once; those that follow with the next event that is more than a step, which comes
    long before their own time would."""
    monkeypatch.setattr(events, "_TOGETHER_S", 3600.0)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            who = f.store.accounts.find("owner-a")
            assert who is not None
            await asyncio.sleep(0.05)  # what has happened so far has been told
            stream = events._stream(f.it, who, f.store.events.last())
            assert await anext(stream) == b": connected\n\n"

            async def told() -> list[str]:
                async with asyncio.timeout(PATIENCE):
                    text = (await anext(stream)).decode()
                return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]

            f.store.events.append("round", node="a")
            assert await told() == ["round"]
            for _ in range(5):
                f.store.events.append("round", node="a")
            waiting = asyncio.ensure_future(told())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            f.store.events.append("run.note", node="a")
            assert await waiting == ["round"] * 5 + ["run.note"]
            f.store.events.append("round", node="a")
            assert await told() == ["round"]  # a batch with more in it begins no wait

    asyncio.run(body())
