"""What taking an approval back undoes, and what it cannot, by this node's own audit log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hanse.store.audit import Entry


def sentences(entries: Iterable[Entry], run: str) -> list[str]:
    """For the owner who took the approval of ``run`` back.

    >>> sentences([], "run-1")[1]
    'nothing of it had left this node'
    """
    answers, sent, last = 0, 0, ""
    for entry in entries:
        if entry.action == "task.answered" and entry.subject == run:
            answers, last = answers + 1, entry.time
            sent += int(entry.detail.get("bytes_out") or 0)
    stops = "from now on this node answers nothing of the run: what is in work is thrown away"
    if not answers:
        return [stops, "nothing of it had left this node"]
    which = "1 answer" if answers == 1 else f"{answers} answers"
    when = f"{datetime.fromisoformat(last):%Y-%m-%d %H:%M} UTC"
    return [
        stops,
        f"{which} ({sent} bytes of arrays) had left this node, the last at {when}: what was told stays in the sums, "
        "statistics and models that were made with it, and nobody can take it out of there",
        "what was spent on it of privacy and of other budgets stays spent (hanse node budget)",
        "to have a model destroyed that was made so, ask who proposed the run and the federation's operator: nothing "
        "here can make sure of it",
    ]
