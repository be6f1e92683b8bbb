"""Keystreams: the vectors of the standard, that parts are those of the whole, and that they look drawn."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.errors import NodeFailed
from hanse.privacy.keystream import counting, mask

NIST = "2b7e151628aed2a6abf7158809cf4f3c"


def words(seed: bytes, size: int, dtype: str = "uint64", first: int = 0) -> np.ndarray:
    found = np.zeros(size, dtype)
    mask(found, [(seed, 1)], first)
    return found


def test_the_vectors_of_nist_sp_800_38a_f_5_1() -> None:
    plain = (
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = (
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
    )
    stream = counting(bytes.fromhex(NIST), 0xF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF)
    assert stream.update(bytes.fromhex(plain)).hex() == cipher


@pytest.mark.parametrize(("dtype", "bits"), [("uint64", 64), ("uint32", 32)])
def test_the_words_are_the_encrypted_counters_of_their_width(dtype: str, bits: int) -> None:
    seed = bytes.fromhex(NIST)
    counters = b"".join(((bits << 64) + k).to_bytes(16, "big") for k in range(9))
    expected = Cipher(algorithms.AES(seed), modes.ECB()).encryptor().update(counters)
    assert words(seed, 9 * 128 // bits, dtype).tobytes() == expected


@settings(deadline=None)
@given(st.integers(0, 100_000).map(lambda n: 4 * n), st.integers(0, 5000), st.sampled_from(["uint64", "uint32"]))
def test_a_part_is_that_of_the_whole(first: int, size: int, dtype: str) -> None:
    whole = words(b"s" * 16, 405_000, dtype)
    np.testing.assert_array_equal(words(b"s" * 16, size, dtype, first), whole[first : first + size])


def test_masks_come_off_and_wrap_around() -> None:
    values = np.array([0, 1, 2**64 - 1, 2**63], np.uint64)
    found = values.copy()
    mask(found, [(b"a" * 16, 1), (b"b" * 16, -1)])
    assert not np.isin(found, values).any()
    mask(found, [(b"b" * 16, 1), (b"a" * 16, -1)])
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(("dtype", "value"), [("uint64", 0), ("uint64", 2**63 - 7), ("uint32", 5)])
def test_masked_words_look_drawn_uniformly(dtype: str, value: int) -> None:
    """Of every byte all 256 values, of every bit both, and of neighbours nothing: χ² of 255 and 15 degrees of freedom
    beyond their 1 - 10⁻⁹ quantiles would be no accident."""
    found = np.full(1 << 17, value, dtype)
    mask(found, [(value.to_bytes(16, "big"), 1)])
    raw = found.view(np.uint8).reshape(len(found), -1)
    for column in raw.T:
        counts = np.bincount(column, minlength=256)
        assert ((counts - len(raw) / 256) ** 2).sum() / (len(raw) / 256) < 400
    bits = np.unpackbits(raw, axis=1).mean(0)
    assert np.abs(bits - 0.5).max() < 6.5 * 0.5 / len(raw) ** 0.5
    pairs = np.bincount((raw[:-1, 0] >> 6) * 4 + (raw[1:, 0] >> 6), minlength=16)
    assert ((pairs - pairs.mean()) ** 2).sum() / pairs.mean() < 80


def test_only_words_from_the_beginning_of_a_block_are_masked() -> None:
    for array, first in ((np.zeros(4), 0), (np.zeros(4, np.uint16), 0), (np.zeros(4, np.uint64), 1)):
        with pytest.raises(NodeFailed):
            mask(array, [(b"s" * 16, 1)], first)
