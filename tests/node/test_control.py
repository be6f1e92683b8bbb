"""Who may speak to a running agent: its owner, and nothing that the worker started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from one_node import probe, running

from hanse.node import control
from tests.waiting import eventually

# What a training plan could do: from the worker's process, or one that it started and that has left its session
ATTACK = """
import ctypes, os, sys
from pathlib import Path
libc = ctypes.CDLL(None)
if libc.unshare(0x40000000) and libc.unshare(0x10000000 | 0x40000000):
    sys.exit(77)
if "orphan" in sys.argv and (os.fork() or os.setsid() and os.fork()):
    os.wait()
    os._exit(0)
from hanse.errors import HanseError
from hanse.node.control import ask
try:
    said = str(ask(Path(sys.argv[1]), "approve", run="run-1", actor="owner"))
except HanseError as error:
    said = error.code
Path(sys.argv[1], "said").write_text(said)
"""


@pytest.mark.parametrize("how", ["child", "orphan"])
def test_nothing_that_the_worker_started_approves_in_the_owners_name(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            if not node.agent.worker.offline:
                pytest.skip("this system has no network namespaces; plans are refused here")
            await node.propose(probe())
            await asyncio.to_thread(subprocess.run, [sys.executable, "-c", ATTACK, str(tmp_path), how], check=True)
            await eventually(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text())
            assert (tmp_path / "said").read_text() == "not_allowed"
            assert node.agent.approvals.get("run-1").state == "pending"
            said = await asyncio.to_thread(control.ask, tmp_path, "approve", run="run-1", actor="owner")
            assert said["state"] == "approved"

    asyncio.run(main())


def test_nodes_that_start_together_leave_the_rights_of_new_files_alone(tmp_path: Path) -> None:
    """The mask is the process's: two that set it in turn left it set, and what came later was nobody's to enter."""

    async def body() -> None:
        homes = [tmp_path / name for name in "abc"]
        for home in homes:
            home.mkdir()
        servers = await asyncio.gather(*(control.listen(home, lambda asked: asyncio.sleep(0, "")) for home in homes))
        assert all((home / control.FILE).stat().st_mode & 0o777 == 0o600 for home in homes)
        for server in servers:
            server.close()

    before = os.umask(0o022)
    try:
        asyncio.run(body())
        after = os.umask(0o022)
    finally:
        os.umask(before)
    assert after == 0o022
