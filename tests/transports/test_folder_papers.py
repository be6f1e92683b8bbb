"""What two sides show each other before they talk, and who may show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from grpc_federation import authority, identity

from hanse.errors import HanseError, NotAuthenticated, WireError
from hanse.identity import NodeIdentity
from hanse.transports import _folder_papers as papers
from hanse.transports._folder_keys import FreshKey
from hanse.transports._folder_seal import FileKind, HalfThere


@pytest.fixture
def signer(tmp_path: Path):
    return authority(tmp_path / "authority")


@pytest.fixture
def other(tmp_path: Path):
    return authority(tmp_path / "other")


def announced(signer, number: str = "") -> tuple[str, bytes]:
    number = number or papers.new_number()
    return number, papers.announcement(number, FreshKey().text, *signer.issue_server(["localhost"]), signer.pem)


def hello_of(signer, node: str = "a") -> tuple[papers.Greeting, NodeIdentity]:
    known = identity(signer, node)
    return papers.Greeting(known, papers.read_announcement(announced(signer)[1], signer.pem)), known


def test_both_sides_come_to_the_same_keys_and_each_direction_has_its_own(signer) -> None:
    greeting, _ = hello_of(signer)
    welcome, of_coordinator = papers.welcome(
        papers.read_hello(greeting.paper, signer.pem), *signer.issue_server(["localhost"])
    )
    of_node = greeting.understood(welcome)
    sealed = of_node.of_node.close(FileKind.WRITES, 5, b"text")
    assert of_coordinator.of_node.open(FileKind.WRITES, 5, sealed) == b"text"
    for seal, part, number in (
        (of_coordinator.of_coordinator, FileKind.WRITES, 5),
        (of_coordinator.of_node, FileKind.SEEN, 5),
        (of_coordinator.of_node, FileKind.WRITES, 6),
    ):
        with pytest.raises(HanseError):
            seal.open(part, number, sealed)


def test_two_sessions_have_nothing_in_common(signer) -> None:
    keys = []
    for _ in range(2):
        greeting, _ = hello_of(signer)
        hello = papers.read_hello(greeting.paper, signer.pem)
        keys.append(papers.welcome(hello, *signer.issue_server(["localhost"]))[1].of_node)
    with pytest.raises(HanseError):
        keys[1].open(FileKind.WRITES, 0, keys[0].close(FileKind.WRITES, 0, b"text"))


def test_a_hello_says_who_it_is_for_how_long(signer) -> None:
    greeting, known = hello_of(signer, "hospital-1")
    hello = papers.read_hello(greeting.paper, signer.pem)
    assert (hello.node, hello.session, hello.number) == ("hospital-1", greeting.session, greeting.number)
    assert 29 * 86400 < hello.expires_s <= 30 * 86400
    assert known.key_pem not in greeting.paper


def test_a_node_cannot_announce_itself_as_the_coordinator(signer) -> None:
    known = identity(signer, "a")
    paper = papers.announcement(papers.new_number(), FreshKey().text, known.key_pem, known.cert_pem, signer.pem)
    with pytest.raises(NotAuthenticated, match="may not sign it"):
        papers.read_announcement(paper, signer.pem)


def test_a_node_cannot_welcome_another_node(signer) -> None:
    greeting, _ = hello_of(signer)
    liar = identity(signer, "b")
    welcome, _ = papers.welcome(papers.read_hello(greeting.paper, signer.pem), liar.key_pem, liar.cert_pem)
    with pytest.raises(NotAuthenticated, match="may not sign it"):
        greeting.understood(welcome)


def test_the_coordinators_certificate_is_none_of_a_node(signer) -> None:
    key, certificate = signer.issue_server(["localhost"])
    known = NodeIdentity("a", key, certificate, signer.pem, "")
    greeting = papers.Greeting(known, papers.Announcement(papers.new_number()))
    with pytest.raises(NotAuthenticated, match="may not sign it"):
        papers.read_hello(greeting.paper, signer.pem)


def test_another_authority_is_not_believed(signer, other) -> None:
    assert not papers.is_of(announced(other)[1], signer.pem)
    assert papers.is_of(announced(signer)[1], signer.pem)
    with pytest.raises(NotAuthenticated, match="authority"):
        papers.read_announcement(announced(other)[1], signer.pem)
    greeting = papers.Greeting(identity(other, "a"), papers.Announcement(papers.new_number()))
    with pytest.raises(NotAuthenticated, match="authority"):
        papers.read_hello(greeting.paper, signer.pem)


def test_a_welcome_to_another_hello_is_none(signer) -> None:
    first, _ = hello_of(signer)
    second, _ = hello_of(signer)
    welcome, _ = papers.welcome(papers.read_hello(first.paper, signer.pem), *signer.issue_server(["localhost"]))
    with pytest.raises(WireError, match="not one to this hello"):
        second.understood(welcome)


def test_who_is_turned_away_reads_why(signer) -> None:
    greeting, _ = hello_of(signer)
    hello = papers.read_hello(greeting.paper, signer.pem)
    refusal = papers.refusal(hello, "node 'a' is revoked", *signer.issue_server(["localhost"]))
    with pytest.raises(papers.TurnedAway, match="^node 'a' is revoked$"):
        greeting.understood(refusal)


def test_a_certificate_that_ended_signs_nothing(signer) -> None:
    known = identity(signer, "a", days=-1)
    greeting = papers.Greeting(known, papers.Announcement(papers.new_number()))
    with pytest.raises(NotAuthenticated, match="is a clock wrong"):
        papers.read_hello(greeting.paper, signer.pem)


@pytest.mark.parametrize("field", ["node", "session", "number", "key"])
def test_every_word_of_a_hello_is_signed(signer, field: str) -> None:
    paper = json.loads(hello_of(signer)[0].paper)
    said = json.loads(paper["said"])
    said[field] = {"node": "b", "key": "A" * 43 + "="}.get(field, "0" * 32)
    paper["said"] = json.dumps(said)
    with pytest.raises(NotAuthenticated, match="signature"):
        papers.read_hello(json.dumps(paper).encode() + b"\n", signer.pem)


def test_a_hello_is_no_announcement(signer) -> None:
    """The kind of a paper is part of what is signed."""
    number, paper = announced(signer)
    greeting, _ = hello_of(signer)
    hello = papers.read_hello(greeting.paper, signer.pem)
    welcome, _ = papers.welcome(hello, *signer.issue_server(["localhost"]))
    for wrong in (welcome, greeting.paper):
        with pytest.raises(NotAuthenticated):
            papers.read_announcement(wrong, signer.pem)
    with pytest.raises(NotAuthenticated):
        greeting.understood(paper)


@pytest.mark.parametrize(
    "paper",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"said": 1, "certificate": "", "signature": ""}',
        b'{"said": "{}", "certificate": "", "signature": ""}',
        b" " * (papers.MOST_BYTES + 1),
    ],
)
def test_what_is_no_paper_is_an_error_of_hanse(signer, paper: bytes) -> None:
    for read in (papers.read_announcement, papers.read_hello):
        with pytest.raises(HanseError):
            read(paper + b"\n", signer.pem)
    assert not papers.is_of(paper, signer.pem)


def test_half_a_paper_is_none_wherever_it_is_cut(signer) -> None:
    paper = hello_of(signer)[0].paper
    for end in range(0, len(paper), 97):
        with pytest.raises(HalfThere):
            papers.read_hello(paper[:end], signer.pem)


def test_a_key_that_leads_to_no_secret_is_refused(signer) -> None:
    """X25519 with a point of small order would give keys that everybody knows."""
    known = identity(signer, "a")
    greeting = papers.Greeting(known, papers.Announcement(papers.new_number()))
    about = json.loads(json.loads(greeting.paper)["said"]) | {"key": "A" * 43 + "="}
    paper = papers._signed("hello", about, known.key_pem, known.cert_pem)
    with pytest.raises(HanseError):
        papers.welcome(papers.read_hello(paper, signer.pem), *signer.issue_server(["localhost"]))
