"""Who is who: the coordinator's small certificate authority, join tokens, and a node's identity.

A node makes its own key, which never leaves it, and asks for a certificate with a one-time secret
(the join token). The coordinator's authority signs it and writes the node's id into it; whatever
else the request claims is ignored. From then on both sides prove who they are in the TLS
handshake.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hanse import addresses
from hanse.errors import ConfigError, NotAuthenticated, NotFound
from hanse.whole_files import write_whole

AUTHORITY_DAYS = 3650
_AUTHORITY_LEFT_DAYS = 850  # then it signs itself anew; all that it signed before ends sooner
SERVER_DAYS = 825
NODE_DAYS = 365
ServerIdentity = Callable[
    [Sequence[str]], tuple[bytes, bytes, bytes]
]  # host names -> key, certificate, authority (PEM)
_SPREAD_DAYS = 60  # certificates of nodes that joined together do not all end in one week
_BACKDATED = datetime.timedelta(days=2)  # a node whose clock is hours behind gets in, and is told so
_NODE_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_RESERVED = ("coordinator", "localhost")
_URI = "hanse://node/"
_TOKEN = "hanse-join-v1."
_MAX_PEM_BYTES = 64 << 10


def check_node_id(node_id: str) -> str:
    """The id, if it is one: 1 to 64 letters, digits, ``.``, ``_``, ``-``, beginning and ending
    with a letter or digit.

    >>> check_node_id("hospital-1")
    'hospital-1'
    """
    if not _NODE_ID.fullmatch(node_id):
        raise ConfigError(
            f"{node_id[:80]!r} is no node id; use 1 to 64 letters, digits, '.', '_' and '-', "
            "with a letter or digit first and last"
        )
    if node_id.lower() in _RESERVED:
        raise ConfigError(f"{node_id!r} is reserved; choose another node id")
    return node_id


# ---------------------------------------------------------------- certificates


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a node's certificate says. ``fingerprint`` is the SHA-256 of the certificate, in hex."""

    node_id: str
    serial: str
    fingerprint: str
    expires: datetime.datetime


def read_certificate(pem: bytes) -> Certificate:
    """The identity in a node's certificate; says nothing about who signed it (TLS does).

    Raises ``NotAuthenticated`` where its two names (common name and URI) are not one node id.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = [n.value for n in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    except Exception:  # what the library says of damaged ones (versions, extensions, ...) has no common base
        raise NotAuthenticated("no node's certificate was shown; join this coordinator first") from None
    if len(names) != 1 or uris != [_URI + str(names[0])]:
        raise NotAuthenticated("the certificate does not name one node; join this coordinator again")
    try:
        node_id = check_node_id(str(names[0]))
    except ConfigError as error:
        raise NotAuthenticated(error.message) from None
    return Certificate(
        node_id,
        f"{certificate.serial_number:x}",
        certificate.fingerprint(hashes.SHA256()).hex(),
        certificate.not_valid_after_utc,
    )


class Authority:
    """The coordinator's certificate authority: one EC P-256 key in one folder.

    ``Authority.open(folder)`` makes it at the first call and reads it later. Some two years before its certificate ends
    it signs itself a new one with the same key and name, so that what it signed counts under both; nodes learn of it
    with their own next certificate.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Authority:
        """The authority in ``folder``. Raises ``ConfigError`` for unreadable or mismatched files."""
        home = Path(folder)
        key = _load_key(_key_file(home, "authority.key"))
        path = home / "authority.crt"
        if not path.exists():
            write_whole(path, _pem(_sign_authority(key)), 0o644, replace=False)
        certificate = _load_certificate(path.read_bytes(), "the authority's certificate")
        if certificate.public_key() != key.public_key():
            raise ConfigError("authority.crt does not belong to authority.key; restore both from one backup")
        if certificate.not_valid_after_utc < _now():
            raise ConfigError(
                f"the authority's certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}; "
                "remove authority.crt to make a new one, and let all nodes join again"
            )
        if certificate.not_valid_after_utc - _now() < datetime.timedelta(days=_AUTHORITY_LEFT_DAYS):
            certificate = _sign_authority(key, certificate.not_valid_before_utc)
            write_whole(path, _pem(certificate), 0o644)
        return cls(key, certificate)

    @property
    def pem(self) -> bytes:
        """The authority's certificate: what nodes must know."""
        return _pem(self._certificate)

    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, in hex: what a join token pins."""
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    def sign(self, text: bytes) -> bytes:
        """The signature of ``text`` in this authority's name (ECDSA with SHA-256, DER). The caller sees to it that
        ``text`` begins with words that say what it is."""
        return self._key.sign(text, ec.ECDSA(hashes.SHA256()))

    def issue_server(self, hosts: Sequence[str], days: float = SERVER_DAYS) -> tuple[bytes, bytes]:
        """A fresh key and certificate (PEM) for a server that is reached as any of ``hosts``."""
        if not hosts:
            raise ConfigError("a server's certificate needs at least one host name or address")
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = []
        for host in dict.fromkeys(hosts):
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        certificate = self._issue("hanse coordinator", key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH, days)
        return _private_pem(key), certificate

    @property
    def expires(self) -> datetime.datetime:
        """When the authority ends, and with it all that it signed."""
        return self._certificate.not_valid_after_utc

    def issue_node(self, csr_pem: bytes, node_id: str, days: float | None = None) -> bytes:
        """A certificate (PEM) for ``node_id`` with the key of the request.

        Only the key is taken from the request, and only if the request is signed with it. The
        caller has checked that whoever asks may be this node. Raises ``NotAuthenticated``.
        ``days``: how long it counts; None: a year and up to two months, by the id.
        """
        check_node_id(node_id)
        if len(csr_pem) > _MAX_PEM_BYTES:
            raise NotAuthenticated(f"a certificate request of {len(csr_pem)} bytes; expected under 64 KiB")
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            key = request.public_key()
            signed = request.is_signature_valid
        except (ValueError, TypeError, InvalidSignature):
            raise NotAuthenticated("this is not a certificate request in PEM") from None
        except Exception as error:  # unsupported algorithms of the library have no common base
            what = type(error).__name__
            raise NotAuthenticated(f"the certificate request cannot be used: {what}") from None
        if not signed:
            raise NotAuthenticated("the certificate request is not signed with its own key")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise NotAuthenticated("expected an EC P-256 key in the certificate request")
        uri: list[x509.GeneralName] = [x509.UniformResourceIdentifier(_URI + node_id)]
        if days is None:
            days = NODE_DAYS + int.from_bytes(hashlib.sha256(node_id.encode()).digest()[:4]) % (_SPREAD_DAYS + 1)
        return self._issue(node_id, key, uri, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def _issue(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        days: float,
    ) -> bytes:
        # What a clock says while something is signed may be wrong, and put right afterwards: a certificate counts from
        # the authority's own beginning, so that nobody is locked out then, and no clock is further back than that.
        begin = self._certificate.not_valid_before_utc
        expires = min(max(_now(), begin) + datetime.timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(begin, expires - _BACKDATED))
            .not_valid_after(expires)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return _pem(builder.sign(self._key, hashes.SHA256()))


def _sign_authority(key: ec.EllipticCurvePrivateKey, begin: datetime.datetime | None = None) -> x509.Certificate:
    now, name = _now(), _name("hanse authority")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


# ---------------------------------------------------------------- join tokens


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a node's operator gets to join: where, a one-time secret, and whom to believe.

    Args:
        url: the coordinator's HTTP address, where the certificate is asked for.
        address: where the node calls; its scheme names the transport (:mod:`hanse.addresses`).
        secret: proves that the bearer was invited; good for one node.
        ca_sha256: :meth:`Authority.fingerprint`; anything else that answers is an impostor.
        node_id: the id this token is for; "" lets the node choose.

    >>> token = JoinToken("http://localhost:8000", "grpc://localhost:7443", "s3cret", "ab" * 32, "site-1")
    >>> JoinToken.decode(token.encode()) == token
    True
    """

    url: str
    address: str
    secret: str = field(repr=False)
    ca_sha256: str
    node_id: str = ""

    def encode(self) -> str:
        """One line of text, to be passed on in confidence."""
        raw = json.dumps(asdict(self), separators=(",", ":"), sort_keys=True).encode()
        return _TOKEN + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> JoinToken:
        """Reverse of ``encode``. Raises ``ConfigError`` that says what is wrong, never the secret."""
        text = "".join(text.split())
        if not text.startswith(_TOKEN):
            raise ConfigError(f"this is no join token; ask the coordinator for one ({_TOKEN}...)")
        body = text[len(_TOKEN) :]
        broken = ConfigError("the join token is damaged or cut off; copy the whole line again")
        if len(body) > 8192:
            raise broken
        try:
            padded = body + "=" * (-len(body) % 4)
            found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (ValueError, binascii.Error, RecursionError):
            raise broken from None
        names = {"url", "address", "secret", "ca_sha256", "node_id"}
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise broken
        found = addresses.renamed(found)
        if not names - {"node_id"} <= set(found) <= names:
            raise ConfigError("the join token has other fields than expected; is it of another release?")
        token = cls(**found)
        if not re.fullmatch(r"[0-9a-f]{64}", token.ca_sha256) or not token.secret:
            raise broken
        if not token.url.startswith(("https://", "http://")):
            raise ConfigError(f"the join token's url is {token.url[:80]!r}; expected http(s)://...")
        if token.node_id:
            check_node_id(token.node_id)
        return token


def check_authority(ca_pem: bytes, ca_sha256: str) -> bytes:
    """``ca_pem``, if it is the authority that the join token pins. Raises ``NotAuthenticated``."""
    found = _load_certificate(ca_pem, "the authority's certificate").fingerprint(hashes.SHA256()).hex()
    if found != ca_sha256:
        raise NotAuthenticated(
            f"the coordinator's authority is {found[:16]}..., the join token says {ca_sha256[:16]}...; "
            "somebody may be in between. Ask for a new token over another way"
        )
    return ca_pem


def same_authority(known_pem: bytes, shown_pem: bytes) -> bytes:
    """``shown_pem``, where it is the authority that is known, or a later certificate of its own key and name.

    Raises ``NotAuthenticated``.
    """
    known = _load_certificate(known_pem, "the authority's certificate")
    shown = _load_certificate(shown_pem, "the authority's certificate")
    try:
        shown.verify_directly_issued_by(known)
    except (ValueError, TypeError, InvalidSignature):
        raise NotAuthenticated("the certificate is of another authority than the one that this node joined") from None
    if shown.public_key() != known.public_key() or shown.not_valid_after_utc < known.not_valid_after_utc:
        raise NotAuthenticated("what was shown as the authority is not the one that this node joined")
    return shown_pem


# ---------------------------------------------------------------- a node's identity


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """All a node needs to prove who it is. The key is never shown in a repr."""

    node_id: str
    key_pem: bytes = field(repr=False)
    cert_pem: bytes = field(repr=False)
    ca_pem: bytes = field(repr=False)
    address: str

    def check(self) -> None:
        """Raises ``NotAuthenticated`` where the certificate has expired, is another node's or
        does not belong to the key."""
        found = read_certificate(self.cert_pem)
        if found.node_id != self.node_id:
            raise NotAuthenticated(f"this is node {self.node_id!r}; its certificate is for {found.node_id!r}")
        if found.expires < _now():
            raise NotAuthenticated(
                f"the certificate of node {self.node_id!r} expired on {found.expires:%Y-%m-%d}; "
                "ask the coordinator for a join token and join again"
            )
        certificate = _load_certificate(self.cert_pem, "the node's certificate")
        if certificate.public_key() != _load_key(self.key_pem).public_key():
            raise NotAuthenticated("the node's certificate does not belong to its key; join again")
        authority = _load_certificate(self.ca_pem, "the authority's certificate")
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            raise NotAuthenticated("the node's certificate is of another authority; join again") from None


def create_key(folder: str | os.PathLike[str]) -> bytes:
    """The node's private key (PEM) in ``folder``, made at the first call, readable by its owner only."""
    return _key_file(Path(folder), "node.key")


def csr(key_pem: bytes, node_id: str) -> bytes:
    """A certificate request (PEM) signed with the node's key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(check_node_id(node_id)))
    return builder.sign(_load_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def save_identity(folder: str | os.PathLike[str], identity: NodeIdentity) -> None:
    """Write ``identity`` into ``folder``, if it is sound (``check``); the key readable by its owner
    only. A crash leaves the old or the new identity, or one that ``load_identity`` refuses."""
    identity.check()
    home = Path(folder)
    _private_folder(home)
    write_whole(home / "node.key", identity.key_pem, 0o600)
    write_whole(home / "authority.crt", identity.ca_pem, 0o644)
    write_whole(home / "node.crt", identity.cert_pem, 0o644)
    about = {"node_id": identity.node_id, "address": identity.address}
    write_whole(home / "identity.json", json.dumps(about, indent=2).encode(), 0o644)


def load_identity(folder: str | os.PathLike[str]) -> NodeIdentity:
    """The identity in ``folder``. Raises ``NotFound`` where the node has not joined yet,
    ``ConfigError`` for damaged files; expiry is looked at when it is used (``check``)."""
    home = Path(folder)
    try:
        about = json.loads((home / "identity.json").read_bytes())
        key, certificate, ca = ((home / name).read_bytes() for name in ("node.key", "node.crt", "authority.crt"))
        identity = NodeIdentity(check_node_id(about["node_id"]), key, certificate, ca, addresses.told(about))
    except FileNotFoundError:
        raise NotFound("this node has no identity yet; join a coordinator with a join token") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError("the node's identity.json is damaged; join again") from None
    _load_key(identity.key_pem)
    return identity


# ---------------------------------------------------------------- keys and files


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise ConfigError("a private key cannot be read; restore it from a backup, or join again") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"expected an EC P-256 private key, found {type(key).__name__}")
    return key


def _load_certificate(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise ConfigError(f"{what} cannot be read; expected a certificate in PEM") from None


def _key_file(home: Path, name: str) -> bytes:
    """The key in a file of ``home``; made if it is not there. Two that start at once get the same."""
    _private_folder(home)
    path = home / name
    if not path.exists():
        write_whole(path, _private_pem(ec.generate_private_key(ec.SECP256R1())), 0o600, replace=False)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{name} can be read by others; take their rights away (chmod 600)")
    return path.read_bytes()


def _private_folder(home: Path) -> None:
    if not home.is_dir():
        home.mkdir(parents=True, mode=0o700)
