"""An owner who decides at the coordinator before the proposal has reached the node: the decision is not lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hanse.messages import Message

from .federation import PROBE, Federation


def test_a_decision_that_comes_before_the_proposal_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            node = await f.node("a", online=False, consent="coordinator")
            on_its_way, arrive, taken = asyncio.Event(), asyncio.Event(), node.handle

            async def handle(peer: str, message: Message, progress: Any) -> Message:
                if message.kind == "proposal" and not on_its_way.is_set():
                    on_its_way.set()
                    await arrive.wait()
                return await taken(peer, message, progress)

            node.handle = handle  # type: ignore[method-assign]
            await f.connect("a")
            session = await f.propose(**PROBE)
            await on_its_way.wait()
            await f.consent(session, "a")
            arrive.set()
            assert await f.state(session["session_id"], "completed", "failed") == "completed"

    asyncio.run(main())
