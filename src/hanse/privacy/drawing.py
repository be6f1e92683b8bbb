"""Random words from a secret key, and whole numbers drawn from them exactly uniformly.

Who does not have the key cannot tell the words from drawn ones (AES-128 in counter mode), so noise that is made of them
cannot be predicted, as that of a seeded generator of random numbers could. The same key gives the same words.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array
from hanse.privacy.keystream import SEED_BYTES, counting

KEY_BYTES = 32
_PART = 1 << 15  # words


def key_for(secret: bytes, *parts: bytes) -> bytes:
    """A key of its own for ``parts``: HMAC-SHA256 over all of them, each with its length before it."""
    text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.new(secret, b"hanse noise v1" + text, hashlib.sha256).digest()


class Draws:
    """
    Args:
        key: at least 16 bytes that nobody else has; used for nothing else.

    >>> one, two = Draws(b"k" * 16), Draws(b"k" * 16)
    >>> bool((one.below(10, 100) == two.below(10, 100)).all())
    True
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < SEED_BYTES:
            raise ConfigError(f"a key of {len(key)} bytes is too short; expected at least {SEED_BYTES}")
        self._stream = counting(key[:SEED_BYTES], 0)

    def words(self, size: int) -> Array:
        """(size,) uint64, the next ones."""
        found = np.zeros(size, np.uint64)
        raw = found.data.cast("B")
        for low in range(0, size, _PART):
            part = raw[8 * low : 8 * min(size, low + _PART)]
            self._stream.update_into(bytes(len(part)), part)
        return found

    def below(self, bound: int, size: int) -> Array:
        """(size,) int64, each from 0 to ``bound`` - 1 with the same probability exactly: words that are too large are
        drawn anew."""
        if not 0 < bound <= 1 << 62:
            raise ConfigError(f"{bound} is no bound of whole numbers of 64 bits")
        mask = np.uint64((1 << (bound - 1).bit_length()) - 1)
        found = (self.words(size) & mask).astype(np.int64)
        while (again := np.flatnonzero(found >= bound)).size:
            found[again] = (self.words(again.size) & mask).astype(np.int64)
        return found

    def bits(self, size: int) -> Array:
        """(size,) bool."""
        return (self.words(size) >> np.uint64(63)).astype(bool)
