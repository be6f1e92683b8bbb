"""Noise inside an answer: in each step that an algorithm computes it by, and not once at its end.

What a site learns by several steps has no bound that one row can change it by, but each step has one: it takes a
secret sample of the rows, clips what each of them says, and sees no more than the noised sum. What is made of noised
sums alone is as private as they are together (:mod:`hanse.privacy.sampled`), so the answer needs no further noise.

Where a step takes some of the rows and no others, which are in other steps, a row is in fewer sums than there are
steps. What counts then is in how many sums any one row is, as the answer is as private for it as these are together.

Samples and noise are drawn as those of :mod:`hanse.privacy.release` are: from a secret of the node, the place in the
run and what was asked, the noise from the numbers too. The same step, asked for again, is the same to the last bit.

References: Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from hanse.errors import NotAllowed
from hanse.messages import Array
from hanse.privacy import release
from hanse.privacy.drawing import Draws
from hanse.privacy.guarantee import Guarantee
from hanse.privacy.release import Key


class Steps:
    """The steps of one answer; a :class:`hanse.kinds.RowNoise`.

    Args:
        guarantee: what was promised.
        key: gives a secret key for this place in the run and what was asked.
    """

    def __init__(self, guarantee: Guarantee, key: Key) -> None:
        self._guarantee, self._key, self._taken = guarantee, key, 0
        self._all, self._in = 0, np.zeros(0, np.int64)  # sums of all rows, and those that single ones are in besides
        self._seen = hashlib.sha256()

    def sample(self, rows: int) -> Array:
        """(rows,) bool: which rows the next step takes, each by a coin of its own of probability q, but for less than
        2⁻⁶⁴."""
        if self._guarantee.sampling == 1:
            return np.ones(rows, bool)
        words = Draws(self._key(b"sample %d" % self._taken)).words(rows)
        return np.asarray(words < np.uint64(int(self._guarantee.sampling * 2**64)))

    def parts(self, rows: int, count: int) -> Array:
        """(rows,) in which of ``count`` parts each row is, drawn by itself: one row more or less moves no other."""
        return Draws(self._key(b"parts")).below(count, rows)

    def noised(self, arrays: Mapping[str, Array], bound: float, rows: Array | None = None) -> dict[str, Array]:
        """The sums of a step with noise, float64; that ends the step.

        Args:
            bound: the most that one row, more or less, changes all of them together by (L2 norm).
            rows: the numbers of those that are in it; None: any may be.

        Raises:
            NotAllowed: the run promised that its privacy counts fewer steps of one row.
        """
        if rows is None:
            self._all += 1
        elif len(rows):
            self._in = np.pad(self._in, (0, max(0, int(rows.max()) + 1 - len(self._in))))
            self._in[rows] += 1
        if self._all + int(self._in.max(initial=0)) > self._guarantee.steps:
            raise NotAllowed(f"this run promised at most {self._guarantee.steps} noised steps inside an answer")
        place, self._taken = b"step %d" % self._taken, self._taken + 1
        finite = {name: np.where(np.isfinite(a), a, 0.0).astype(np.float64) for name, a in arrays.items()}
        found, secret = release.noised(finite, bound, self._guarantee, lambda numbers: self._key(place + numbers))
        self._seen.update(secret)
        return found

    @property
    def name(self) -> str:
        """Of the release that is made of these steps."""
        return release.name_of(self._seen.digest())
