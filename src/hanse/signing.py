"""A node's name towards the other nodes: what it signs with its enrolled key, and whose signatures it believes.

Another node is who its certificate says, where the authority that this node joined has signed it. The coordinator runs
that authority, so a coordinator that lies could make itself a certificate of any name. What it cannot make is one with
a key that an owner has pinned, by a fingerprint that the owners told each other over another way.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hanse.errors import ConfigError, HanseError
from hanse.identity import NodeIdentity, read_certificate


class Signer:
    """A node's identity (:class:`hanse.gather.Identity`): ECDSA with SHA-256 by its enrolled key.

    Args:
        identity: of this node.
        pinned: node to the fingerprint of its key. Where any is given, nodes that are not in it are not believed.
    """

    def __init__(self, identity: NodeIdentity, pinned: Mapping[str, str] | None = None) -> None:
        identity.check()
        key = serialization.load_pem_private_key(identity.key_pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"expected an EC P-256 private key, found {type(key).__name__}")
        self._key, self._pinned = key, dict(pinned or {})
        self._authority = x509.load_pem_x509_certificate(identity.ca_pem)
        self.certificate = identity.cert_pem.decode()
        self.begins = x509.load_pem_x509_certificate(identity.cert_pem).not_valid_before_utc
        self.ends = read_certificate(identity.cert_pem).expires

    def sign(self, text: bytes) -> bytes:
        """The signature of ``text`` by this node's key."""
        return self._key.sign(text, ec.ECDSA(hashes.SHA256()))

    def vouched(self, node: str, certificate: str) -> str:
        """Empty where this is the certificate of ``node``; else why it is not believed, in words."""
        try:
            found = read_certificate(certificate.encode())
            x509.load_pem_x509_certificate(certificate.encode()).verify_directly_issued_by(self._authority)
            own = fingerprint(certificate.encode())
        except (HanseError, ValueError, TypeError, InvalidSignature):
            return f"what was shown for {node!r} is no certificate of the authority that this node joined"
        if found.node_id != node:
            return f"what was shown for {node!r} is the certificate of {found.node_id!r}"
        if found.expires < datetime.datetime.now(datetime.UTC):
            return f"the certificate of {node!r} expired on {found.expires:%Y-%m-%d}"
        if self._pinned and self._pinned.get(node) != own:
            return f"the key of {node!r} is not one that this node's owner has pinned (node_fingerprints)"
        return ""

    def verify(self, certificate: str, text: bytes, signature: bytes) -> bool:
        """Whether the key of ``certificate``, which was vouched for, made this signature of ``text``."""
        return made_by(certificate, text, signature)


def made_by(certificate: str, text: bytes, signature: bytes) -> bool:
    """Whether the key of ``certificate`` (PEM) made this signature (ECDSA with SHA-256, DER) of ``text``."""
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo) of a node's certificate (PEM), in hex. It stays the same when
    the certificate is renewed with the same key: what owners tell each other."""
    key = x509.load_pem_x509_certificate(certificate).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def pins(texts: Iterable[str]) -> dict[str, str]:
    """Node to fingerprint, of texts as an owner writes them (``node_fingerprints``).

    >>> pins(["site-b=abab"])
    {'site-b': 'abab'}
    """
    return {node: own for node, _, own in (text.partition("=") for text in texts)}
