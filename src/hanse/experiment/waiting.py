"""Waiting for the end of a run, and what its end means to who asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hanse.errors import Conflict, Refused, RunFailed
from hanse.experiment.progress import Progress
from hanse.experiment.results import Result
from hanse.experiment.seam import Backend, Happening


def wait(
    backend: Backend,
    run_id: str,
    rounds: int,
    progress: bool = True,
    heard: Callable[[Happening], None] | None = None,
) -> Result:
    """The result of a run, when it has ended.

    Interrupting it, or an error in ``heard``, ends a run in this process and leaves one at a coordinator going.

    Args:
        rounds: how many are planned.
        progress: show what happens.
        heard: called with each update. Without it, and without ``progress``, no step is asked for.

    Raises:
        Refused: an owner said no.
        RunFailed: the run ended without a result; says why.
    """
    last = Happening("pending")
    try:
        with Progress(rounds, show=progress, simulated=backend.simulated) as bar:
            for warning in backend.warnings(run_id) if progress else ():
                bar.warn(warning)
            for last in backend.watch(run_id, steps=progress or heard is not None):
                bar.show(last.state, last.step, last.waiting_for, last.reason)
                if heard is not None:
                    heard(last)
    except BaseException:  # interrupted: nobody waits any more; a run at a coordinator goes on
        if backend.simulated:
            with contextlib.suppress(Conflict):
                backend.cancel(run_id)
        raise
    if last.state == "rejected":
        raise Refused(f"run {run_id} was rejected. {last.reason}".strip())
    if last.state != "completed":
        raise RunFailed(f"run {run_id} ended as {last.state or 'unknown'}. {last.reason}".strip()) from last.cause
    return backend.result(run_id)
