"""The line between the coordinator and its ServerApp: no ServerApp outlives it, whatever became of Flower."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from grpc_federation import authority, echo

from hanse import transports
from hanse.transports import _flower_coordinator
from tests.waiting import PATIENCE, ending

APP = Path(_flower_coordinator.__file__).with_name("_flower_app")
FLOWER = {  # as much of it as the app needs, which asks a SuperLink that is gone without end
    "app": "import time\n"
    "class RecordDict(dict): ...\n"
    "class ConfigRecord(dict): ...\n"
    "class Message:\n    def __init__(self, *_, **__): ...\n"
    "class Context:\n    def __init__(self, line): self.run_config = {'line': line}\n",
    "serverapp": "import time\n"
    "class Grid:\n"
    "    def push_messages(self, messages):\n        print('asked', flush=True)\n"
    "        while True: time.sleep(1)\n"
    "class ServerApp:\n    def main(self): return lambda main: main\n",
}


def test_a_serverapp_ends_with_its_line_also_while_flower_asks_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "flwr").mkdir()
    for name, text in FLOWER.items():
        (tmp_path / "flwr" / f"{name}.py").write_text(text)
    program = (
        "from flwr.app import Context; from flwr.serverapp import Grid\n"
        "from hanse_carrier import coordinator_end as end\n"
        f"end._END_S = 0.1; end.main(Grid(), Context({str(tmp_path / 'line')!r}))"
    )
    path = os.pathsep.join([str(tmp_path), str(APP)])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "line"))
        listening.listen()
        started = subprocess.Popen(
            [sys.executable, "-c", program], env={"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
        )
        with ending(started) as serverapp:
            line, _ = listening.accept()
            line.sendall((17).to_bytes(8, "little") + bytes(17))
            assert serverapp.stdout is not None
            assert serverapp.stdout.readline() == "asked\n"
            line.close()
            assert serverapp.wait(PATIENCE) == 1


def test_the_line_to_a_serverapp_is_closed_when_its_superlink_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not when the next ServerApp comes, which may be never: it does not end with the SuperLink."""
    (tmp_path / "flower-superlink").touch(0o755)
    monkeypatch.setenv("HANSE_FLOWER", str(tmp_path))
    own = authority(tmp_path / "authority")
    hub = transports.Hub(
        echo,
        lambda *_: None,
        lambda *_: None,
        lambda hosts: (*own.issue_server([*hosts, "localhost"]), own.pem),
        tmp_path,
    )
    began: list[str] = []

    async def test() -> None:
        coordinator = _flower_coordinator.FlowerCoordinator("localhost:0", hub)
        over, never = asyncio.Event(), asyncio.Event()

        class SuperLink:
            async def begin(self) -> None:
                began.append("")
                if len(began) > 1:
                    await never.wait()

            async def ends(self) -> None:
                await over.wait()

            async def stop(self) -> None: ...

        class Programs:
            async def said(self, *_: str) -> dict[str, str]:
                self.line = await asyncio.open_unix_connection(coordinator._private / "line")
                return {}

            def app(self) -> str:
                return ""

        monkeypatch.setattr(coordinator, "_superlink", SuperLink())
        monkeypatch.setattr(coordinator, "_programs", programs := Programs())
        await coordinator._grid.start()
        keeping = asyncio.create_task(coordinator._keep())
        await coordinator._grid.there.wait()
        over.set()
        assert await programs.line[0].read() == b""
        programs.line[1].close()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await coordinator._grid.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE))
