"""``hanse network controller`` as a process in a namespace, and somebody who asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.network.namespaces import Machine
from tests.waiting import PATIENCE, until

TOKEN = "the-token-of-the-test"


class Controller:
    """The process; :meth:`ask` says what it answers."""

    def __init__(self, machine: Machine, folder: Path, *arguments: str) -> None:
        self.machine, self._log, self._arguments = machine, folder / "controller.log", arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.machine.prefix, sys.executable, "-m", "hanse.cli", "network", "controller", *self._arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "SDN_CONTROLLER_TOKEN": TOKEN},
            )
        self.until(lambda: self.ask("GET", "/health")[0] in (200, 503))

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str = TOKEN,
        url: str = "http://127.0.0.1:8181",
        authority: Path | str = "",
    ) -> tuple[int, Any]:
        """Status and body of an answer; status 0 where there was none."""
        sent = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        request = urllib.request.Request(url + path, sent.encode() or None, method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if url.startswith("https"):
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority or None)))
        opener = urllib.request.build_opener(*handlers)

        def asked() -> tuple[int, Any]:
            try:
                with opener.open(request, timeout=PATIENCE) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.loads(error.read())
            except (OSError, http.client.HTTPException) as error:
                return 0, str(error)

        return self.machine.do(asked)

    def connected(self) -> None:
        """Returns when a network is there."""
        self.until(lambda: self.ask("GET", "/health")[0] == 200)

    def until(self, true: Any, every: float = 0.1) -> None:
        """As :func:`tests.waiting.until`, while the process is there."""

        def seen() -> Any:
            assert self._process is None or self._process.poll() is None, self._log.read_text()[-2000:]
            return true()

        until(seen, every)


@contextlib.contextmanager
def controller(machine: Machine, folder: Path, *arguments: str) -> Iterator[Controller]:
    """Started, and ended with the block."""
    it = Controller(machine, folder, *arguments)
    try:
        it.start()
        yield it
    finally:
        it.stop()
