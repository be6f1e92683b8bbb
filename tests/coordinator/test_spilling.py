"""A coordinator that runs keeps models that are too much for memory in files of its home."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hanse import large_arrays
from hanse.coordinator import server
from hanse.coordinator.server import Listening, Start
from tests.waiting import PATIENCE


def test_what_is_too_much_for_memory_lies_in_the_home_of_the_coordinator(tmp_path: Path) -> None:
    found: list[object] = []

    async def main() -> None:
        stop = asyncio.Event()

        def ready(where: Listening) -> None:
            found.append(large_arrays._folder)
            stop.set()

        how = Start(tmp_path, http="127.0.0.1:0", listen="grpc://127.0.0.1:0")
        await asyncio.wait_for(server._serve(how, ready, stop), PATIENCE)

    tmp_path.chmod(0o700)
    asyncio.run(main())
    assert found == [tmp_path / "spool"]
    assert large_arrays._folder is None
