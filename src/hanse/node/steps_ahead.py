"""What is booked of the next steps of a run, so that their answers wait for no disk.

A run asks step after step, and of the next ones all is known but what they will ask. So with one of them the first
answer to each that follows is booked, whatever it will be: a *window*, one row on disk. An answer that is told out of
it leaves a line in a file, for which no disk is waited, and is entered with others, which takes it out of the row.

Who starts again after a kill finds the lines, and nothing else was told (:meth:`hanse.node.spending.Book.recover`).
After a loss of power lines may be missing. So where the system has been started anew since (:func:`since`), an answer
counts to each step that is left in the row: that may cost a step one of the ways that it may be asked in, and never
leaves out an answer that was told.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hanse.errors import WireError
from hanse.messages import Json, dumps, loads

if TYPE_CHECKING:
    from hanse.ledger import Account

STEPS = 32  # that a window reaches
FILE = "told.jsonl"
_NAMED = "steps "  # the digest of a window's row begins with it: nobody knows what will be asked
_BOOT = Path("/proc/sys/kernel/random/boot_id")
Where = tuple[str, int, str]  # run, exchange and operation: the steps of each follow each other
Charges = Mapping[str, "tuple[Account, Json]"]  # by ledger


@functools.cache
def since() -> str:
    """Names the start of the system: while it is the same, all that was written is there."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text().strip()
    return secrets.token_hex(16)  # nobody knows, so no process finds that of another


def digest_of_window() -> str:
    """What stands in a window's row in place of a digest."""
    return _NAMED + since()


def is_window(digest: str) -> bool:
    """Whether a row is a window's."""
    return digest.startswith(_NAMED)


def may_lack_lines(digest: str) -> bool:
    """Whether more may have been told out of a window than there are lines."""
    return digest != digest_of_window()


def plain(charges: Charges) -> list[Json]:
    """As they stand on disk."""
    return [[name, *account, most] for name, (account, most) in charges.items()]


class ToldLines:
    """The lines of what was told and not entered. When :meth:`add` returns, the operating system has it: it outlives
    this process, but not a loss of power."""

    def __init__(self, home: Path) -> None:
        self._fd = os.open(home / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def close(self) -> None:
        """Lets the file go."""
        os.close(self._fd)

    def add(self, digest: str, run: str, charges: Charges) -> None:
        """An answer is about to leave. Raises ``OSError`` where that cannot be written, and nothing is."""
        line = (dumps([digest, run, plain(charges)]) + "\n").encode()
        written = os.write(self._fd, line)
        if written < len(line):
            os.ftruncate(self._fd, self._size)
            raise OSError(28, os.strerror(28))  # the rest found no room
        self._size += len(line)

    def lines(self) -> list[tuple[str, str, list[Json]]]:
        """Digest, run and charges of each; a line that is not whole was not told."""
        found = []
        for line in os.pread(self._fd, os.fstat(self._fd).st_size, 0).split(b"\n")[:-1]:
            with contextlib.suppress(WireError):
                digest, run, charges = loads(line)
                found.append((digest, run, charges))
        return found

    def clear(self) -> None:
        """All of it has been entered."""
        if self._size:
            os.ftruncate(self._fd, 0)
            self._size = 0


@dataclass(slots=True)
class _Window:
    row: int
    there: dict[int, Charges]  # by step: what the row has
    left: set[int]  # that no answer has taken
    taken: int = 0  # answers that are not settled


@dataclass(slots=True)
class StepsAhead:
    """The windows of a node. One thread at a time may be here; answers are named by their reservations' numbers."""

    _windows: dict[Where, _Window] = field(default_factory=dict)
    _taken: dict[int, tuple[Where, _Window, int]] = field(default_factory=dict)
    _told: list[tuple[Where, _Window, int]] = field(default_factory=list)  # settled, and not entered
    _latest: dict[Where, int] = field(default_factory=dict)  # the step that was booked by itself

    def take(self, number: int, where: Where, step: int, charges: Charges) -> bool:
        """Whether all that an answer may use up is booked with an earlier step; from then on it is this answer's."""
        window = self._windows.get(where)
        if window is None or step not in window.left or window.there[step] != charges:
            return False
        window.left.remove(step)
        window.taken += 1
        self._taken[number] = (where, window, step)
        return True

    def settled(self, number: int) -> None:
        """An answer that had taken its part may leave; it is still to be entered."""
        self._told.append(part := self._taken.pop(number))
        part[1].taken -= 1

    def released(self, number: int) -> None:
        """An answer that had taken its part does not leave."""
        _, window, step = self._taken.pop(number)
        window.taken -= 1
        window.left.add(step)

    @property
    def due(self) -> bool:
        """Whether there is anything to be entered."""
        return bool(self._told)

    def rows(self) -> Iterator[tuple[int, list[Json]]]:
        """The rows in which something stands that is being entered, and what is to stand there; [] where nothing is."""
        gone: dict[Where, set[int]] = {}
        for where, window, step in self._told:
            if self._windows.get(where) is window:  # else its row is gone, and may be another one's
                gone.setdefault(where, set()).add(step)
        for where, steps in gone.items():
            there = self._windows[where].there
            yield self._windows[where].row, [c for step in there if step not in steps for c in plain(there[step])]

    def entered(self) -> None:
        """That is on disk."""
        for _, window, step in self._told:
            del window.there[step]
        self._told.clear()

    def follows(self, where: Where, step: int) -> bool:
        """Whether this step, which is booked by itself, follows another one, so that a window is worth while; and no
        answer out of the one before is in work."""
        latest, window = self._latest.get(where), self._windows.get(where)
        self._latest[where] = step
        return latest == step - 1 if window is None else not window.taken

    def before(self, where: Where) -> int | None:
        """The row of the window that there is; what was told out of it is entered."""
        window = self._windows.get(where)
        return None if window is None else window.row

    def unused(self) -> list[int]:
        """The rows of windows of which no answer is in work; what was told out of them is entered."""
        return [window.row for window in self._windows.values() if not window.taken]

    def booked(self, where: Where, row: int, coming: Mapping[int, Charges]) -> None:
        """A window is on disk, in place of the one before."""
        self._windows[where] = _Window(row, dict(coming), set(coming))

    def forget(self, run: str) -> None:
        """The run is over."""
        for known in (self._windows, self._latest):
            for where in [where for where in known if where[0] == run]:
                del known[where]
