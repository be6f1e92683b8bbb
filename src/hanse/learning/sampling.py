"""Which rows a round learns from, or a run holds out, wherever they lie.

A row is drawn by a key made of its values and its target, of the seed of the run and of the round: the same row is
drawn at any site and in any order. (Rows that are equal in all of these are drawn together.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from hanse.messages import Array

_ROWS = 1 << 16  # that are mixed at a time
_LUMPS = 200  # of equal rows; a share of fewer is not like all rows, be they many
_MISSING = 0x7FC00000  # the bits of NaN, of which there are many


def row_keys(columns: Iterable[Array], y: Array) -> Array:
    """(n,) uint64: a number for each row, of its values (n,) in each column, as float32, and its target (n,) or targets
    (n, c)."""
    keys = np.zeros(len(y), np.uint64)
    for column in np.asarray(y, np.float64).T if y.ndim > 1 else [np.asarray(y, np.float64)]:
        _mix_in(keys, np.ascontiguousarray(column).view(np.uint64))
    for column in columns:
        values = np.asarray(column, np.float32) + np.float32(0)  # -0 becomes 0
        bits = values.view(np.uint32)
        bits[np.isnan(values)] = _MISSING
        _mix_in(keys, bits)
    return keys


def drawn(keys: Array, share: float, seed: int, what: int | str) -> Array:
    """(n,) bool: each row with the probability ``share``. ``what``: the round, or what else rows are drawn for."""
    salt = hashlib.sha256(f"rows\x1f{seed}\x1f{what}".encode()).digest()[:8]
    found, most = np.zeros(len(keys), bool), np.uint64(int(share * 2**53))
    for part in _parts(len(keys)):
        found[part] = _mixed(keys[part] ^ np.frombuffer(salt, "<u8")) >> np.uint64(11) < most
    return found


def lumped(keys: Array) -> bool:
    """Whether so many rows are equal to others that what is drawn of them is not like all: with m_i rows of kind i, a
    share of all rows varies as one of n² / Σ m_i² kinds does, n = Σ m_i, which are few.

    >>> lumped(np.arange(100) % 8), lumped(np.arange(100)), lumped(np.arange(4000) // 4)
    (True, False, False)
    """
    many = np.unique(keys, return_counts=True)[1].astype(np.float64)
    squares = float(many @ many)
    return squares > 2 * len(keys) and squares * _LUMPS > float(len(keys)) ** 2


def _mix_in(keys: Array, more: Array) -> None:
    """Makes each of the ``keys`` one of itself and of (n,) whole numbers."""
    for part in _parts(len(keys)):
        keys[part] = _mixed(keys[part] ^ more[part].astype(np.uint64))


def _parts(rows: int) -> Iterator[slice]:
    """Some rows after the other, so that what is computed of them stays small."""
    return (slice(low, low + _ROWS) for low in range(0, rows, _ROWS))


def _mixed(numbers: Array) -> Array:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators")."""
    found = numbers + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(found ^ (found >> np.uint64(31)))
