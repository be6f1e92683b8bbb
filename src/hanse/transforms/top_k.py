"""Top-k: of an update only the numbers leave that change most, of all its arrays together; the others are zero.

With error feedback (``hanse.transforms._error_feedback``) the others add up until they are among the largest. What
leaves is rounded to bfloat16 too, as these numbers are nearly all that is left to send. A zero costs next to nothing
where the line compresses (``line.compression`` of a node): of ``share = 0.01`` about a fiftieth of the bytes is left.

References: Stich, Cordonnier and Jaggi 2018, "Sparsified SGD with memory", algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hanse.messages import Array
from hanse.settings import Setting, number
from hanse.transforms._error_feedback import FEEDBACK, ErrorFeedback
from hanse.transforms.bfloat16 import rounded

SETTINGS = {
    "share": Setting(0.01, "share of the numbers of an update that leave", number(0, 1, above=True)),
    "error_feedback": FEEDBACK,
}
UPDATES_ONLY = True


class TopK(ErrorFeedback):
    """
    Args:
        share: of the numbers that leave, at least one of all.
        error_feedback: what was left out is added to the next update.
    """

    def __init__(self, share: float, error_feedback: bool) -> None:
        super().__init__(error_feedback)
        self._share = share

    def compress(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """The ``share`` that is largest, of all arrays together, rounded; zeros else."""
        lengths = np.concatenate([np.abs(array, dtype=np.float64).reshape(-1) for array in arrays.values()])
        count = max(1, round(self._share * lengths.size))
        least = np.partition(lengths, lengths.size - count)[lengths.size - count]
        # of those that are as large as the least that leaves, all leave; zeros say nothing
        return {
            name: np.where((np.abs(array) >= least) & (array != 0), rounded(array), 0).astype(array.dtype)
            for name, array in arrays.items()
        }


TRANSFORM = TopK
