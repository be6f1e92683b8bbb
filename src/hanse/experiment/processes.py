"""Processes of this machine in which sites of a simulation answer, each with one thread of arithmetic."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from hanse.errors import NodeFailed
from hanse.experiment.site_process import receive, send
from hanse.messages import Record
from hanse.thread_limits import threads


class SiteProcess:
    """A :class:`hanse.experiment.places.Place` that is a child of this process."""

    def __init__(self) -> None:
        self._line, other = socket.socketpair()
        with other:
            environment = {**os.environ, **threads(1), "PYTHONPATH": os.pathsep.join(sys.path)}
            command = [sys.executable, "-P", "-m", "hanse.experiment.site_process", str(other.fileno())]
            self._child = subprocess.Popen(command, env=environment, pass_fds=(other.fileno(),))

    def told(self, request: Record) -> Record:
        """See :class:`hanse.experiment.places.Place`."""
        try:
            send(self._line, request)
            return receive(self._line)
        except (OSError, EOFError):
            code = self._child.poll()
            raise NodeFailed(
                f"the process that this site is in has ended{'' if code is None else f' ({code})'}"
            ) from None

    def close(self) -> None:
        """Ends it, also in the middle of its work."""
        self._child.kill()
        self._child.wait()
        self._line.close()
