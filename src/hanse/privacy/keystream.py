"""A short secret spread out over a long vector: the keystream of AES-128 in counter mode (NIST SP 800-38A).

Who has the 16 bytes makes the same words; to everybody else they look drawn uniformly, and so does any vector that they
were added to, modulo 2⁶⁴ or 2³². Each seed is used for one vector of each width: the first half of the counter block is
the width in bits, the second counts the blocks of 16 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hanse.errors import NodeFailed
from hanse.messages import Array

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

SEED_BYTES = 16
_BLOCK_BYTES = 16
_PART = 1 << 18  # bytes: the words, the keystream and the zeros that it is made of stay in a core's cache
_ZEROS = bytes(_PART)


def counting(seed: bytes, counter: int) -> CipherContext:
    """AES-128 in counter mode, from this counter block on."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # 6 MB, in workers that draw no noise

    return Cipher(algorithms.AES128(seed), modes.CTR(counter.to_bytes(_BLOCK_BYTES, "big"))).encryptor()


def mask(words: Array, seeds: Sequence[tuple[bytes, int]], first: int = 0) -> None:
    """Adds the words of each seed to ``words``, in place, or takes them off; modulo 2 to their width.

    Args:
        words: (n,) uint64 or uint32, contiguous.
        seeds: 16 bytes and a sign, 1 or -1.
        first: which word of the keystream belongs to the first of ``words``; a multiple of 4.

    >>> words = np.arange(5, dtype=np.uint64)
    >>> mask(words, [(b"k" * 16, 1)]); mask(words, [(b"k" * 16, -1)]); words
    array([0, 1, 2, 3, 4], dtype=uint64)
    """
    size = words.itemsize
    if words.dtype.kind != "u" or size not in (4, 8) or first * size % _BLOCK_BYTES:
        raise NodeFailed("a keystream is added to words of 32 or 64 bits, from the beginning of a block of it")
    start = (8 * size << 64) + first * size // _BLOCK_BYTES
    streams = [(counting(seed, start), sign) for seed, sign in seeds]
    step = _PART // size
    stream = np.empty(step, words.dtype)
    raw = stream.data.cast("B")
    for low in range(0, len(words), step):
        part = words[low : low + step]
        for encryptor, sign in streams:
            encryptor.update_into(_ZEROS if part.size == step else _ZEROS[: part.nbytes], raw[: part.nbytes])
            (np.add if sign > 0 else np.subtract)(part, stream[: part.size], out=part)
