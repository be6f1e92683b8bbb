"""How many different values there are: HyperLogLog with 2^14 registers.

Standard error 1.04 / sqrt(2^14) = 0.81 %, whatever the number of values and sites; small numbers
are nearly exact. The estimate is Ertl's (2017, "New cardinality estimation algorithms for
HyperLogLog sketches", algorithm 6), which has no bias at any size.

The registers tell of single values: who has a value in mind finds that it is not there, and, where there are
fewer values than registers, nearly surely that it is. A list of names, or of all ages, is found out so, the rare ones
and the extremes too. They leave a node only where ``allow_extremes`` is set.

Where the minimum holds on the total, registers are sent as sums: of each register how many sites have each rank in it
(:func:`whole`). The largest rank that any site has is that of all rows, so the estimate is the very one of a single
site with all rows. It is all that is told then; the coordinator lets the registers go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import xxhash

from hanse.kinds import Combine
from hanse.messages import Array, Json
from hanse.queries import ANY, Arrays, Known, Owner, Statistic, Values, Withheld
from hanse.table import ColumnKind

P = 14
Q = 64 - P
_DIGITS, _BITS = 4, 15  # ranks in a word, and bits of how many sites have one


def observe(values: Values, options: Mapping[str, Json], known: Known) -> Arrays:
    column = values.columns[0]
    if column.kind is ColumnKind.CATEGORICAL:
        present = column.values[column.values >= 0]
        used = np.unique(present)
        marks = [xxhash.xxh3_64_intdigest(column.categories[c].encode()) for c in used]
        n, hashes = len(present), np.array(marks, np.uint64)
    else:
        n, hashes = len(values.finite), _mixed((values.finite + 0.0).view(np.uint64))  # -0.0 is 0.0
    registers = np.zeros(1 << P, np.uint8)
    place = (hashes >> np.uint64(Q)).astype(np.int64)
    rest = (hashes & np.uint64((1 << Q) - 1)).astype(np.float64)
    rank = (Q + 1 - np.frexp(rest)[1]).astype(np.uint8)  # leading zeros of Q bits, plus one
    np.maximum.at(registers, place, rank)
    return {"n": np.asarray(n, np.int64), "registers": registers}


def _mixed(bits: Array) -> Array:
    """SplitMix64's finaliser: every bit of a number reaches every bit of its hash."""
    with np.errstate(over="ignore"):
        z = bits + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def merge(a: Arrays, b: Arrays) -> Arrays:
    return {"n": a["n"] + b["n"], "registers": np.maximum(a["registers"], b["registers"])}


def protect(arrays: Arrays, options: Mapping[str, Json], owner: Owner, known: Known) -> Arrays:
    if owner.total:
        return {"n": arrays["n"], "different": np.asarray(_estimate(arrays["registers"]), np.int64)}
    if not owner.extremes:
        raise Withheld(
            "what counts different values tells which ones there are, so it does not leave this node; ask "
            "for levels, value_counts or a histogram"
        )
    return arrays


def whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    """Beside n, (2^14, words) int64: in the digits of a register's words, each of base 2^15, a one at its rank."""
    ranks = arrays["registers"].astype(np.int64)
    there = np.flatnonzero(ranks)
    places = np.zeros((1 << P, -(-(Q + 1) // _DIGITS)), np.int64)
    word, digit = np.divmod(ranks[there] - 1, _DIGITS)
    places[there, word] = np.int64(1) << (_BITS * digit)
    return {"n": arrays["n"], "ranks": places}


def of_whole(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Arrays:
    """The largest rank of each register, 0 where none is."""
    digits = arrays["ranks"][..., None] >> (_BITS * np.arange(_DIGITS)) & ((1 << _BITS) - 1)
    there = digits.reshape(len(digits), -1) > 0
    ranks = np.where(there.any(1), there.shape[1] - np.argmax(there[:, ::-1], 1), 0)
    return {"n": arrays["n"], "registers": ranks.astype(np.uint8)}


def final(arrays: Arrays, options: Mapping[str, Json], known: Known) -> Json:
    return int(arrays["different"]) if "different" in arrays else _estimate(arrays["registers"])


def _estimate(registers: Array) -> int:
    m = 1 << P
    counts = np.bincount(registers, minlength=Q + 2).astype(float)
    z = m * _tau(1 - counts[Q + 1] / m)
    for k in range(Q, 0, -1):
        z = 0.5 * (z + counts[k])
    z += m * _sigma(counts[0] / m)
    return round(m * m / (2 * math.log(2)) / z) if math.isfinite(z) else 0


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    y, z = 1.0, 1 - x
    while True:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
        if z == before:
            return z / 3


STATISTIC = Statistic(
    doc="different values (0.8 % standard error)",
    kinds=ANY,
    observe=observe,
    merge=merge,
    protect=protect,
    combine=Combine.MERGE,
    whole=whole,
    of_whole=of_whole,
    final=final,
)
