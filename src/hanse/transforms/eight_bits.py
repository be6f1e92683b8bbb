"""Eight bits: each array of an update is rounded to whole multiples of a step of its own.

With m = max |x|::

    step = 2^⌈log2(m / 127)⌉        x ← step · rint(x / step)

so of each number the sign and 7 bits are left, and its error is at most step / 2 ≤ m / 127. A step that is a power of
two makes the product exact and empties the same bytes of all numbers: where the line compresses (``line.compression``
of a node) about a fourth of a float32 is left.

References: Alistarh et al. 2017, "QSGD: communication-efficient SGD via gradient quantization and encoding" (there at
random, here to the nearest, with error feedback: ``hanse.transforms._error_feedback``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.gather import Party
from hanse.kinds import Contribution
from hanse.messages import Array
from hanse.transforms._error_feedback import FEEDBACK, compressed, report

SETTINGS = {"error_feedback": FEEDBACK}
UPDATES_ONLY = True


class EightBits:
    """
    Args:
        error_feedback: what rounding left out is added to the next update.
    """

    def __init__(self, error_feedback: bool) -> None:
        self._feedback = error_feedback

    def init(self) -> dict[str, Any]:
        return {}

    def apply(
        self, contribution: Contribution, state: dict[str, Any], party: Party
    ) -> tuple[Contribution, dict[str, Any]]:
        return compressed(contribution, state, _rounded, self._feedback)

    report = staticmethod(report)


def _rounded(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: rounded(array) for name, array in arrays.items()}


def rounded(array: Array) -> Array:
    """Each number as a multiple of the array's step.

    >>> rounded(np.array([127.0, 0.4, -3.6])).tolist()
    [127.0, 0.0, -4.0]
    """
    most = float(np.max(np.abs(array), initial=0.0))
    if most == 0.0:
        return array
    mantissa, exponent = math.frexp(most / 127)
    step = array.dtype.type(math.ldexp(1.0, exponent - (mantissa == 0.5)))
    if step == 0:  # so small that there are no 7 bits of it
        return array
    whole: Array = np.rint(array / step) * step
    return whole


TRANSFORM = EightBits
