"""Keys that two sides have for one session and nobody else has, of a key of X25519 that each made for it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hanse.errors import WireError
from hanse.transports._folder_seal import Seal

LABEL = b"hanse folder 1 "


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What seals the node's files, and what seals the coordinator's."""

    of_node: Seal
    of_coordinator: Seal


class FreshKey:
    """One side's key. ``text``: its public half, in base64.

    >>> ours, theirs = FreshKey(), FreshKey()
    >>> one, other = ours.shared(theirs.text, b"", b"test"), theirs.shared(ours.text, b"", b"test")
    >>> from hanse.transports._folder_seal import FileKind
    >>> other.of_node.open(FileKind.WRITES, 0, one.of_node.close(FileKind.WRITES, 0, b"text"))
    b'text'
    """

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.text = base64.b64encode(public).decode()

    def shared(self, other: str, salt: bytes, purpose: bytes) -> SessionKeys:
        """The keys of a session with whoever has the other half: HKDF with SHA-256 of what both agree on. Raises
        ``WireError`` for what is no key, or for one with which everybody would know the secret."""
        try:
            secret = self._key.exchange(X25519PublicKey.from_public_bytes(base64.b64decode(other, validate=True)))
        except (ValueError, binascii.Error):
            raise WireError("a paper without a key of X25519; is the other side of another release?") from None
        both = HKDF(hashes.SHA256(), 64, salt, LABEL + purpose).derive(secret)
        return SessionKeys(Seal(both[:32]), Seal(both[32:]))
