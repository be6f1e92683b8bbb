"""What a service manager is told, over its real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanse import supervisor
from tests.node.one_node import FakeCoordinator, running
from tests.waiting import PATIENCE


class Manager:
    """Listens as systemd does."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(0.1)
        self.heard: list[str] = []

    def until(self, wanted: str, seconds: float = PATIENCE) -> str:
        """The first message that begins so."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for said in self.heard:
                if any(line.startswith(wanted) for line in said.split("\n")):
                    return said
            try:
                self.heard.append(self.sock.recv(4096).decode())
            except TimeoutError:
                continue
        raise AssertionError(f"nobody said {wanted}; heard was {self.heard}")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    found = Manager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", found.path)
    yield found
    found.sock.close()


def test_a_coordinator_says_when_it_is_ready_that_it_is_alive_and_that_it_stops(
    manager: Manager, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "hanse.cli", "coordinator", "start", "--home", str(tmp_path / "home")]
    command += ["--plain-http", "--http", "127.0.0.1:0", "--listen", "grpc://127.0.0.1:0"]
    told = {**os.environ, "WATCHDOG_USEC": "400000"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=told, text=True) as process:
        try:
            assert "STATUS=page and REST http://127.0.0.1:" in manager.until("READY=1")
            manager.until("WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            manager.until("STOPPING=1")
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_node_says_when_it_is_ready_and_whether_it_is_connected(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    async def main() -> None:
        fake = FakeCoordinator()
        async with running(tmp_path / "home", coordinator=fake):
            await fake.until("hello")
            for said in ("READY=1", "STATUS=connected: here", "WATCHDOG=1"):
                await asyncio.to_thread(manager.until, said)
        await asyncio.to_thread(manager.until, "STOPPING=1")

    asyncio.run(main())


def test_who_is_not_well_gives_no_sign_of_life(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    sick = ["driver: 1 runs are running\nand nobody computes them"]

    async def alive() -> str:
        return sick[0]

    async def main() -> None:
        watching = asyncio.ensure_future(supervisor.watch(alive))
        await asyncio.to_thread(manager.until, "STATUS=driver: 1 runs are running and nobody computes them")
        assert not any("WATCHDOG" in said for said in manager.heard)
        sick[0] = ""
        await asyncio.to_thread(manager.until, "WATCHDOG=1")
        watching.cancel()

    asyncio.run(main())


def test_without_a_service_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert supervisor.notify("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    assert supervisor.notify("READY=1") is False
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert supervisor.watchdog_s() is None
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert supervisor.watchdog_s() == 0.5


@pytest.mark.parametrize("unit", ["hanse-coordinator.service", "hanse-node.service"])
def test_the_units_call_commands_that_there_are(unit: str) -> None:
    from click.testing import CliRunner

    from hanse.cli import group

    lines = (Path(__file__).parents[1] / "deploy" / unit).read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert settings["Type"] == "notify"
    assert int(settings["WatchdogSec"]) >= 30
    words = settings["ExecStart"].split()[1:]
    known = CliRunner().invoke(group, [*words[:2], "--help"]).output
    assert all(word in known for word in words if word.startswith("--"))
