"""Whether a p-value is told where only a range of it is known."""

from __future__ import annotations

CLEAR = 0.1  # a range no wider says enough
LEVEL = 0.05  # what nearly everybody decides by


def tell(least: float, most: float) -> bool:
    """Whether one p may stand for all of [least, most]: they are close, or all decide alike.

    >>> tell(0.31, 0.38), tell(1e-9, 0.004), tell(0.2, 1.0), tell(0.001, 0.5)
    (True, True, True, False)
    """
    return most - least <= CLEAR or most < LEVEL or least >= LEVEL
