"""bfloat16: each number of an update is rounded to 8 significant bits (to nearest, ties to even).

Its relative error is at most 2⁻⁸, whatever the others are. The numbers keep their type; of a float32 the two bytes that
rounding empties cost nothing where the line compresses (``line.compression`` of a node), so about a third of the bytes
is left.

References: Wang and Kanwar 2019, "BFloat16: the secret to high performance on cloud TPUs"; error feedback as in
``hanse.transforms._error_feedback``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Array
from hanse.transforms._error_feedback import FEEDBACK, ErrorFeedback

SETTINGS = {"error_feedback": FEEDBACK}
UPDATES_ONLY = True


class Bfloat16(ErrorFeedback):
    """See the module."""

    def compress(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Each number :func:`rounded`."""
        return {name: rounded(array) for name, array in arrays.items()}


def rounded(array: Array) -> Array:
    """Each number with 8 significant bits.

    >>> rounded(np.array([1.00390625, 1.01, -3.14159], "f4")).tolist()
    [1.0, 1.0078125, -3.140625]
    """
    mantissa, exponent = np.frexp(array)
    found: Array = np.ldexp(np.rint(mantissa * 256), exponent - 8)
    return found


TRANSFORM = Bfloat16
