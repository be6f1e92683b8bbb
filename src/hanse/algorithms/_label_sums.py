"""Which labels all sites have together, and in how many rows each, from sums alone.

Labels are words, and words do not add. But a table of cells does, into each of which a label is put by its hash::

    cell += rows · (1, hash, check, length)          at four places of the table that follow from the hash

(an invertible Bloom lookup table). In the sum of all sites' tables a cell with a single label in it shows it: all of
its numbers are multiples of its rows, and the check is that of the hash. It is taken off at all its places, so that
others stand alone, until the table is empty. Then every label has been found, with the rows that it has at all sites,
exactly; otherwise it is not empty, and nothing is told. Which sites have a label is in no sum.

A second sum spells those that are to be told: rows times each byte of the label, over all sites, divided by the rows.

Reference: Goodrich and Mitzenmacher 2011, "Invertible Bloom lookup tables".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from hanse.messages import Array

LEAST, MOST = 64, 1 << 19  # labels of one site as it says how many they are, and of all sites
LONGEST = 200  # bytes of a label that is told; longer ones are counted
_PLACES, _FEWEST, _SPARE = 4, 1024, 0.45  # a table of 0.77 labels a cell still comes apart; these are 0.55
_ODD = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)
_LIMB = 21  # bits: rows times one of them are far below 2^63
_COLUMNS = 6  # rows, three limbs of the hash, check, length


class Counted(NamedTuple):
    """Labels without their words, each (k,): hash, rows, and bytes."""

    keys: Array
    rows: Array
    lengths: Array


def rounded(labels: int) -> int:
    """How many labels a site says that it has: not fewer, and a power of two."""
    return max(LEAST, 1 << max(0, labels - 1).bit_length())


def cells(labels: int) -> int:
    """Cells of each of the parts of a table of at most so many labels."""
    return max(_FEWEST, int(_SPARE * labels) + 1)


def keys_of(labels: Sequence[str]) -> Array:
    """(k,) 63 bits of a hash of each."""
    found = [xxhash.xxh3_64_intdigest(label.encode()) >> 1 for label in labels]
    return np.array(found, np.uint64)


def table(labels: Sequence[str], rows: Array, size: int) -> Array:
    """(places · size, columns) int64: that of one site."""
    found = np.zeros((_PLACES * size, _COLUMNS), np.int64)
    lengths = np.array([min(len(label.encode()), LONGEST + 1) for label in labels], np.int64)
    counted = Counted(keys_of(labels), np.asarray(rows, np.int64), lengths)
    _put(found, counted, size, 1)
    return found


def counted(summed: Array) -> Counted | None:
    """All labels of a sum of tables; None where it does not come apart."""
    left, size = np.array(summed, np.int64), len(summed) // _PLACES
    place = np.repeat(np.arange(_PLACES), size)
    found: list[Counted] = []
    for _ in range(len(left)):
        alone = np.flatnonzero(left[:, 0] > 0)
        alone = alone[(left[alone, 1:] % left[alone, :1] == 0).all(1)]
        rows, parts = left[alone, 0], left[alone, 1:] // left[alone, :1]
        fits = ((parts[:, :4] >= 0) & (parts[:, :4] < 1 << _LIMB)).all(1) & (parts[:, 4] >= 0)
        alone, rows, parts = alone[fits], rows[fits], parts[fits]
        limbs = parts[:, :3].astype(np.uint64)
        keys = limbs[:, 0] | limbs[:, 1] << np.uint64(_LIMB) | limbs[:, 2] << np.uint64(2 * _LIMB)
        fits = (_check(keys) == parts[:, 3]) & (_places(keys, size)[place[alone], np.arange(len(keys))] == alone)
        keys, first = np.unique(keys[fits], return_index=True)
        if not len(keys):
            break
        one = Counted(keys, rows[fits][first], parts[fits][first, 4])
        _put(left, one, size, -1)
        found.append(one)
    if left.any():
        return None
    return Counted(
        np.concatenate([np.zeros(0, np.uint64), *(part.keys for part in found)]),
        np.concatenate([np.zeros(0, np.int64), *(part.rows for part in found)]),
        np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in found)]),
    )


def spelled(labels: Sequence[str], rows: Array, keys: Array, length: int) -> Array:
    """(k, length) int64: of each of these keys its label's bytes, rows times; zeros where the site has none of it."""
    found, own = np.zeros((len(keys), length), np.int64), keys_of(labels)
    place = {int(key): i for i, key in enumerate(own)}
    for i, key in enumerate(keys.tolist()):
        if key in place and len(word := labels[place[key]].encode()) <= length:
            found[i, : len(word)] = np.frombuffer(word, np.uint8).astype(np.int64) * int(rows[place[key]])
    return found


def words(summed: Array, of: Counted) -> list[str] | None:
    """The labels of a sum of what :func:`spelled` gives; None where it is not that of these keys."""
    letters = summed // np.maximum(of.rows, 1)[:, None]
    if (letters * of.rows[:, None] != summed).any() or ((letters < 0) | (letters > 255)).any():
        return None
    try:
        found = [row[:n].astype(np.uint8).tobytes().decode() for row, n in zip(letters, of.lengths, strict=True)]
    except UnicodeDecodeError:
        return None
    return found if np.array_equal(keys_of(found), of.keys) else None


def _places(keys: Array, size: int) -> Array:
    """(places, k) the cells of each key, one in each part of the table."""
    with np.errstate(over="ignore"):
        mixed = (keys[None] * _ODD[:_PLACES, None]) >> np.uint64(24)
    within = (mixed % np.uint64(size)).astype(np.int64)
    return np.asarray(within + size * np.arange(_PLACES)[:, None])


def _check(keys: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray((keys * _ODD[_PLACES]) >> np.uint64(64 - _LIMB)).astype(np.int64)


def _put(cells: Array, of: Counted, size: int, sign: int) -> None:
    limbs = [(of.keys >> np.uint64(_LIMB * i)) & np.uint64((1 << _LIMB) - 1) for i in range(3)]
    one = np.stack([np.ones(len(of.keys), np.int64), *(x.astype(np.int64) for x in limbs), _check(of.keys), of.lengths])
    what = (one * (sign * of.rows)).T
    for part in _places(of.keys, size):
        np.add.at(cells, part, what)
