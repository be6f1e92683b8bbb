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

import numpy as np

from hanse.messages import Array
from hanse.transforms._error_feedback import FEEDBACK, ErrorFeedback

SETTINGS = {"error_feedback": FEEDBACK}
UPDATES_ONLY = True


class EightBits(ErrorFeedback):
    """See the module."""

    def compress(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Each array :func:`rounded`."""
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
