"""How a data owner lets payloads leave (``[line]`` of ``node.toml``): how fast, in which hours, and how compressed.

What is small goes at once, so a node whose payloads wait is still on line, tells its owner's decisions and says that it
is at work. It counts all the same: what is large waits for it too.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Sequence

from hanse.messages import Json
from hanse.settings import Check

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_DAY = 86_400.0
_LOOK_S = 10.0  # clocks are set, and owners change their minds


class Pace:
    """Says when the next piece of a large payload may leave.

    After n bytes at time t the next may leave at ``max(t, due) + 8 n / limit``: a leaky bucket that is one piece deep,
    so that what was not used is not caught up on.

    Args:
        monotonic, now: clocks; ``now`` is of the owner's day, which the hours are of.

    >>> clock = [0.0]
    >>> pace = Pace(monotonic=lambda: clock[0])
    >>> pace.set(8.0, ())
    >>> pace.left(2_000_000); pace.wait()
    2.0
    >>> clock[0] = 2.0; pace.wait()
    0.0
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self._monotonic, self._now = monotonic, now
        self._limit, self._due = 0.0, 0.0
        self.saving: float | None = None  # the least share that compressing has to save; None: nothing is compressed
        self._hours: tuple[tuple[float, float], ...] = ()

    def set(self, limit_mbit: float, hours: Sequence[str], saving: float | None = None) -> None:
        """From here on.

        Args:
            limit_mbit: megabits (10^6) per second; 0: as fast as the line.
            hours: ``HH:MM-HH:MM`` each, of local time, as :data:`HOURS` takes them; none: always.
            saving: the least share of a payload that compressing has to save; None: nothing is compressed.
        """
        self._limit, self._hours = limit_mbit * 1e6, tuple(_seconds(span) for span in hours)
        self.saving = saving
        self._due = min(self._due, self._monotonic() + _LOOK_S)

    def left(self, nbytes: int) -> None:
        """So many bytes have left."""
        if self._limit:
            self._due = max(self._due, self._monotonic()) + 8 * nbytes / self._limit

    def wait(self) -> float:
        """Seconds until a piece of a large payload may leave, or until it is time to ask again; 0: now."""
        closed = self._closed()
        slow = self._due - self._monotonic() if self._limit else 0.0
        return min(_LOOK_S, max(0.0, closed, slow))

    def _closed(self) -> float:
        """Seconds until the next of the hours begins; 0 within them."""
        if not self._hours:
            return 0.0
        at = self._now()
        second = 3600 * at.hour + 60 * at.minute + at.second + at.microsecond * 1e-6
        waits = []
        for begin, end in self._hours:
            if begin <= second < end or (end <= begin and not end <= second < begin):
                return 0.0
            waits.append((begin - second) % _DAY)
        return min(waits)


def _seconds(span: str) -> tuple[float, float]:
    found = _HOURS.fullmatch(span)
    assert found is not None, span  # checked when it was set
    hours = [3600.0 * int(found[k]) + 60.0 * int(found[k + 1]) for k in (1, 3)]
    return hours[0], hours[1]


def _are_hours(value: Json) -> bool:
    """Whether these are hours; of a span that begins when it ends nobody can say whether it is a day or nothing."""
    if not isinstance(value, (list, tuple)) or len(value) > 24:
        return False
    spans = [v for v in value if isinstance(v, str) and _HOURS.fullmatch(v) and v[:5] != v[6:]]
    return len(spans) == len(value)


HOURS = Check(
    "hours of local time such as 22:00-06:00, several with commas between",
    _are_hours,
    {"type": "array", "items": {"type": "string", "pattern": f"^{_HOURS.pattern}$"}, "maxItems": 24},
)
