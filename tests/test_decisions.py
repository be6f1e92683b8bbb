"""An owner's decision, signed: what proves it, and what does not."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hanse.decisions import SignedDecision, proven, signed
from hanse.errors import NotAuthenticated, WireError
from hanse.identity import Authority, NodeIdentity, create_key, csr
from hanse.signing import Signer

SAID = SignedDecision(
    node="site-a",
    run="run-1",
    sha256="ab" * 32,
    proposer="sci",
    decision="accept",
    actor="ada",
    reason="fine",
    time=datetime.now(UTC).isoformat(),
    until="2099-01-01T00:00:00+00:00",
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority"))


def signer(authority: Authority, folder: Path, node: str = "site-a") -> Signer:
    key = create_key(folder / node)
    certificate = authority.issue_node(csr(key, node), node)
    return Signer(NodeIdentity(node, key, certificate, authority.pem, "grpc://localhost:7443"))


def test_what_was_signed_is_read_again_by_whoever_has_the_authority(authority: Authority, tmp_path: Path) -> None:
    assert proven(signed(SAID, signer(authority, tmp_path)), authority.pem) == SAID


def test_each_word_of_it_is_bound(authority: Authority, tmp_path: Path) -> None:
    proof = signed(SAID, signer(authority, tmp_path))
    for field in dataclasses.fields(SAID):
        value = getattr(SAID, field.name)
        other = "2026-01-01T00:00:00+00:00" if field.name == "time" else f"{value}x"
        changed = dataclasses.replace(SAID, **{field.name: other})
        with pytest.raises(NotAuthenticated):
            proven({**proof, "text": changed.text}, authority.pem)


def test_a_name_is_not_taken_from_another_key_or_authority(authority: Authority, tmp_path: Path) -> None:
    other = signer(authority, tmp_path, "site-b")
    with pytest.raises(NotAuthenticated, match="signed by 'site-b'"):
        proven(signed(SAID, other), authority.pem)
    with pytest.raises(NotAuthenticated, match="does not fit"):  # the right certificate, another's key
        proven({**signed(SAID, other), "certificate": signer(authority, tmp_path).certificate}, authority.pem)
    stranger = Authority.open(tmp_path / "stranger")
    with pytest.raises(NotAuthenticated, match="authority"):
        proven(signed(SAID, signer(stranger, tmp_path / "s")), authority.pem)


def test_a_time_at_which_the_certificate_did_not_count_is_refused(authority: Authority, tmp_path: Path) -> None:
    own = signer(authority, tmp_path)
    for time in ("2001-01-01T00:00:00+00:00", "2200-01-01T00:00:00+00:00", datetime.now().isoformat()):
        with pytest.raises(NotAuthenticated, match="did not count"):
            proven(signed(dataclasses.replace(SAID, time=time), own), authority.pem)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        {"text": 1},
        {"signature": "###"},
        {"certificate": "no"},
        {"text": "{}"},
        {"text": "x" * (1 << 20)},
        {"more": ""},
        {"text": json.dumps({**json.loads(SAID.text), "form": "another"})},
        {"text": json.dumps({**json.loads(SAID.text), "reason": 1})},
    ],
)
def test_what_is_no_proof_is_an_error_in_words(authority: Authority, tmp_path: Path, wrong: Any) -> None:
    proof = signed(SAID, signer(authority, tmp_path))
    with pytest.raises((WireError, NotAuthenticated)):
        proven({**proof, **wrong} if wrong else wrong, authority.pem)


def test_a_signature_has_one_form_in_base64(authority: Authority, tmp_path: Path) -> None:
    """Or a byte of a file of evidence could be another, and nobody would see it."""
    proof = signed(SAID, signer(authority, tmp_path))
    text = str(proof["signature"])
    if text.endswith("="):  # bits beside the last byte, which a decoder passes over
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        place = len(text.rstrip("=")) - 1
        other = alphabet[alphabet.index(text[place]) ^ 1]
        with pytest.raises(NotAuthenticated):
            proven({**proof, "signature": text[:place] + other + text[place + 1 :]}, authority.pem)
    with pytest.raises(NotAuthenticated):
        proven({**proof, "signature": f"{text} "}, authority.pem)
