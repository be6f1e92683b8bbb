"""``hanse ARGUMENTS``, tied to the process that started it: when that is gone, however it ended, this ends too.

The starter holds the other end of this process's standard input and never writes to it, so the end of
that stream is the end of the starter, ``kill -9`` included. Unlike a signal at the parent's death
(``PR_SET_PDEATHSIG``) this works on every system, and does not depend on which thread did the starting.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

_GRACE_SECONDS = 10.0


def follow_starter() -> None:
    """Waits for the end of standard input, then ends this process as ``kill`` does, or else for good."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as for ``-m``, not this folder
    threading.Thread(target=follow_starter, name="follow-starter", daemon=True).start()
    from hanse.cli import main

    main()
