"""The authority, join tokens and node identities: what is issued, what is refused, what is on disk."""

from __future__ import annotations

import base64
import datetime
import json
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

import hanse.identity
from hanse.errors import ConfigError, HanseError, NotAuthenticated, NotFound
from hanse.identity import (
    Authority,
    JoinToken,
    NodeIdentity,
    check_authority,
    check_node_id,
    create_key,
    csr,
    load_identity,
    read_certificate,
    save_identity,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority"))


def identity(authority: Authority, folder: Path, node: str = "a", days: int = 30) -> NodeIdentity:
    key = create_key(folder)
    certificate = authority.issue_node(csr(key, node), node, days)
    return NodeIdentity(node, key, certificate, authority.pem, "grpc://localhost:7443")


def test_the_authority_is_made_once_and_kept(tmp_path: Path) -> None:
    first = Authority.open(tmp_path / "new" / "folder")
    assert Authority.open(tmp_path / "new" / "folder").fingerprint() == first.fingerprint()
    assert stat.S_IMODE((tmp_path / "new/folder/authority.key").stat().st_mode) == 0o600
    assert {p.name for p in (tmp_path / "new/folder").iterdir()} == {"authority.key", "authority.crt"}
    certificate = x509.load_pem_x509_certificate(first.pem)
    years = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days / 365
    assert 9.9 < years < 10.1


def test_two_that_open_it_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Authority.open(tmp_path).fingerprint())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_crash_between_key_and_certificate_is_made_good(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    key = (tmp_path / "authority.key").read_bytes()
    (tmp_path / "authority.crt").unlink()
    again = Authority.open(tmp_path)
    assert (tmp_path / "authority.key").read_bytes() == key
    _, signed = again.issue_server(["localhost"])
    x509.load_pem_x509_certificate(signed).verify_directly_issued_by(x509.load_pem_x509_certificate(again.pem))
    assert Authority.open(tmp_path).fingerprint() == again.fingerprint()


def test_damaged_or_exposed_authority_files_are_refused(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    key = tmp_path / "authority.key"
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Authority.open(tmp_path)
    key.chmod(0o600)
    whole = key.read_bytes()
    key.write_bytes(whole[:40])
    with pytest.raises(ConfigError, match="private key"):
        Authority.open(tmp_path)
    key.write_bytes(whole)
    Authority.open(tmp_path / "other")
    (tmp_path / "authority.crt").write_bytes((tmp_path / "other/authority.crt").read_bytes())
    with pytest.raises(ConfigError, match="does not belong"):
        Authority.open(tmp_path)
    (tmp_path / "authority.crt").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="PEM"):
        Authority.open(tmp_path)


def test_a_certificate_says_what_the_authority_says_not_what_the_request_claims(
    authority: Authority,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    evil = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "victim")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("hanse://node/victim")]), False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    pem = authority.issue_node(evil, "me", days=10)
    found = read_certificate(pem)
    assert found.node_id == "me"
    certificate = x509.load_pem_x509_certificate(pem)
    assert b"victim" not in certificate.public_bytes(serialization.Encoding.DER)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    days = (found.expires - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400
    assert 9.9 < days <= 10
    assert found.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()


def test_only_sound_requests_are_signed(authority: Authority, tmp_path: Path) -> None:
    good = csr(create_key(tmp_path), "a")
    der = bytearray(x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1  # the signature does not fit any more
    forged = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(der))
    forged += b"-----END CERTIFICATE REQUEST-----\n"
    for bad in (b"", b"nonsense", good[:100], forged, bytes(100_000)):
        with pytest.raises(NotAuthenticated):
            authority.issue_node(bad, "a")
    with pytest.raises(ConfigError, match="node id"):
        authority.issue_node(good, "../a")
    weak = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    with pytest.raises(NotAuthenticated, match="P-256"):
        authority.issue_node(weak, "a")


def test_no_certificate_outlives_its_authority(authority: Authority, tmp_path: Path) -> None:
    pem = authority.issue_node(csr(create_key(tmp_path), "a"), "a", days=100_000)
    limit = x509.load_pem_x509_certificate(authority.pem).not_valid_after_utc
    assert read_certificate(pem).expires == limit


def test_a_server_needs_a_name(authority: Authority) -> None:
    with pytest.raises(ConfigError, match="host"):
        authority.issue_server([])
    _, pem = authority.issue_server(["localhost", "127.0.0.1", "::1", "example.org"])
    with pytest.raises(NotAuthenticated):
        read_certificate(pem)  # a server is no node


@pytest.mark.parametrize(
    "bad", ["", "-a", "a-", "a b", "a/b", "ä", "a" * 65, "a\n", "coordinator", "COORDINATOR", ".", "a\0"]
)
def test_what_is_no_node_id(bad: str) -> None:
    with pytest.raises(ConfigError):
        check_node_id(bad)


# ------------------------------------------------------------ join tokens

TOKEN = JoinToken("https://example.org:8443", "grpc://example.org:7443", "secret-word", "0f" * 32, "site-1")


def test_a_token_survives_mail_programs() -> None:
    text = TOKEN.encode()
    assert "\n" not in text
    assert JoinToken.decode(f"  {text[:40]}\r\n {text[40:]}\n") == TOKEN
    anyone = JoinToken("http://localhost:1", "grpc://localhost:2", "s", "0f" * 32)
    assert JoinToken.decode(anyone.encode()) == anyone


def test_the_secret_is_not_shown() -> None:
    assert "secret-word" not in repr(TOKEN)


def encoded(value: object) -> str:
    return "hanse-join-v1." + base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


FIELDS = {"url": "https://x", "address": "grpc://x:1", "secret": "secret-word", "ca_sha256": "0f" * 32, "node_id": ""}
BAD_TOKENS = {
    "empty": "",
    "another text": "hello",
    "another version": TOKEN.encode().replace("v1", "v2"),
    "cut off": TOKEN.encode()[:60],
    "not base64": "hanse-join-v1.$$$$",
    "not json": "hanse-join-v1." + base64.urlsafe_b64encode(b"nonsense").decode(),
    "binary": "hanse-join-v1." + base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "a list": encoded([1]),
    "a number": encoded(FIELDS | {"secret": 3}),
    "too few": encoded({"url": "https://x"}),
    "too many": encoded(FIELDS | {"more": "x"}),
    "short hash": encoded(FIELDS | {"ca_sha256": "0f"}),
    "no secret": encoded(FIELDS | {"secret": ""}),
    "other scheme": encoded(FIELDS | {"url": "file:///etc/passwd"}),
    "bad node": encoded(FIELDS | {"node_id": "../.."}),
    "huge": "hanse-join-v1." + "A" * 100_000,
    "deep": "hanse-join-v1." + base64.urlsafe_b64encode(b"[" * 4000).decode(),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_bad_token_is_explained_without_its_secret(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        JoinToken.decode(BAD_TOKENS[name])
    assert "secret-word" not in str(caught.value)


def test_only_the_pinned_authority_is_believed(authority: Authority, tmp_path: Path) -> None:
    assert check_authority(authority.pem, authority.fingerprint()) == authority.pem
    with pytest.raises(NotAuthenticated, match="in between"):
        check_authority(Authority.open(tmp_path).pem, authority.fingerprint())
    with pytest.raises(ConfigError):
        check_authority(b"nonsense", authority.fingerprint())


# ------------------------------------------------------------ a node's identity


def test_an_identity_is_kept_and_its_key_is_private(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="join token"):
        load_identity(tmp_path)
    me = identity(authority, tmp_path)
    assert create_key(tmp_path) == me.key_pem
    save_identity(tmp_path, me)
    assert load_identity(tmp_path) == me
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600
    assert "PRIVATE" not in repr(me)


def test_an_identity_that_does_not_hold_together_is_refused(authority: Authority, tmp_path: Path) -> None:
    me, other = identity(authority, tmp_path / "a"), identity(authority, tmp_path / "b", "b")
    stranger = Authority.open(tmp_path / "stranger")
    wrong = {
        "certificate is for": NodeIdentity("b", me.key_pem, me.cert_pem, me.ca_pem, ""),
        "belong to its key": NodeIdentity("a", other.key_pem, me.cert_pem, me.ca_pem, ""),
        "another authority": NodeIdentity("a", me.key_pem, me.cert_pem, stranger.pem, ""),
    }
    for reason, bad in wrong.items():
        with pytest.raises(NotAuthenticated, match=reason):
            save_identity(tmp_path / "a", bad)
    assert not (tmp_path / "a" / "node.crt").exists()


def test_an_expired_certificate_says_when_and_what_to_do(authority: Authority, tmp_path: Path) -> None:
    me = identity(authority, tmp_path, days=-2)
    day = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)).strftime("%Y-%m-%d")
    with pytest.raises(NotAuthenticated, match=rf"expired on {day}; ask the coordinator for a join token"):
        me.check()


def test_damaged_identity_files_are_named(authority: Authority, tmp_path: Path) -> None:
    save_identity(tmp_path, identity(authority, tmp_path))
    for content in (b"", b"{}", b"[1]", b"\xff", b'{"node_id": "../x", "address": "grpc://a:1"}'):
        (tmp_path / "identity.json").write_bytes(content)
        with pytest.raises(ConfigError):
            load_identity(tmp_path)
    save_identity(tmp_path, identity(authority, tmp_path))
    (tmp_path / "node.key").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="private key"):
        load_identity(tmp_path)
    for pem in (b"", b"nonsense", authority.pem):
        with pytest.raises(HanseError):
            read_certificate(pem)


@pytest.mark.parametrize("days_off", [5, 600, 3000, -20_000])
def test_a_clock_that_was_wrong_while_something_was_signed_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days_off: float
) -> None:
    """A machine comes up with the clock of its board, signs, and hears of the time a minute later."""
    made = Authority.open(tmp_path / "ca")
    right = datetime.datetime.now(datetime.UTC)
    key = create_key(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(hanse.identity, "_now", lambda: right + datetime.timedelta(days=days_off))
        authority = Authority.open(tmp_path / "ca")  # near its own end it signs itself anew
        signed = [
            authority.pem,
            authority.issue_node(csr(key, "a"), "a"),
            authority.issue_server(["localhost"])[1],
        ]
    assert (authority.pem == made.pem) == (days_off < 3650 - 850)
    for pem in signed:
        certificate = x509.load_pem_x509_certificate(pem)
        assert certificate.not_valid_before_utc <= right - datetime.timedelta(days=1)
        assert certificate.not_valid_after_utc > right + datetime.timedelta(days=300)
