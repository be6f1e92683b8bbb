"""A whole federation on this machine: a coordinator and nodes as separate processes.

The demo, the benchmarks and the tests of many processes stand on it. Everything goes through the
commands and routes that an institution would use; only the waiting for a process to be ready is
its own: it reads the line that the process prints.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hanse.cli import main

TIED = Path(__file__).with_name("tied.py")


class Failed(RuntimeError):
    """A process or a request did not do what it should."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now, and that the system gives to nobody who calls
    somewhere: one of those may be taken by the time that it is listened on, or while a coordinator is started anew."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text().split()[0]) if given.exists() else 32_768
    for port in random.SystemRandom().choices(range(max(1024, first - 15_000), first), k=1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed("of a thousand ports none is free")


_typing = threading.Lock()  # where a command prints is one place for the whole process


def hanse(*arguments: str) -> str:
    """Runs ``hanse ARGUMENTS`` to its end and returns what it printed: the command itself, in this process, as an
    interpreter for each would take most of the time."""
    said, errors = io.StringIO(), io.StringIO()
    with _typing, contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        try:
            main(arguments)
        except SystemExit as ended:
            if ended.code:
                told = errors.getvalue().strip() or said.getvalue().strip()
                raise Failed(f"hanse {' '.join(arguments[:3])} ...: {told}") from None
    return said.getvalue()


class Process:
    """One ``hanse ... start`` and its log. It ends when this process does (:mod:`demo.tied`).

    Args:
        arguments: of the command.
        log: file for all that it prints.
        ready: text of the line that says that it is ready.
        program: what is run with the arguments.
    """

    def __init__(self, arguments: Sequence[str], log: Path, ready: str, program: Path = TIED) -> None:
        self.arguments, self.log, self.ready, self.program = list(arguments), log, ready, program
        self.start_timeout = 60.0
        self.popen: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def start(self, timeout: float = 60) -> None:
        """Starts it and returns when it is ready."""
        self.launch()
        self.wait_ready(timeout)

    def launch(self) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._lines = queue.SimpleQueue()
        self.popen = subprocess.Popen(
            [sys.executable, str(self.program), *self.arguments],
            text=True,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.popen, self._lines), daemon=True).start()

    def _read(self, popen: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
        assert popen.stdout is not None
        assert popen.stdin is not None
        with popen.stdin, popen.stdout, self.log.open("a") as log:
            for line in popen.stdout:
                log.write(line)
                log.flush()
                lines.put(line)
        lines.put(None)

    def wait_ready(self, timeout: float = 60) -> None:
        end, seen = time.monotonic() + timeout, []
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise Failed(f"{self.arguments[:2]} was not ready after {timeout:g} s; see {self.log.name}") from None
            if line is None:
                raise Failed(f"{' '.join(self.arguments[:2])} ended:\n{''.join(seen[-20:])}")
            seen.append(line)
            if self.ready in line:
                return

    @property
    def pid(self) -> int:
        assert self.popen is not None, "not started"
        return self.popen.pid

    def stop(self, how: int = signal.SIGTERM, timeout: float = 15) -> int | None:
        """Ends it; with SIGKILL after ``timeout`` if it does not go by itself."""
        if self.popen is None:
            return None
        if self.popen.poll() is None:
            self.popen.send_signal(how)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        return self.popen.returncode

    def kill(self) -> None:
        """kill -9."""
        self.stop(signal.SIGKILL)


class Federation:
    """A coordinator and its nodes. Use as a context manager: at the end no process is left.

    Args:
        home: folder for everything (homes, logs); made if it is not there.
        arguments: further arguments of ``hanse coordinator start``.
        program: what runs the commands.
    """

    def __init__(self, home: Path, *arguments: str, program: Path = TIED) -> None:
        self.home, self.program = Path(home), program
        self.home.mkdir(parents=True, exist_ok=True)
        self.http, self.grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.address = f"grpc://{self.grpc}"
        self.url = f"http://{self.http}"
        self.coordinator = Process(
            [
                "coordinator",
                "start",
                "--home",
                str(self.home / "coordinator"),
                "--http",
                self.http,
                "--listen",
                self.address,
                "--plain-http",
                *arguments,
            ],
            self.home / "coordinator.log",
            "ready",
            program,
        )
        self.nodes: dict[str, Process] = {}
        self.joining: tuple[str, ...] = ()  # further arguments of ``hanse node init``

    def __enter__(self) -> Federation:
        try:
            self.coordinator.start(self.coordinator.start_timeout)
        except BaseException:  # also Ctrl-C: the caller has nothing yet that it could end
            self.coordinator.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in (*self.nodes.values(), self.coordinator):
            if process.popen is not None and process.popen.poll() is None:
                process.popen.terminate()
        for process in (*self.nodes.values(), self.coordinator):
            process.stop()

    @property
    def operator_token(self) -> str:
        return (self.home / "coordinator" / "operator.token").read_text().strip()

    def rest(self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None) -> Any:
        """One request; JSON in and out."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {token or self.operator_token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            raise Failed(f"{method} {path}: {refused.code} {refused.read().decode()[:500]}") from None

    def account(self, name: str, role: str, nodes: Sequence[str] = ()) -> str:
        """A new account's token."""
        made = self.rest("POST", "/api/accounts", {"name": name, "role": role, "nodes": list(nodes)})
        return str(made["token"])

    def enrol(self, name: str, **policy: str) -> Path:
        """A new node's home, with its certificate. ``policy``: settings of its owner."""
        token = self.rest("POST", "/api/nodes/join-tokens", {"node": name})["token"]
        home = self.home / name
        hanse("node", "init", "--home", str(home), "--join", token, "--name", name, *self.joining)
        for setting, value in policy.items():
            hanse("node", "policy", "set", setting, value, "--home", str(home))
        return home

    def start_node(self, name: str, wait: bool = True) -> Process:
        """Starts an enrolled node."""
        log = self.home / f"{name}.log"
        process = Process(["node", "start", "--home", str(self.home / name)], log, "on line", self.program)
        self.nodes[name] = process
        process.launch()
        if wait:
            process.wait_ready()
        return process
