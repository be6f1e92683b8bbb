"""A federation of real processes on two small disks, behind lines that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from tests.chaos.postgres import Postgres

Json = Any
NODES = ("ulm", "bonn", "kiel")
DISK_MB = 400  # an hour takes some 400 runs, a quarter of a megabyte each at the coordinator
_UP_S = 90.0
_END_S = 90.0  # as systemd waits; the machine may have a lot else to do
_PRELOAD = Path(__file__).with_name("preload.c")


class Line:
    """A TCP line to the coordinator's port for nodes: ``cut`` ends what is open, ``dead`` carries nothing."""

    def __init__(self, to: Callable[[], int]) -> None:
        self._to, self.dead, self.port = to, False, 0
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to())
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}

        async def carry(source: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    while self.dead:
                        await asyncio.sleep(0.05)
                    into.write(data)
                    await into.drain()
            for each in (writer, back):
                each.transport.abort()

        try:
            await asyncio.gather(carry(reader, back), carry(there, writer), return_exceptions=True)
        finally:  # also where the test ends first
            self._open -= {writer, back}
            for each in (writer, back):
                each.transport.abort()


class Process:
    """One program of the federation. ``release``: what it says it is; None: what it is."""

    def __init__(self, name: str, arguments: list[str], log: Path, environment: dict[str, str], up: Path) -> None:
        self.name, self.arguments, self.log, self._up = name, arguments, log, up
        self._environment = environment
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self, release: str | None = None) -> None:
        program = "from hanse.cli import main; main()"
        if release is not None:
            program = f"import hanse; hanse.__version__ = {release!r}; {program}"
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-c", program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **self._environment},
            )

    @property
    def alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.popen is not None and self.alive:
            self.popen.send_signal(how)
            try:
                self.popen.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.popen.send_signal(signal.SIGABRT)  # its last words say where its threads are
                self.popen.wait()
                said = self.log.read_text(errors="replace")[-6000:]
                raise AssertionError(f"{self.name} did not end within {_END_S:g} s of {how.name}:\n{said}") from None

    def last_words(self) -> str:
        """The last line of its log."""
        return (self.log.read_text(errors="replace").splitlines() or [""])[-1][:500]

    @property
    def ended_by_its_disk(self) -> bool:
        """Whether it ended in order, with the sentence about a disk that is full or fails."""
        ended = self.popen is not None and self.popen.poll() == 1
        return (
            ended and self.last_words().startswith("hanse: ") and "mend that, and run this again" in self.last_words()
        )

    def second(self) -> str:
        """What another one on the same folder says, which must not start."""
        done = subprocess.run(
            [sys.executable, "-c", "from hanse.cli import main; main()", *self.arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **self._environment},
        )
        assert done.returncode == 1, f"a second {self.name} ended with {done.returncode}: {done.stderr[-500:]}"
        return done.stderr.strip()


class World:
    """Use with ``async with``. ``folder`` is made anew and holds all that the processes write, but for what a server of
    PostgreSQL writes, where the coordinator has one."""

    def __init__(self, folder: Path, postgres: Postgres | None = None) -> None:
        self.folder, self.postgres = folder, postgres
        self.disks: list[Path] = []
        self.http_port = self.grpc_port = 0
        self.line = {name: Line(lambda: self.grpc_port) for name in NODES}
        self.nodes: dict[str, Process] = {}
        self.tokens: dict[str, str] = {}

    async def __aenter__(self) -> World:
        self.folder.mkdir(parents=True)
        self.hub, self.sites = self._disk("hub"), self._disk("sites")
        self.tricks = Tricks(self.folder)
        self.coordinator = self._program("coordinator", self._coordinator(), self.hub / "home" / "coordinator.json")
        self.coordinator.start()
        await self.up()
        where = json.loads((self.hub / "home" / "coordinator.json").read_text())
        self.http_port, self.grpc_port = (int(where[k].rpartition(":")[2]) for k in ("url", "address"))
        self.coordinator.arguments = self._coordinator()
        self.tokens["operator"] = (self.hub / "home" / "operator.token").read_text().strip()
        made = await self.ask("POST", "/api/accounts", {"name": "ada", "role": "data_scientist"})
        self.tokens["ada"] = made["token"]
        for number, name in enumerate(NODES):
            await self._join(name, number)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in (*self.nodes.values(), self.coordinator):
            if process.alive:
                process.popen.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
            with contextlib.suppress(AssertionError):
                process.end(signal.SIGKILL)
        for line in self.line.values():
            await line.stop()
        for disk in self.disks:
            subprocess.run(["umount", "-l", disk], check=False)

    # ------------------------------------------------------------ parts

    def _disk(self, name: str) -> Path:
        """A disk of its own, if this process may mount one."""
        place = self.folder / name
        place.mkdir()
        if os.geteuid() == 0:
            how = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(place)]
            if subprocess.run(how, capture_output=True).returncode == 0:
                self.disks.append(place)
        return place

    def _program(self, name: str, arguments: list[str], up: Path) -> Process:
        return Process(name, arguments, self.folder / f"{name}.log", self.tricks.environment(name), up)

    def _coordinator(self) -> list[str]:
        return [
            *("coordinator", "start", "--home", str(self.hub / "home"), "--plain-http"),
            *("--http", f"127.0.0.1:{self.http_port}", "--listen", f"grpc://127.0.0.1:{self.grpc_port}"),
            *("--set", "least_free_mb=1"),
            *(("--database", self.postgres.url) if self.postgres is not None else ()),
        ]

    async def _join(self, name: str, number: int) -> None:
        home = self.sites / name
        await self.line[name].start()
        token = (await self.ask("POST", "/api/nodes/join-tokens", {"node": name}))["token"]
        _hanse("node", "init", "--home", str(home), "--join", token)
        data = self.folder / f"{name}.csv"
        data.write_text(_rows(number))
        _hanse("node", "dataset", "add", str(data), "--name", "visits", "--home", str(home))
        settings = home / "node.toml"
        text = settings.read_text().replace(f":{self.grpc_port}", f":{self.line[name].port}")
        settings.write_text(text)
        _hanse("node", "policy", "set", "standing", "accept-allowed", "--home", str(home))
        self.nodes[name] = self._program(name, ["node", "start", "--home", str(home)], home / "control.sock")
        self.nodes[name].start()

    # ------------------------------------------------------------ talking to it

    async def ask(self, method: str, path: str, body: Json = None, who: str = "operator") -> Json:
        """One request. Raises ``httpx.HTTPError`` where nobody answers, ``RuntimeError`` where it is refused."""
        port = self.http_port or int(
            json.loads((self.hub / "home" / "coordinator.json").read_text())["url"].split(":")[2]
        )
        token = self.tokens.get(who) or (self.hub / "home" / "operator.token").read_text().strip()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            answer = await http.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})
        if answer.status_code >= 300:
            raise RuntimeError(f"{answer.status_code} {answer.text[:500]}")
        return answer.json()

    async def up(self) -> None:
        """Waits until the coordinator answers."""
        ends = time.monotonic() + _UP_S
        while time.monotonic() < ends:
            with contextlib.suppress(httpx.HTTPError, OSError, ValueError, KeyError, RuntimeError):
                await self.ask("GET", "/api/me")
                return
            if not self.coordinator.alive:
                raise AssertionError(f"the coordinator ended: {self.coordinator.log.read_text()[-1500:]}")
            await asyncio.sleep(0.1)
        raise AssertionError(f"the coordinator did not answer within {_UP_S:g} s")

    async def online(self) -> None:
        """Waits until all nodes can be asked."""
        ends = time.monotonic() + _UP_S
        shown: Json = {}
        while time.monotonic() < ends:
            with contextlib.suppress(httpx.HTTPError, RuntimeError):
                shown = await self.ask("GET", "/api/nodes")
                if sum(node["connected"] for node in shown["nodes"]) == len(NODES):
                    return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not all nodes were on line after {_UP_S:g} s: {shown}")

    def workers(self, name: str) -> list[psutil.Process]:
        """The worker of a node."""
        popen = self.nodes[name].popen
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(popen.pid).children() if popen is not None else []
        return []


class Tricks:
    """A library that is loaded before all others and moves the clock, or delays what is written to disk, or has it
    fail. Where there is
    no C compiler, there is none, and the faults that need it are left out."""

    def __init__(self, folder: Path) -> None:
        self._file, self._library = folder / "tricks", folder / "tricks.so"
        compiled = any(
            subprocess.run(
                [compiler, "-shared", "-fPIC", "-O1", "-o", self._library, _PRELOAD, "-ldl"], capture_output=True
            ).returncode
            == 0
            for compiler in _compilers()
        )
        self.there = compiled
        self._values = np.memmap(self._file, np.int64, "w+", shape=(3,))

    def environment(self, name: str) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CHAOS_TRICKS": str(self._file)} if self.there else {}

    @contextlib.contextmanager
    def clock(self, seconds: int) -> Iterator[None]:
        self._values[0] = seconds * 1_000_000_000
        try:
            yield
        finally:
            self._values[0] = 0

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """No write to a disk is carried through: EIO."""
        self._values[2] = 1
        try:
            yield
        finally:
            self._values[2] = 0

    @contextlib.contextmanager
    def slow(self, milliseconds: int) -> Iterator[None]:
        self._values[1] = milliseconds
        try:
            yield
        finally:
            self._values[1] = 0


def _compilers() -> list[str]:
    import shutil

    return [found for found in ("cc", "gcc", "clang") if shutil.which(found)]


def _hanse(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "hanse.cli", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"hanse {' '.join(arguments[:3])}: {done.stderr[-1000:]}"


def _rows(number: int) -> str:
    rng = np.random.default_rng(number)
    lines = ["age,marker,pressure,disease"]
    for _ in range(200 + 40 * number):
        age, marker, pressure = rng.integers(20, 90), rng.normal(2, 1), rng.normal(130, 20)
        ill = rng.random() < 1 / (1 + np.exp(-(0.04 * (age - 55) + 0.7 * (marker - 2) + 0.02 * (pressure - 130))))
        lines.append(f"{age},{marker:.4f},{pressure:.1f},{'yes' if ill else 'no'}")
    return "\n".join(lines) + "\n"


def fill(disk: Path) -> Path:
    """Takes all room that is left on a disk; the file to be removed."""
    file = disk / "filler"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 65536)
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as out:
        while True:
            out.write(b"x" * 512)
    return file


def shared_memory() -> set[str]:
    """Names of shared memory of this machine."""
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
