"""A secret that two nodes agree on through somebody who passes their public keys on and must not know it.

Each side has a key pair of X25519 (:rfc:`7748`); the secret of two is X25519(own private key, other's public key), the
same at both ends. From it, HKDF-SHA256 (:rfc:`5869`) derives as many independent keys as are needed, each named by
what it is for: :func:`derive` at once, or its two halves, of which :func:`extract` is done once for all keys. Whether a
public key is really the other node's is not known here: keys are signed (:class:`hanse.gather.Identity`).
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from hanse.errors import NodeFailed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

_HASH_BYTES = 32
PUBLIC_BYTES = 32  # the library that computes with keys takes 8 MB: not in workers that need none


class KeyPair:
    """A private key that never leaves, and the ``public`` one (32 bytes) that belongs to it.

    Args:
        private: 32 bytes; None draws a fresh key.

    >>> one, two = KeyPair(), KeyPair()
    >>> one.secret(two.public) == two.secret(one.public)
    True
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes | None = None) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey as Private

        self._private: X25519PrivateKey = Private.generate() if private is None else Private.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"KeyPair({self.public.hex()[:16]}...)"

    def secret(self, public: bytes) -> bytes:
        """The 32 bytes that both have. Raises ``NodeFailed`` for what is no key, or one that makes every secret the
        same (a point of low order)."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise NodeFailed(f"{public.hex()[:16]!r} is no usable public key; expected 32 bytes of X25519") from None


def derive(secret: bytes, purpose: bytes, nbytes: int = 16, salt: bytes = b"") -> bytes:
    """A key for one purpose: HKDF-SHA256 with ``purpose`` as its ``info``.

    Args:
        secret: at least 16 bytes that others do not know.
        purpose: what the key is for; two purposes give keys of which neither tells anything about the other.
        nbytes: up to 8160.
        salt: public; strengthens the extraction.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(hashes.SHA256(), nbytes, salt or None, purpose).derive(secret)


def extract(secret: bytes, salt: bytes = b"") -> bytes:
    """The first half of :func:`derive`: 32 bytes that look drawn, for :func:`expand`."""
    return hmac.digest(salt or bytes(_HASH_BYTES), secret, "sha256")


def expand(key: bytes, purpose: bytes, nbytes: int = 16) -> bytes:
    """The second half of :func:`derive`: a key of up to 32 bytes for one purpose.

    >>> expand(extract(b"s" * 32), b"a purpose") == derive(b"s" * 32, b"a purpose")
    True
    """
    if not 0 < nbytes <= _HASH_BYTES:
        raise NodeFailed(f"a key of {nbytes} bytes was asked for; one hash gives up to {_HASH_BYTES}")
    return hmac.digest(key, purpose + b"\x01", "sha256")[:nbytes]
