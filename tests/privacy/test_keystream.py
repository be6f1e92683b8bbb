"""Keystreams: the vectors of the standards, that parts are those of the whole, and that they look drawn."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.errors import NodeFailed
from hanse.privacy.agreement import derive
from hanse.privacy.keystream import PART_BYTES, counting, expanded, mask, room, within

NIST = "2b7e151628aed2a6abf7158809cf4f3c"


def words(seed: bytes, size: int, dtype: str = "uint64", part: int = 0) -> np.ndarray:
    found = np.zeros(size, dtype)
    masked({1: found}, [(seed, 1)], part)
    return found


def masked(vectors: dict[int, np.ndarray], seeds: list[tuple[bytes, int]], first: int = 0) -> None:
    keys, into = expanded(seeds), room(PART_BYTES)
    for part in range(sum(vector.nbytes for vector in vectors.values()) // PART_BYTES + 1):
        own = [vectors[width][low:high] for width, low, high in within(vectors, part)]
        mask(own, keys, first + part, into)


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


def test_the_second_vector_of_ieee_1619() -> None:
    cipher = "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"
    key, tweak = bytes.fromhex("11" * 16 + "22" * 16), bytes.fromhex("3333333333").ljust(16, b"\0")
    xts = Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor()
    assert xts.update(bytes.fromhex("44" * 32)).hex() == cipher


@pytest.mark.parametrize(("dtype", "bits"), [("uint64", 64), ("uint32", 32)])
def test_the_words_are_zeros_in_xts_block_by_block(dtype: str, bits: int) -> None:
    seed = bytes.fromhex(NIST)
    key = derive(seed, b"keystream", 32)
    first, second = (Cipher(algorithms.AES(half), modes.ECB()).encryptor() for half in (key[:16], key[16:]))
    expected = b""
    for part in (0, 3):
        tweak = int.from_bytes(second.update(part.to_bytes(16, "little")), "little")
        for _ in range(9):
            block = tweak.to_bytes(16, "little")
            expected += bytes(a ^ b for a, b in zip(first.update(block), block, strict=True))
            tweak = (tweak << 1) ^ (0x87 | 1 << 128 if tweak >> 127 else 0)
    for one in (seed, key):
        found = [words(one, 9 * 128 // bits, dtype, part).tobytes() for part in (0, 3)]
        assert b"".join(found) == expected


@settings(deadline=None)
@given(st.integers(0, 3), st.integers(0, 70_000), st.sampled_from(["uint64", "uint32"]))
def test_a_part_is_that_of_the_whole(part: int, size: int, dtype: str) -> None:
    whole = words(b"s" * 16, 405_000, dtype)
    first = part * PART_BYTES // np.dtype(dtype).itemsize
    np.testing.assert_array_equal(words(b"s" * 16, size, dtype, part), whole[first : first + size])


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 22, 40_000, 70_001]), min_size=4, max_size=4))
def test_words_of_all_widths_lie_in_one_stream_none_of_it_twice(sizes: list[int]) -> None:
    vectors = {
        bits: np.zeros(size, np.uint32 if bits == 32 else np.uint64)
        for bits, size in zip((64, 48, 40, 32), sizes, strict=True)
    }
    masked(vectors, [(b"s" * 16, 1)])
    raw = b"".join(vector.tobytes() for vector in vectors.values())
    assert raw == words(b"s" * 16, -(-len(raw) // 4), "uint32").tobytes()


def test_masks_come_off_and_wrap_around() -> None:
    values = np.array([0, 1, 2**64 - 1, 2**63], np.uint64)
    found = values.copy()
    mask([found], expanded([(b"a" * 16, 1), (b"b" * 16, -1)]))
    assert not np.isin(found, values).any()
    mask([found], expanded([(b"b" * 16, 1), (b"a" * 16, -1)]))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(("dtype", "value"), [("uint64", 0), ("uint64", 2**63 - 7), ("uint32", 5)])
def test_masked_words_look_drawn_uniformly(dtype: str, value: int) -> None:
    """Of every byte all 256 values, of every bit both, and of neighbours nothing: χ² of 255 and 15 degrees of freedom
    beyond their 1 - 10⁻⁹ quantiles would be no accident."""
    found = np.full(1 << 17, value, dtype)
    masked({1: found}, [(value.to_bytes(16, "big"), 1)])
    raw = found.view(np.uint8).reshape(len(found), -1)
    for column in raw.T:
        counts = np.bincount(column, minlength=256)
        assert ((counts - len(raw) / 256) ** 2).sum() / (len(raw) / 256) < 400
    bits = np.unpackbits(raw, axis=1).mean(0)
    assert np.abs(bits - 0.5).max() < 6.5 * 0.5 / len(raw) ** 0.5
    pairs = np.bincount((raw[:-1, 0] >> 6) * 4 + (raw[1:, 0] >> 6), minlength=16)
    assert ((pairs - pairs.mean()) ** 2).sum() / pairs.mean() < 80


def test_only_words_of_one_part_are_masked() -> None:
    for arrays in ([np.zeros(4)], [np.zeros(4, np.uint16)], [np.zeros(1, np.uint64), np.zeros(PART_BYTES // 8, "u8")]):
        with pytest.raises(NodeFailed):
            mask(arrays, expanded([(b"s" * 16, 1)]))
