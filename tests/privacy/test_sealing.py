"""Sealed messages: a vector of the standard, and that no bit of them may change."""

from __future__ import annotations

import pytest

from hanse.privacy.sealing import EXTRA_BYTES, seal, unseal


def test_a_vector_of_the_gcm_specification() -> None:
    """Test cases 1 and 2 of McGrew and Viega: key and nonce zero, no context."""
    assert seal(bytes(16), b"", b"").hex() == "58e2fccefa7e3061367f1d57a4e7455a"
    sealed = "0388dace60b6a392f328c2b971b2fe78" + "ab6e47d42cec13bdf53a67b21257bddf"
    assert seal(bytes(16), bytes(16), b"").hex() == sealed
    assert unseal(bytes(16), bytes.fromhex(sealed), b"") == bytes(16)


@pytest.mark.parametrize("bit", range(0, 8 * (5 + EXTRA_BYTES), 7))
def test_what_was_changed_on_its_way_is_nothing(bit: int) -> None:
    sealed = bytearray(seal(b"k" * 16, b"share", b"session"))
    sealed[bit // 8] ^= 1 << bit % 8
    assert unseal(b"k" * 16, bytes(sealed), b"session") is None


def test_another_key_context_or_length_opens_nothing() -> None:
    sealed = seal(b"k" * 16, b"share", b"session")
    assert unseal(b"l" * 16, sealed, b"session") is None
    assert unseal(b"k" * 16, sealed, b"another") is None
    assert unseal(b"k" * 16, sealed[:10], b"session") is unseal(b"k" * 16, b"", b"session") is None
