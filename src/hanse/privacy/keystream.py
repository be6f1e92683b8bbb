"""A short secret spread out over a long vector, by AES-128.

Who has the 16 bytes makes the same words; to everybody else they look drawn uniformly, and so does any vector that they
were added to, modulo 2⁶⁴ or 2³², and the lowest bits of its words. Each seed is used for one stream. The words of
several widths lie in it one after the other, so that a few numbers beside many take no stream of their own.

:func:`mask` takes zeros encrypted in XTS mode (IEEE 1619, NIST SP 800-38E), 2¹⁸ bytes at a time. With k₁ and k₂ derived
from the seed, block j of part p of the stream is ::

    E_{k₁}(T) ⊕ T,    T = 2ʲ E_{k₂}(p)  in the field of 2¹²⁸ elements

XTS is a tweakable block cipher: for each (p, j) a permutation of its own that looks drawn independently of the others,
so what it makes of zeros is one block that looks drawn, but for an advantage of some q² / 2¹²⁸ after q blocks, as in
counter mode. It is here because OpenSSL encrypts several blocks with one instruction in this mode, where the processor
can, and not in counter mode: a secure sum of ten nodes is mostly keystreams, and they are made twice as fast.

:func:`counting` is counter mode (NIST SP 800-38A), for who takes words one after the other.

References: Rogaway 2004, "Efficient instantiations of tweakable blockciphers and refinements to modes OCB and PMAC",
theorem 8 (XEX, of which XTS with two keys is one).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hanse.errors import NodeFailed
from hanse.messages import Array
from hanse.privacy.agreement import derive

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import XTS

SEED_BYTES = 16
_BLOCK_BYTES = 16
PART_BYTES = 1 << 18  # the words, the keystream and the zeros that it is made of stay in a core's cache
KEY_BYTES = 32
_ZEROS = memoryview(bytes(PART_BYTES))


def counting(seed: bytes, counter: int) -> CipherContext:
    """AES-128 in counter mode, from this counter block on."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # 6 MB, in workers that draw no noise

    return Cipher(algorithms.AES128(seed), modes.CTR(counter.to_bytes(_BLOCK_BYTES, "big"))).encryptor()


@functools.cache
def _library() -> tuple[type[AES], type[Cipher[XTS]], type[XTS]]:
    from cryptography.hazmat.primitives.ciphers import Cipher  # not in workers that mask nothing
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import XTS

    return AES, Cipher, XTS


def expanded(seeds: Sequence[tuple[bytes, int]]) -> list[tuple[AES, int]]:
    """The keys of these seeds, for :func:`mask`, each with its sign, 1 or -1. One of 32 bytes is k₁ and k₂ itself."""
    aes, _, _ = _library()
    return [
        (aes(seed if len(seed) == KEY_BYTES else derive(seed, b"keystream", KEY_BYTES)), sign) for seed, sign in seeds
    ]


def within(words: Mapping[int, Array], part: int) -> list[tuple[int, int, int]]:
    """Which of these words lie in a part of the stream: their width, the first, and the one after the last.

    Args:
        words: by width, in the order in which they lie there: those of 64 bits come before those of 32.
        part: its number, from 0.

    >>> within({64: np.zeros(32770, np.uint64), 32: np.zeros(7, np.uint32)}, 1)
    [(64, 32768, 32770), (32, 0, 7)]
    """
    found, begins, ends = [], part * PART_BYTES, (part + 1) * PART_BYTES
    at = 0  # the first byte of each vector
    for width, vector in words.items():
        size = vector.itemsize
        low, high = max(0, begins - at) // size, min(vector.nbytes, ends - at) // size
        if low < high:
            found.append((width, low, high))
        at += vector.nbytes
    return found


def mask(words: Sequence[Array], keys: Sequence[tuple[AES, int]], part: int = 0, into: Array | None = None) -> None:
    """Adds the words of each key's stream to ``words``, in place, or takes them off; modulo 2 to their width.

    Args:
        words: those that lie in this part of the stream (:func:`within`), each uint64 or uint32 and contiguous.
        keys: with a sign each (:func:`expanded`).
        part: its number.
        into: :func:`room`, for who masks one part after the other.

    >>> words = np.arange(5, dtype=np.uint64)
    >>> mask([words], expanded([(b"k" * 16, 1)])); mask([words], expanded([(b"k" * 16, -1)])); words
    array([0, 1, 2, 3, 4], dtype=uint64)
    """
    _, cipher, mode = _library()
    nbytes = sum([vector.nbytes for vector in words])
    if nbytes > PART_BYTES or any([vector.dtype.kind != "u" or vector.itemsize not in (4, 8) for vector in words]):
        raise NodeFailed("a keystream is added to words of 64 or 32 bits, to those of one part of it")
    stream = room(nbytes) if into is None else into
    raw, zeros, at = stream.data, _ZEROS[: -(-nbytes // _BLOCK_BYTES) * _BLOCK_BYTES], 0
    found = []
    for vector in words:
        found.append((vector, stream[at : at + vector.nbytes].view(vector.dtype)))
        at += vector.nbytes
    tweak = mode(part.to_bytes(_BLOCK_BYTES, "little"))
    for key, sign in keys:
        cipher(key, tweak).encryptor().update_into(zeros, raw)
        for vector, own in found:
            (np.add if sign > 0 else np.subtract)(vector, own, out=vector)


def room(nbytes: int) -> Array:
    """What a part of the stream is made in, of up to so many bytes."""
    return np.empty(min(nbytes, PART_BYTES) + 2 * _BLOCK_BYTES, np.uint8)
