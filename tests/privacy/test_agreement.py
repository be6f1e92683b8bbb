"""Secrets of two: the vectors of the standards, and what is no key."""

from __future__ import annotations

import pytest

from hanse.errors import NodeFailed
from hanse.privacy.agreement import KeyPair, derive, expand, extract

ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")


def test_the_vectors_of_rfc_7748_section_6_1() -> None:
    alice, bob = KeyPair(ALICE), KeyPair(BOB)
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.secret(bob.public).hex() == bob.secret(alice.public).hex() == shared


@pytest.mark.parametrize("public", [bytes(32), bytes([1]) + bytes(31), b"short", bytes(33)])
def test_a_key_that_makes_every_secret_the_same_or_is_none_is_refused(public: bytes) -> None:
    with pytest.raises(NodeFailed, match="no usable public key"):
        KeyPair().secret(public)


def test_the_vectors_of_rfc_5869() -> None:
    info, salt = bytes(range(0xF0, 0xFA)), bytes(range(13))
    first = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert derive(b"\x0b" * 22, info, 42, salt).hex() == first
    long = derive(bytes(range(80)), bytes(range(0xB0, 0x100)), 82, bytes(range(0x60, 0xB0)))
    assert long.hex() == (
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
    )


def test_keys_are_fresh_and_never_shown() -> None:
    one, two = KeyPair(), KeyPair()
    assert one.public != two.public
    assert ALICE.hex() not in repr(KeyPair(ALICE))
    assert derive(b"s" * 32, b"one") != derive(b"s" * 32, b"two")


@pytest.mark.parametrize("nbytes", [1, 16, 32])
@pytest.mark.parametrize("salt", [b"", b"salt"])
def test_its_two_halves_make_the_same_keys(nbytes: int, salt: bytes) -> None:
    assert expand(extract(b"s" * 32, salt), b"one", nbytes) == derive(b"s" * 32, b"one", nbytes, salt)
    for size in (0, 33):
        with pytest.raises(NodeFailed, match="up to 32"):
            expand(b"k" * 32, b"one", size)
