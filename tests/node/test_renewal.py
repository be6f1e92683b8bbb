"""A node's certificate is renewed before it ends, by the node itself; and so is what a server shows."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from one_node import FakeCoordinator, running

import hanse.identity
from hanse import validity
from hanse.coordinator import registry
from hanse.coordinator.service import Coordinator
from hanse.errors import HanseError, NotAuthenticated, WireError
from hanse.identity import Authority, NodeIdentity, create_key, csr, load_identity, read_certificate, save_identity
from hanse.messages import Json, Message, Record
from hanse.node import renewal
from hanse.node.agent import Agent
from hanse.node.settings import CoordinatorAddress, NodeSettings
from hanse.served_certificate import ServedCertificate, from_files, load_chain
from hanse.store import Store
from hanse.store.nodes import CertificateOnFile
from hanse.transports import Hub, listener
from hanse.transports._grpc_channel import client_context, server_credentials
from tests.waiting import eventually


def joined(home: Path, authority: Authority, days: float, address: str = "grpc://localhost:1") -> NodeIdentity:
    key = create_key(home)
    found = NodeIdentity("alpha", key, authority.issue_node(csr(key, "alpha"), "alpha", days), authority.pem, address)
    save_identity(home, found)
    NodeSettings("alpha", coordinator=CoordinatorAddress(address, "http://localhost")).save(home)
    return found


def answer(authority: Authority, identity: NodeIdentity, node: str = "alpha", days: float = 365) -> dict[str, Json]:
    request = csr(identity.key_pem, node)
    return {
        "certificate": authority.issue_node(request, node, days).decode(),
        "authority": authority.pem.decode(),
    }


def test_it_is_due_two_months_before_the_end(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "ca")
    assert renewal.due(joined(tmp_path / "a", authority, 59))
    assert not renewal.due(joined(tmp_path / "b", authority, 61))


def test_the_key_stays_and_the_end_moves(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "ca")
    old = joined(tmp_path / "a", authority, 20)
    fresh = renewal.renewed(old, answer(authority, old))
    assert (fresh.key_pem, fresh.node_id, fresh.address) == (old.key_pem, old.node_id, old.address)
    assert not renewal.due(fresh)


def test_what_a_coordinator_may_not_answer(tmp_path: Path) -> None:
    authority, other = Authority.open(tmp_path / "ca"), Authority.open(tmp_path / "other")
    old = joined(tmp_path / "a", authority, 20)
    stranger = joined(tmp_path / "b", authority, 20)
    good = answer(authority, old)
    wrong: list[tuple[Mapping[str, Json], type[HanseError], str]] = [
        ({}, WireError, "lacks"),
        ({**good, "certificate": 3}, WireError, "lacks"),
        ({**good, "certificate": "no PEM"}, NotAuthenticated, "certificate"),
        ({**good, "authority": other.pem.decode()}, NotAuthenticated, "another authority"),
        (answer(other, old), NotAuthenticated, "another authority"),
        ({**answer(other, old), "authority": good["authority"]}, NotAuthenticated, "another authority"),
        (answer(authority, old, node="beta"), NotAuthenticated, "'beta'"),
        (answer(authority, stranger), NotAuthenticated, "does not belong to its key"),
        (answer(authority, old, days=20), WireError, "hardly later"),
    ]
    for said, error, words in wrong:
        with pytest.raises(error, match=words):
            renewal.renewed(old, said)


def test_an_authority_signs_itself_anew_and_all_that_it_signed_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hanse.identity, "AUTHORITY_DAYS", 849)
        first = Authority.open(tmp_path / "ca")
    old = joined(tmp_path / "a", first, 20)
    second = Authority.open(tmp_path / "ca")
    assert second.expires - first.expires > datetime.timedelta(days=2800)
    assert Authority.open(tmp_path / "ca").pem == second.pem
    fresh = renewal.renewed(old, answer(second, old))
    assert fresh.ca_pem == second.pem
    old.check()
    with pytest.raises(NotAuthenticated, match="the one that this node joined"):  # an older one is not taken back
        hanse.identity.same_authority(second.pem, first.pem)
    # a node that knows the old certificate believes a server that shows the new, and the other way round
    for known, signing in ((first, second), (second, first)):
        context = server_credentials(*signing.issue_server(["localhost"]), signing.pem)
        assert asyncio.run(shown(context, client_context(known.pem, old.key_pem, old.cert_pem)))


async def shown(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """The certificate (DER) that a port of this context shows."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return found


def test_who_connects_later_is_shown_the_next_certificate(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "ca")
    me = joined(tmp_path / "a", authority, 30)
    days = iter([20.0, 825.0])
    context = server_credentials(b"", b"", authority.pem)

    def load() -> bytes:
        key, certificate = authority.issue_server(["localhost"], next(days))
        load_chain(context, key, certificate)
        return certificate

    served = ServedCertificate("the certificate", load)
    client = client_context(authority.pem, me.key_pem, me.cert_pem)
    before = asyncio.run(shown(context, client))
    served.look()
    after = asyncio.run(shown(context, client))
    assert before != after
    served.look()  # nothing is due: no third one is made
    assert asyncio.run(shown(context, client)) == after
    assert served.ends - validity.now() > datetime.timedelta(days=800)


def test_an_operators_files_are_read_again_and_bad_ones_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority.open(tmp_path / "ca")
    me = joined(tmp_path / "a", authority, 30)
    certificate, key = tmp_path / "https.crt", tmp_path / "https.key"

    def put(days: float) -> None:
        key_pem, pem = authority.issue_server(["localhost"], days)
        certificate.write_bytes(pem)
        key.write_bytes(key_pem)

    put(90)
    context = server_credentials(b"", b"", authority.pem)
    served = ServedCertificate("the certificate of the page", from_files(context, str(certificate), str(key)), True)
    client = client_context(authority.pem, me.key_pem, me.cert_pem)
    first = asyncio.run(shown(context, client))
    put(5.5)
    served.look()
    second = asyncio.run(shown(context, client))
    assert first != second
    assert "urgent: the certificate of the page ends on" in caplog.text
    _, alone = authority.issue_server(["localhost"])
    for left in (b"half a file", alone):  # the certificate was renewed, and its key not yet
        caplog.clear()
        certificate.write_bytes(left)
        served._warned = float("-inf")
        served.look()
        assert "could not be loaded anew" in caplog.text
        assert asyncio.run(shown(context, client)) == second
    put(90)
    served.look()
    assert asyncio.run(shown(context, client)) not in (first, second)


def test_a_node_renews_its_certificate_over_the_connection_that_the_old_one_opened(tmp_path: Path) -> None:
    async def main() -> None:
        authority = Authority.open(tmp_path / "ca")
        with Store(None, tmp_path / "coordinator") as store:
            it = Coordinator(store, authority=authority)
            hub = Hub(
                it.handle,
                it.accept,
                it.refused,
                lambda hosts: (*authority.issue_server((*hosts, "127.0.0.1")), authority.pem),
                tmp_path,
            )
            transport = listener("grpc://127.0.0.1:0", hub)
            it.attach(transport)
            await it.start()
            address = await transport.start()
            old = joined(tmp_path / "alpha", authority, 20, address)
            read = read_certificate(old.cert_pem)
            store.nodes.register("alpha", CertificateOnFile(read.serial, read.fingerprint))
            agent = Agent(tmp_path / "alpha")
            working = asyncio.create_task(agent.run())
            try:
                await eventually(lambda: load_identity(tmp_path / "alpha").cert_pem != old.cert_pem)
                assert store.nodes.get("alpha").fingerprint == read.fingerprint  # until the new one is shown
                # of the old one's end there are none any more
                await eventually(lambda: not registry.warnings(store.nodes.get("alpha")))
                transport.disconnect("alpha", "to see the node again")
                new = read_certificate(load_identity(tmp_path / "alpha").cert_pem)
                await eventually(lambda: store.nodes.get("alpha").fingerprint == new.fingerprint)
                assert new.expires - read.expires > datetime.timedelta(days=300)
                assert agent.warnings() == []
                with pytest.raises(NotAuthenticated, match="does not count"):
                    await it.accept("alpha", read.fingerprint)
            finally:
                agent.stop()
                await working
                await it.stop()
                await transport.stop()

    asyncio.run(main())


def test_an_older_coordinator_that_signs_none_is_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = joined(tmp_path, Authority.open(tmp_path / "ca"), 20)

    async def main() -> None:
        fake = FakeCoordinator()
        fake.refuse = {"certificate": WireError("a coordinator does not take messages of kind 'certificate'")}
        async with running(tmp_path, coordinator=fake) as node:
            await fake.until("certificate")
            await asyncio.sleep(0)
            assert any("this node's certificate ends on" in said for said in node.agent.warnings())

    asyncio.run(main())
    assert "could not be renewed" in caplog.text
    assert load_identity(tmp_path) == old


def test_who_only_says_that_it_is_a_node_gets_no_certificate_for_it(tmp_path: Path) -> None:
    """In plaintext: what a connection says of itself must not become a certificate, which counts under TLS."""

    async def main() -> None:
        authority = Authority.open(tmp_path / "ca")
        me = joined(tmp_path / "a", authority, 20)
        read = read_certificate(me.cert_pem)
        with Store(None, tmp_path / "coordinator") as store:
            store.nodes.register("alpha", CertificateOnFile(read.serial, read.fingerprint))
            it = Coordinator(store, authority=authority)
            wanted = Message(
                "certificate", "1", "alpha", Record({"csr": csr(create_key(tmp_path / "b"), "alpha").decode()})
            )
            await it.accept("alpha", "")
            refused = await it.handle("alpha", wanted, lambda: None)
            assert (refused.kind, store.nodes.get("alpha").next_fingerprint) == ("error", None)
            await it.accept("alpha", read.fingerprint)
            assert (await it.handle("alpha", wanted, lambda: None)).kind == "certificate"

    asyncio.run(main())
