"""The worker: the process beside the data that computes, and nothing else.

It has no network, no secrets in its environment and a limit on its memory; it dies with its agent. One that runs the
code of a training plan sees the approved data set alone (:mod:`hanse.node.cage`). What it does is
:mod:`hanse.node.worker_loop`, which it loads when it is confined: NumPy starts threads, and a process that has some
cannot give up its network any more.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from hanse.node.cage import shut

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def confine(memory_mb: int, parent: int) -> bool:
    """What this process may not do. Returns whether it has no network (some systems do not allow a
    process to give that up)."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Only network interfaces go; the socket to the agent was open before. Root needs no user
    # namespace for it, and keeps the right to read its files.
    offline = bool(libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after unshare, which would undo it
    if os.getppid() != parent:  # it died before we asked to die with it
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the data
    # RLIMIT_AS would count address space that libraries reserve and never use; this one counts what
    # can be written, with some room for the stacks of threads. The agent watches the rest.
    room = 256 + 16 * (os.cpu_count() or 1)
    resource.setrlimit(resource.RLIMIT_DATA, ((memory_mb + room) << 20,) * 2)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # rather this process than the agent
    except OSError:
        pass
    return offline


def main() -> None:
    """The process of a worker: shut in, then one task after the other until the agent is gone."""
    number, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    offline = confine(settings["memory_mb"], settings["parent"])
    seen = settings["seen"]
    caged = 0 if seen is None else shut(map(Path, seen), Path(os.environ["TMPDIR"]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=number)
    os.set_inheritable(number, False)
    from hanse.allocator import pause_collector, settle

    pause_collector()
    from hanse import large_arrays
    from hanse.node.worker_loop import WorkerLoop

    settle()
    large_arrays.share()
    worker = WorkerLoop(sock, settings["home"], settings["node"], settings["owner"])
    signal.signal(signal.SIGUSR1, worker.interrupt)
    try:
        worker.serve(offline, bool(caged))
    except (ConnectionError, BrokenPipeError):
        pass  # the agent is gone


if __name__ == "__main__":
    main()
