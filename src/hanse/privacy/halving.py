"""Where something that holds for small numbers ends to hold, to the last digit of float64."""

from __future__ import annotations

from collections.abc import Callable

_STEPS = 200  # the most, where it ends near 0


def ends(holds: Callable[[float], bool]) -> tuple[float, float]:
    """The largest number from 0 for which it holds, and the next for which it does not. It holds at 0, and from some
    number on no more.

    >>> ends(lambda x: x * x <= 9)[0]
    3.0
    """
    low, high = 0.0, 1.0
    while holds(high):
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):  # no number lies between
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high
