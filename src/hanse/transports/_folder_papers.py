"""What two sides show each other in a shared folder before they talk: signed JSON, with the certificate of who signed.

Three papers make a session, as in SIGMA (Krawczyk, CRYPTO 2003): the coordinator's *announcement* holds a number that
it drew when it was started; a node's *hello* repeats that number and brings a fresh key of X25519; the coordinator's
*welcome* repeats the hash of the hello and brings another. Keys of a session are known to these two alone, also when
the enrolled keys are stolen later; a hello or a welcome that is shown again is one for a number, or of a hash, that
nobody waits for. No clock is needed for this, so a paper may be days on its way.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from hanse import validity
from hanse.errors import HanseError, NotAuthenticated, WireError
from hanse.identity import NodeIdentity, read_certificate
from hanse.messages import dumps, loads
from hanse.transports._folder_files import is_session
from hanse.transports._folder_keys import LABEL, FreshKey, SessionKeys
from hanse.transports._folder_seal import HalfThere

MOST_BYTES = 64 << 10
_END = b"\n"  # stands nowhere in the JSON before it


@dataclass(frozen=True, slots=True)
class Announcement:
    """A coordinator's, that was checked.

    Args:
        number: drawn when the coordinator was started.
        key: for who wants to join.
    """

    number: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Hello:
    """A node's, that was checked but for whether the node may come in.

    Args:
        fingerprint, expires_s: of the node's certificate; seconds from now.
        digest: SHA-256 of the paper.
    """

    node: str
    session: str
    number: str
    fingerprint: str
    expires_s: float
    key: str
    digest: bytes


def announcement(number: str, joining: str, key_pem: bytes, certificate_pem: bytes, authority_pem: bytes) -> bytes:
    """The coordinator's paper for everybody. ``joining``: the public half of a key."""
    about = {"number": number, "key": joining, "authority": authority_pem.decode()}
    return _signed("announcement", about, key_pem, certificate_pem)


def read_announcement(paper: bytes, authority_pem: bytes) -> Announcement:
    """Raises ``NotAuthenticated`` unless the coordinator of this authority signed it; ``WireError`` for no paper."""
    said, _ = _coordinators("announcement", paper, authority_pem)
    number = said.get("number")
    if not is_session(number):
        raise WireError("the coordinator's announcement has no number; is it of another release?")
    return Announcement(str(number), str(said.get("key")))


def shown_authority(paper: bytes) -> bytes:
    """The authority that an announcement shows (PEM): to be compared with what a join token pins, before it is
    believed. Raises ``WireError``."""
    if not paper.endswith(_END):
        raise HalfThere
    try:
        return str(loads(str(loads(paper)["said"]))["authority"]).encode()
    except (KeyError, TypeError):
        raise WireError("this is no announcement of a coordinator") from None


def is_of(paper: bytes, authority_pem: bytes) -> bool:
    """Whether an announcement is of this authority, however old."""
    try:
        certificate = x509.load_pem_x509_certificate(str(loads(paper)["certificate"]).encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem))
    except (HanseError, ValueError, TypeError, KeyError, InvalidSignature):
        return False
    return True


def new_number() -> str:
    """The name of a session, or the number of a coordinator's start."""
    return secrets.token_hex(16)


class Greeting:
    """A node's hello, and what it needs to understand the answer."""

    def __init__(self, identity: NodeIdentity, said: Announcement) -> None:
        self.session, self.number = new_number(), said.number
        self._authority, self._key = identity.ca_pem, FreshKey()
        about = {
            "node": identity.node_id,
            "session": self.session,
            "number": said.number,
            "key": self._key.text,
        }
        self.paper = _signed("hello", about, identity.key_pem, identity.cert_pem)

    def understood(self, welcome: bytes) -> SessionKeys:
        """The keys of the session. Raises ``NotAuthenticated`` with the coordinator's words where it turned the node
        away, or where the welcome is not the coordinator's to this very hello."""
        said, _ = _coordinators("welcome", welcome, self._authority)
        digest = hashlib.sha256(self.paper)
        if said.get("hello") != digest.hexdigest():
            raise WireError("the welcome is not one to this hello")
        if why := said.get("refused"):
            raise TurnedAway(str(why)[:500])
        return self._key.shared(str(said.get("key")), _salt(digest.digest(), welcome), b"session")


class TurnedAway(NotAuthenticated):
    """The coordinator said no, in words of its own."""


def read_hello(paper: bytes, authority_pem: bytes) -> Hello:
    """Raises ``NotAuthenticated`` unless a node of this authority signed it; ``WireError`` for no paper."""
    said, certificate = _read("hello", paper, authority_pem, ExtendedKeyUsageOID.CLIENT_AUTH)
    found = read_certificate(certificate.public_bytes(serialization.Encoding.PEM))
    session, number = said.get("session"), said.get("number")
    if not is_session(session) or not is_session(number):
        raise WireError("the hello has no session, or no number; is the node of another release?")
    if said.get("node") != found.node_id:
        raise NotAuthenticated(f"the hello of {found.node_id!r} names another node")
    expires = (found.expires - validity.now()).total_seconds()
    digest = hashlib.sha256(paper).digest()
    return Hello(found.node_id, str(session), str(number), found.fingerprint, expires, str(said.get("key")), digest)


def welcome(hello: Hello, key_pem: bytes, certificate_pem: bytes) -> tuple[bytes, SessionKeys]:
    """The coordinator's answer to a node that may come in, and the keys of the session. Raises ``WireError`` where the
    node's key leads to none."""
    key = FreshKey()
    about = {"hello": hello.digest.hex(), "key": key.text}
    paper = _signed("welcome", about, key_pem, certificate_pem)
    return paper, key.shared(hello.key, _salt(hello.digest, paper), b"session")


def refusal(hello: Hello, why: str, key_pem: bytes, certificate_pem: bytes) -> bytes:
    """The coordinator's answer to a node that may not come in."""
    return _signed("welcome", {"hello": hello.digest.hex(), "refused": why[:500]}, key_pem, certificate_pem)


def _salt(hello: bytes, welcome: bytes) -> bytes:
    return hello + hashlib.sha256(welcome).digest()


# ---------------------------------------------------------------- signed JSON


def _signed(kind: str, about: Mapping[str, str], key_pem: bytes, certificate_pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    text = dumps(dict(about))
    signature = key.sign(LABEL + kind.encode() + b"\n" + text.encode(), ec.ECDSA(hashes.SHA256()))
    paper = {"said": text, "certificate": certificate_pem.decode(), "signature": base64.b64encode(signature).decode()}
    return dumps(paper).encode() + _END


def _coordinators(kind: str, paper: bytes, authority_pem: bytes) -> tuple[dict[str, Any], x509.Certificate]:
    return _read(kind, paper, authority_pem, ExtendedKeyUsageOID.SERVER_AUTH)


def _read(
    kind: str, paper: bytes, authority_pem: bytes, usage: x509.ObjectIdentifier
) -> tuple[dict[str, Any], x509.Certificate]:
    """What it says and the certificate of who says it; a node's certificate is never one of a coordinator. All that
    reads a paper raises :class:`HalfThere` for the beginning of one."""
    if len(paper) > MOST_BYTES:
        raise WireError(f"a {kind} of more than {MOST_BYTES} bytes")
    if not paper.endswith(_END):
        raise HalfThere
    fields = loads(paper)
    names = ("said", "certificate", "signature")
    if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) for name in names):
        raise WireError(f"this is no {kind}: it needs {', '.join(names)}")
    text, signer, signature = (fields[name] for name in names)
    try:
        certificate = x509.load_pem_x509_certificate(signer.encode())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem))
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        key = certificate.public_key()
        signed = base64.b64decode(signature, validate=True)
    except (ValueError, TypeError, InvalidSignature, binascii.Error, x509.ExtensionNotFound):
        raise NotAuthenticated(f"the {kind} is not of the authority that this side belongs to") from None
    if usage not in usages or not isinstance(key, ec.EllipticCurvePublicKey):
        raise NotAuthenticated(f"the {kind} is signed by somebody who may not sign it")
    now, since, until = validity.now(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not since <= now <= until:
        raise NotAuthenticated(
            f"the certificate on the {kind} counts from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}; here it is "
            f"{now:%Y-%m-%d %H:%M} (UTC): is a clock wrong?"
        )
    try:
        key.verify(signed, LABEL + kind.encode() + b"\n" + text.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise NotAuthenticated(f"the signature of the {kind} does not fit") from None
    said = loads(text.encode())
    if not isinstance(said, dict):
        raise WireError(f"the {kind} says nothing")
    return said, certificate
