"""Both sums of a bin in one number of 64 bits, in which they are counted, travel and are added up.

The sum of the gradients G and of the Hessians H of the rows of a bin, whole numbers with |G| < 2^31 and 0 <= H < 2^32,
are p = 2^32 G + H. Nothing is lost: H is what p leaves when it is divided by 2^32, and G the quotient rounded down,
since H is less than 2^32 and, as it is never below 0, takes nothing from G. And p of a sum is the sum of the p modulo
2^64, whatever they are in between. So rows, sites and masks take one addition a bin, as long as the G and H of *all*
rows together are within these bounds, which follows from how many rows the fullest bin has (:func:`fits`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hanse.messages import Array

MOST = (1 << 31) - 1, (1 << 32) - 1  # |G| and H
_HESSIAN = MOST[1]


def fits(rows: int, largest: tuple[int, int]) -> bool:
    """Whether the sums of so many ``rows`` are within the bounds, where |g| and h of one are at most ``largest``.

    >>> fits(2047, (1 << 20, 1 << 21)), fits(2048, (1 << 20, 1 << 21)), fits(2047, (1, 1 << 22))
    (True, False, False)
    """
    return all(rows * one <= most for one, most in zip(largest, MOST, strict=True))


def packed(sums: Array) -> Array:
    """(...) int64 of (..., 2) int64 sums that are within the bounds.

    >>> packed(np.array([[-1, 5], [1, 0]])).tolist()
    [-4294967291, 4294967296]
    """
    return np.asarray((sums[..., 0] << 32) + sums[..., 1])


def unpacked(sums: Array, into: Array | None = None) -> Array:
    """(..., 2) int64: G and H of (...) int64; written ``into`` that, where there is one.

    >>> unpacked(packed(np.array([[-1, 5], [-7, (1 << 32) - 1]]))).tolist()
    [[-1, 5], [-7, 4294967295]]
    """
    found = np.empty((*sums.shape, 2), np.int64) if into is None else into
    np.right_shift(sums, 32, out=found[..., 0])
    np.bitwise_and(sums, _HESSIAN, out=found[..., 1])
    return found


def largest(bound: int) -> int:
    """The largest of these numbers, either way, whose G is at most ``bound``."""
    return (bound << 32) + _HESSIAN


@dataclass(frozen=True, slots=True)
class Sums:
    """Histograms of some nodes, as they travel; nobody writes to them.

    Args:
        bins: (nodes, bins), both sums of a bin as one number; or (nodes, 2 bins), first the two of the first bin.
        own: (nodes, k, 2), what counts in place of these in the bins that are told ``apart`` (k,), which rise.
        one: whether they are one number.
    """

    bins: Array
    own: Array
    apart: Array
    one: bool

    @staticmethod
    def of(sums: Array, own: Array | None = None, apart: Array | None = None) -> Sums:
        """Of (nodes, bins) or (nodes, bins, 2), and what is told apart; None: nothing."""
        bins = sums.reshape(len(sums), sums.size // max(1, len(sums)))
        if own is None or apart is None:
            own, apart = np.zeros((len(sums), 0, 2), np.int64), np.zeros(0, np.int32)
        own, apart = own[:], apart[:]
        for array in (bins, own, apart):  # loops are compiled once, whether they came in or were made here
            array.flags.writeable = False
        return Sums(bins, own, apart, sums.ndim == 2)

    def unpacked(self, pairs: bool = False) -> Array:
        """(nodes, bins, 2), to be written to.

        Args:
            pairs: the two sums of a bin lie together, as compiled loops read them; else all gradients do, and all
                Hessians: over rows of two numbers numpy takes ten times as long.
        """
        nodes, bins = self.bins.shape[0], self.bins.shape[1] // (2 - self.one)
        if pairs:
            found = np.empty((nodes, bins, 2), np.int64)
        else:
            found = np.empty((2, nodes, bins), np.int64).transpose(1, 2, 0)
        if self.one:
            unpacked(self.bins, found)
        else:
            found[:] = self.bins.reshape(found.shape)
        if len(self.apart):
            found[:, self.apart] = self.own
        return found
