"""Whether histograms can be true of any rows, whoever made them.

A row has one gradient g and one Hessian h, with |g| and h within bounds that are known, and is in one bin of each
column. So no sum of a bin is larger than so many rows can make it, no Hessian is below 0, and the sums over the bins of
each column are the same.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hanse.boosting.compiled import at_first, compiled, worthwhile
from hanse.boosting.packed import Sums
from hanse.messages import Array

_LARGE, _BELOW, _UNEVEN = 1, 2, 3
_SAID = {
    0: "",
    _LARGE: "its histograms hold sums that its rows cannot have at this scale",
    _BELOW: "its histograms hold Hessians below 0",
    _UNEVEN: "its histograms do not add up: the sums over the bins of one column are not those of another",
}


def fault(sums: Sums, rows: Array, starts: Array, largest: tuple[int, int], fullest: tuple[int, int]) -> str:
    """What is wrong with the histograms of one site; "" if nothing is.

    Args:
        rows: (nodes,) int64 of each node. (Whether a site has so many is not looked at here.)
        starts: (f + 1,) where the bins of each column begin.
        largest: that |g| and h of a row can be.
        fullest: most rows of a bin, and of one of those that are told apart.
    """
    room, units = _room(largest, (fullest[not sums.one], fullest[1]))  # two numbers a bin hold the sums of any
    most = np.minimum(rows[:, None, None], room)
    most *= units
    if sums.bins.size and worthwhile():
        return _SAID[_looked(sums.bins, sums.own, sums.apart, starts, most)]
    return _SAID[_looked_at(sums, starts, most)]


@lru_cache(8)  # all sites have the same
def _room(largest: tuple[int, int], fullest: tuple[int, int]) -> tuple[Array, Array]:
    """(2, 2) how many rows of a bin have sums in 64 bits, and (2, 1) how large a number of one can be."""
    room = [[min(rows, (1 << 62) // one) for rows in fullest] for one in largest]
    return np.array(room), np.array(largest)[:, None]


def _looked_at(sums: Sums, starts: Array, most: Array) -> int:
    """The first thing that is wrong. ``most``: (nodes, 2, 2) of gradients and Hessians, how large a sum of a bin can
    be, and one that is told apart."""
    every, own = sums.unpacked(), [sums.own] if len(sums.apart) else []
    totals = np.add.reduceat(every, starts[:-1], axis=1)
    uneven = (totals != totals[:, :1]).any(axis=(0, 1)).tolist()
    if own:
        every[:, sums.apart] = 0
    large, below = list[list[bool]](), list[bool]()
    for some, room in zip((every, *own), most.transpose(2, 0, 1), strict=False):
        least = some.min(axis=1, initial=0)
        large.append(((some.max(axis=1, initial=0) > room) | (least < -room)).any(axis=0).tolist())
        below.append(bool((least[:, 1] < 0).any()))
    for i in (1, 0):  # a Hessian below 0 takes from the gradient, where both are one number
        for too_large, negative in zip(large, below, strict=True):
            if too_large[i]:
                return _LARGE
            if i == 1 and negative:
                return _BELOW
        if uneven[i]:
            return _UNEVEN
    return 0


@compiled
def _looked(sums: Array, own: Array, apart: Array, starts: Array, most: Array) -> int:
    """The same as :func:`_looked_at` finds, each number being looked at once; ``sums``: (nodes, bins), or (nodes,
    2 bins) where they are pairs."""
    pairs = sums.shape[1] == 2 * starts[-1]
    large, below, uneven = np.zeros((2, 2), np.uint8), np.zeros(2, np.uint8), np.zeros(2, np.uint8)
    for node in range(len(sums)):
        whole_g, whole_h = np.int64(0), np.int64(0)
        least_g, least_h, most_g, most_h = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        other = 0  # of those that are told apart, the next
        for column in range(len(starts) - 1):
            total_g, total_h = np.int64(0), np.int64(0)
            place = starts[column]
            while place < starts[column + 1]:
                end = starts[column + 1]
                if other < own.shape[1] and apart[other] < end:
                    end = np.int64(apart[other])
                if pairs:
                    for at in range(2 * place, 2 * end, 2):
                        g, h = sums[node, at], sums[node, at + 1]
                        total_g, total_h = total_g + g, total_h + h
                        least_g, most_g = min(least_g, g), max(most_g, g)
                        least_h, most_h = min(least_h, h), max(most_h, h)
                else:
                    for at in range(place, end):
                        g, h = sums[node, at] >> 32, sums[node, at] & 0xFFFFFFFF
                        total_g, total_h = total_g + g, total_h + h
                        least_g, most_g = min(least_g, g), max(most_g, g)
                        most_h = max(most_h, h)
                if end < starts[column + 1]:
                    for i in range(2):
                        value, room = own[node, other, i], most[node, i, 1]
                        large[i, 1] |= value > room or value < -room or room < 0
                    below[1] |= own[node, other, 1] < 0
                    total_g, total_h = total_g + own[node, other, 0], total_h + own[node, other, 1]
                    other, end = other + 1, end + 1
                place = end
            if column == 0:
                whole_g, whole_h = total_g, total_h
            uneven[0] |= total_g != whole_g
            uneven[1] |= total_h != whole_h
        large[0, 0] |= most_g > most[node, 0, 0] or least_g < -most[node, 0, 0]
        large[1, 0] |= most_h > most[node, 1, 0] or least_h < -most[node, 1, 0]
        below[0] |= least_h < 0
    for i in (1, 0):
        if large[i, 0]:
            return _LARGE
        if i == 1 and below[0]:
            return _BELOW
        if large[i, 1]:
            return _LARGE
        if i == 1 and below[1]:
            return _BELOW
        if uneven[i]:
            return _UNEVEN
    return 0


@at_first
def _compiled() -> None:
    fault(Sums.of(np.zeros((1, 1), np.int64)), np.ones(1, np.int64), np.array([0, 1]), (1, 1), (1, 1))
