"""Random numbers that follow from a key alone: the counter-based generator Philox4x64 (Salmon et al. 2011)."""

from __future__ import annotations

from struct import Struct
from typing import Any, cast

import numpy as np

from hanse.messages import Array

_WORDS = Struct("<2Q").unpack_from  # the first two of a hash


def keyed(words: Array) -> np.random.Generator:
    """The generator of a key.

    Args:
        words: (2,) uint64.

    >>> keyed(np.array([1, 2], np.uint64)).integers(100) == keyed(np.array([1, 2], np.uint64)).integers(100)
    np.True_
    """
    return np.random.Generator(np.random.Philox(cast(Any, _Key(words))))


class Keyed:
    """Generators of one key after the other, the same object each time: to make one takes as long as a hundred draws.

    Args:
        hashed: the SHA-256 of a key's beginning.

    >>> import hashlib
    >>> one = Keyed(hashlib.sha256(b"site "))
    >>> [one.at(end).integers(100) for end in ("1", "2", "1")]
    [np.int64(73), np.int64(85), np.int64(73)]
    """

    def __init__(self, hashed: Any) -> None:
        self._hashed = hashed
        self._generator = keyed(np.zeros(2, np.uint64))
        # in plain integers, which are read in half the time that numbers of arrays take
        begin: Any = self._generator.bit_generator.state
        self._inner: dict[str, Any] = {name: tuple(words.tolist()) for name, words in begin["state"].items()}
        self._begin = {**begin, "state": self._inner, "buffer": tuple(begin["buffer"].tolist())}

    def at(self, end: str) -> np.random.Generator:
        """That of the key that ends so; the one before has other numbers from now on."""
        hashed = self._hashed.copy()
        hashed.update(end.encode())
        self._inner["key"] = _WORDS(hashed.digest())
        self._generator.bit_generator.state = self._begin
        return self._generator


class _Key(np.random.bit_generator.ISeedSequence):
    """The key itself. Given as ``Philox(key=words)``, the system is asked for entropy first, which is not used."""

    def __init__(self, words: Array) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> Array:
        return self._words
