"""A short secret spread out over a long vector, by AES-128.

Who has the 16 bytes makes the same words; to everybody else they look drawn uniformly, and so does any vector that they
were added to, modulo 2⁶⁴ or 2³², and the lowest bits of its words. Each seed is used for one vector of each width.

:func:`mask` takes zeros encrypted in XTS mode (IEEE 1619, NIST SP 800-38E), 2¹⁸ bytes at a time. With k₁ and k₂ derived
from the seed, block j of part p of the words of b bits is ::

    E_{k₁}(T) ⊕ T,    T = 2ʲ E_{k₂}(2⁶⁴ b + p)  in the field of 2¹²⁸ elements

XTS is a tweakable block cipher: for each (p, j) a permutation of its own that looks drawn independently of the others,
so what it makes of zeros is one block that looks drawn, but for an advantage of some q² / 2¹²⁸ after q blocks, as in
counter mode. It is here because OpenSSL encrypts several blocks with one instruction in this mode, where the processor
can, and not in counter mode: a secure sum of ten nodes is mostly keystreams, and they are made twice as fast.

:func:`counting` is counter mode (NIST SP 800-38A), for who takes words one after the other.

References: Rogaway 2004, "Efficient instantiations of tweakable blockciphers and refinements to modes OCB and PMAC",
theorem 8 (XEX, of which XTS with two keys is one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hanse.errors import NodeFailed
from hanse.messages import Array

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

SEED_BYTES = 16
_BLOCK_BYTES = 16
PART_BYTES = 1 << 18  # the words, the keystream and the zeros that it is made of stay in a core's cache
_ZEROS = bytes(PART_BYTES)


def counting(seed: bytes, counter: int) -> CipherContext:
    """AES-128 in counter mode, from this counter block on."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # 6 MB, in workers that draw no noise

    return Cipher(algorithms.AES128(seed), modes.CTR(counter.to_bytes(_BLOCK_BYTES, "big"))).encryptor()


def expanded(seeds: Sequence[tuple[bytes, int]]) -> list[tuple[AES, int]]:
    """The keys of these seeds, for :func:`mask_with`, each with its sign."""
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

    from hanse.privacy.agreement import derive

    return [(AES(derive(seed, b"keystream", 2 * SEED_BYTES)), sign) for seed, sign in seeds]


def mask(words: Array, seeds: Sequence[tuple[bytes, int]], first: int = 0, bits: int = 0) -> None:
    """Adds the words of each seed to ``words``, in place, or takes them off; modulo 2 to their width.

    Args:
        words: (n,) uint64 or uint32, contiguous.
        seeds: 16 bytes and a sign, 1 or -1.
        first: which word of the keystream belongs to the first of ``words``; the beginning of a part.
        bits: the width that is used of each word; 0: all of them.

    >>> words = np.arange(5, dtype=np.uint64)
    >>> mask(words, [(b"k" * 16, 1)]); mask(words, [(b"k" * 16, -1)]); words
    array([0, 1, 2, 3, 4], dtype=uint64)
    """
    mask_with(words, expanded(seeds), first, bits)


def mask_with(words: Array, keys: Sequence[tuple[AES, int]], first: int = 0, bits: int = 0) -> None:
    """As :func:`mask`, for who masks words of several widths, or some after the others."""
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    size = words.itemsize
    if words.dtype.kind != "u" or size not in (4, 8) or first * size % PART_BYTES:
        raise NodeFailed("a keystream is added to words of 32 or 64 bits, from the beginning of a part of it")
    step = PART_BYTES // size
    stream = np.empty(step + _BLOCK_BYTES // size, words.dtype)
    raw = stream.data.cast("B")
    for low in range(0, len(words), step):
        part = words[low : low + step]
        tweak = modes.XTS((((bits or 8 * size) << 64) + (first + low) // step).to_bytes(_BLOCK_BYTES, "little"))
        zeros = _ZEROS if part.size == step else _ZEROS[: -(-part.nbytes // _BLOCK_BYTES) * _BLOCK_BYTES]
        for key, sign in keys:
            Cipher(key, tweak).encryptor().update_into(zeros, raw)
            (np.add if sign > 0 else np.subtract)(part, stream[: part.size], out=part)
