"""gRPC with real TLS: who is let in, what is refused, and what survives a broken connection."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import hpack
import numpy as np
import pytest
from calling import caller
from grpc import aio
from grpc_federation import Federation, authority, credentials_of, echo, grpc_credentials, identity, new_key

from hanse import validity
from hanse.errors import (
    ConfigError,
    Conflict,
    HanseError,
    NodeFailed,
    NodeLost,
    NotAllowed,
    NotAuthenticated,
    StorageFailed,
    TooLarge,
)
from hanse.identity import Authority, NodeIdentity
from hanse.messages import Assembler, Message, Record, Signal, frames, framing, signal
from hanse.transport import Progress
from hanse.transports import REQUEST_HEADER, _http2
from hanse.transports._conduit import WHOLE_REPLY
from hanse.transports._grpc_channel import (
    PATH,
    NodeCredentials,
    channel_credentials,
    client_context,
    server_credentials,
)
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports._grpc_node import GrpcNode
from hanse.transports._outbox import pack, unpack
from tests.waiting import PATIENCE, eventually


def run(test: Coroutine[Any, Any, None], seconds: float = PATIENCE) -> None:
    async def body() -> None:
        async with asyncio.timeout(seconds):
            await test

    asyncio.run(body())


def big(megabytes: float = 10) -> Record:
    return Record({}, {"w": np.random.default_rng(3).random(int(megabytes * 131072))})


UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Rogue:
    """A node with a valid certificate that sends whatever it likes."""

    def __init__(self, call: Any) -> None:
        self.call, self.assembler, self.signals = call, Assembler(), []

    async def message(self) -> Message:
        while True:
            data = await self.call.read()
            assert data is not aio.EOF, "the coordinator hung up"
            found = None
            for frame in unpack(data):
                said = self.assembler.feed(frame)
                if isinstance(said, Signal):
                    self.signals.append(said)
                elif said is not None:
                    found = said
            if found is not None:
                return found

    async def reply(self, id: str, sender: str, body: Record | None = None, stream: int = 1) -> None:
        for frame in frames(Message("reply", id, sender, body or Record()), stream):
            try:
                await self.call.write(frame)
            except (asyncio.InvalidStateError, aio.AioRpcError):
                break  # the coordinator has read enough and hung up: `gone` says why

    async def gone(self) -> str:
        """Waits for the coordinator to hang up; why it did."""
        with contextlib.suppress(aio.AioRpcError):
            while await self.call.read() is not aio.EOF:
                pass
        return await self.call.details() or ""


@asynccontextmanager
async def rogue(federation: Federation, name: str = "rogue") -> AsyncIterator[Rogue]:
    credentials = grpc_credentials(identity(federation.authority, name))
    async with aio.secure_channel(federation.address, credentials, UNLIMITED) as channel:
        call = channel.stream_stream(PATH)()
        await call.initial_metadata()
        yield Rogue(call)
        call.cancel()


# ------------------------------------------------------------ who is let in


def outcomes() -> tuple[list[tuple[str, str]], Callable[[str, str], None]]:
    said: list[tuple[str, str]] = []
    return said, lambda what, detail: said.append((what, detail))


def test_another_authority_is_refused_by_both_sides(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path / "a") as federation:
            stranger = Authority.open(tmp_path / "b")
            said, report = outcomes()
            # the node believes its own authority only
            await federation.node(
                "x", credentials=lambda: channel_credentials(identity(stranger, "x")), wait=False, report=report
            )
            # the coordinator believes its own authority only
            theirs = identity(stranger, "y")

            def mixed() -> ssl.SSLContext:
                return client_context(federation.authority.pem, theirs.key_pem, theirs.cert_pem)

            said2, report2 = outcomes()
            await federation.node("y", credentials=mixed, wait=False, report=report2)
            # no certificate at all
            bare = client_context(federation.authority.pem)
            said3, report3 = outcomes()
            await federation.node("z", credentials=lambda: bare, wait=False, report=report3)
            await eventually(lambda: len(said) > 1 and len(said2) > 1 and len(said3) > 1)
            assert federation.coordinator.online() == frozenset()
            assert {what for what, _ in said + said2 + said3} == {"disconnected"}

    run(test())


def test_a_stolen_id_without_its_key_gets_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            true = identity(federation.authority, "victim")
            # the certificate is public, the key is not
            stolen = grpc.ssl_channel_credentials(true.ca_pem, new_key(), true.cert_pem)
            async with aio.secure_channel(federation.address, stolen) as channel:
                with pytest.raises(aio.AioRpcError):
                    await channel.stream_stream(PATH)().read()
            assert federation.coordinator.online() == frozenset()

    run(test())


def test_a_node_is_who_its_certificate_says_whatever_it_claims(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            mallory = identity(federation.authority, "mallory")
            await federation.node("victim", credentials=lambda: channel_credentials(mallory))
            assert federation.coordinator.online() == {"mallory"}

    run(test())


def test_the_servers_certificate_is_no_nodes(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            key, certificate = federation.authority.issue_server(["localhost"])
            wrong = client_context(federation.authority.pem, key, certificate)
            said, report = outcomes()
            await federation.node("x", credentials=lambda: wrong, wait=False, report=report)
            await eventually(lambda: bool(said))
            assert federation.coordinator.online() == frozenset()

    run(test())


def test_a_nodes_certificate_cannot_play_the_coordinator(tmp_path: Path) -> None:
    async def test() -> None:
        authority = Authority.open(tmp_path)
        evil = identity(authority, "localhost-1")
        fake = GrpcCoordinator(echo)
        server = server_credentials(evil.key_pem, evil.cert_pem, authority.pem)
        address = await fake.start("localhost:0", server)
        said, report = outcomes()
        known = identity(authority, "a")
        node = GrpcNode(caller("a", echo, report=report), address, credentials=lambda: channel_credentials(known))
        node.start()
        await eventually(lambda: len(said) > 1)
        assert fake.online() == frozenset()
        assert "connected" not in {what for what, _ in said}
        await node.close()
        await fake.stop()

    run(test())


def test_an_expired_certificate_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            old = identity(federation.authority, "old", days=-1)
            said, report = outcomes()
            await federation.node("old", credentials=lambda: channel_credentials(old), wait=False, report=report)
            await eventually(lambda: bool(said))
            assert said[0][0] == "not possible"
            assert "expired on" in said[0][1]
            # and the coordinator does not rely on the node to look
            raw = client_context(old.ca_pem, old.key_pem, old.cert_pem)
            said2, report2 = outcomes()
            await federation.node("old", credentials=lambda: raw, wait=False, report=report2)
            await eventually(lambda: bool(said2))
            assert federation.coordinator.online() == frozenset()

    run(test())


def test_a_stream_ends_with_its_certificate(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            brief = identity(federation.authority, "a", days=2 / 86400)
            said, report = outcomes()
            await federation.node("a", credentials=lambda: channel_credentials(brief), report=report)
            await eventually(lambda: "not possible" in {what for what, _ in said})
            assert said[1] == ("disconnected", "the node has to show its certificate again")
            assert "expired" in said[-1][1]
            assert federation.coordinator.online() == frozenset()

    run(test())


def test_a_check_that_fails_lets_nobody_in_and_tells_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def accept(node: str, fingerprint: str) -> None:
        raise OSError("/secret/database is locked")

    async def test() -> None:
        async with Federation(tmp_path, accept=accept) as federation:
            said, report = outcomes()
            await federation.node("a", report=report, wait=False)
            await eventually(lambda: len(said) > 1)
            assert federation.coordinator.online() == frozenset()
            assert "secret" not in str(said)

    run(test())
    assert "secret" in caplog.text


def test_a_node_that_cannot_be_looked_up_now_comes_again_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not turned away, and nobody did anything wrong."""
    away = [3]

    def accept(node: str, fingerprint: str) -> None:
        if away[0]:
            away[0] -= 1
            raise StorageFailed("the coordinator's storage fails")

    async def test() -> None:
        async with Federation(tmp_path, accept=accept) as federation:
            said, report = outcomes()
            await federation.node("a", report=report, backoff=(0.01, 0.02))
            assert said[:3] == [("disconnected", "the coordinator's storage fails")] * 3
            assert federation.recorded == []

    run(test())
    assert "Traceback" not in caplog.text


def test_a_node_whose_handshake_outlasts_the_coordinator_is_not_asked_who_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What would be asked is a database that is closed by then, in a thread that there is not any more."""
    asked: list[str] = []

    async def accept(node: str, fingerprint: str) -> None:
        asked.append(node)

    async def test() -> None:
        async with Federation(tmp_path, accept=accept) as federation:
            host, _, port = federation.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            await asyncio.sleep(0.05)  # it is taken, and its handshake has not begun
            await federation.coordinator.stop()
            await writer.start_tls(channel_credentials(identity(federation.authority, "late")), server_hostname=host)
            fields = [(":method", "POST"), (":path", PATH), ("content-type", "application/grpc")]
            writer.write(_http2.PREFACE + _http2.frame(4, 0, 0) + _http2.frame(1, 4, 1, hpack.Encoder().encode(fields)))
            said = await asyncio.wait_for(reader.read(-1), PATIENCE)
            assert b"the coordinator stops" in said
            writer.close()

    run(test())
    assert asked == []
    assert not caplog.records


def test_accept_turns_revoked_certificates_away_and_says_why(tmp_path: Path) -> None:
    async def test() -> None:
        revoked: set[str] = set()
        seen: list[tuple[str, str]] = []

        async def accept(node: str, fingerprint: str) -> None:
            seen.append((node, fingerprint))
            if fingerprint in revoked:
                raise NotAllowed("this certificate is revoked")

        async with Federation(tmp_path, accept=accept) as federation:
            said, report = outcomes()
            await federation.node("a", report=report, backoff=(0.01, 0.05))
            revoked.add(seen[0][1])
            pending = asyncio.create_task(federation.coordinator.request("b", Message("task", "1")))
            federation.coordinator.disconnect("a", "revoked")
            await eventually(lambda: ("turned away", "this certificate is revoked") in said)
            assert federation.coordinator.online() == frozenset()
            assert ("a", "not accepted", "this certificate is revoked") in federation.recorded
            assert not pending.done()
            pending.cancel()

    run(test())


def test_disconnecting_a_node_ends_what_it_was_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            task = asyncio.create_task(federation.coordinator.request("absent", Message("task", "1")))
            await asyncio.sleep(0.01)
            federation.coordinator.disconnect("absent", "it was revoked")
            with pytest.raises(NodeLost, match="it was revoked"):
                await task

    run(test())


def test_plaintext_only_on_loopback_and_only_when_asked_for() -> None:
    async def test() -> None:
        with pytest.raises(ConfigError, match="no credentials"):
            await GrpcCoordinator(echo).start("localhost:0")
        for address in ("0.0.0.0:0", "[::]:0", "example.org:7443", "10.0.0.1:7443"):
            with pytest.raises(ConfigError, match="loopback"):
                await GrpcCoordinator(echo).start(address, insecure=True)
            with pytest.raises(ConfigError, match="loopback"):
                GrpcNode(caller("a", echo), address, insecure=True)
        with pytest.raises(ConfigError, match="no credentials"):
            GrpcNode(caller("a", echo), "localhost:7443")
        with pytest.raises(ConfigError, match="host:port"):
            GrpcNode(caller("a", echo), "localhost", insecure=True)
        coordinator = GrpcCoordinator(echo)
        address = await coordinator.start("127.0.0.1:0", insecure=True)
        node = GrpcNode(caller("a", echo), address, insecure=True)
        node.start()
        await node.connected()
        assert (await coordinator.request("a", Message("task", "1"))).sender == "a"
        await node.close()
        await coordinator.stop()

    run(test())


def test_a_taken_port_is_an_error_not_a_second_coordinator(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            with pytest.raises(ConfigError, match="another coordinator"):
                await GrpcCoordinator(echo).start(federation.address, credentials_of(federation.authority))

    run(test())


# ------------------------------------------------------------ replies that are refused


def test_an_invented_id_is_refused_and_recorded(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, rogue(federation) as node:
            task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "true")))
            await node.message()
            await node.reply("invented", "rogue", stream=1)
            await node.reply("invented", "rogue", big(5), stream=3)
            await node.reply("true", "rogue", Record({"ok": 1}), stream=5)
            assert (await task).body.data == {"ok": 1}
            assert federation.kinds() == ["wrong id", "wrong id"]

    run(test())


def test_a_second_reply_is_refused_and_recorded(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, rogue(federation) as node:
            task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "1")))
            await node.message()
            await node.reply("1", "rogue", Record({"n": 1}), stream=1)
            await node.reply("1", "rogue", Record({"n": 2}), stream=3)
            assert (await task).body.data == {"n": 1}
            await eventually(lambda: federation.kinds() == ["duplicate"])
            # two at once, interleaved: the first that is whole counts
            task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "2")))
            await node.message()
            two = [list(frames(Message("reply", "2", "rogue", big(5)), s)) for s in (5, 7)]
            for a, b in zip(*two, strict=True):
                await node.call.write(a)
                await node.call.write(b)
            assert (await task).body.nbytes == big(5).nbytes
            again = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "3")))
            await node.message()
            await node.reply("3", "rogue", stream=9)
            await again

    run(test())


def test_a_late_reply_is_refused_and_recorded(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, rogue(federation) as node:
            task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "1")))
            await node.message()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await node.reply("1", "rogue", stream=1)
            await node.reply("1", "rogue", big(5), stream=3)
            await eventually(lambda: federation.kinds() == ["late", "late"])
            again = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "2")))
            await node.message()
            assert node.signals == [
                Signal("takes", "zstd"),
                Signal("takes", "whole", WHOLE_REPLY),
                Signal("cancel", "1"),
            ]
            await node.reply("2", "rogue", stream=5)
            await again

    run(test())


def test_cancelling_in_the_middle_of_a_large_reply_drops_its_rest(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, rogue(federation) as node:
            moved = asyncio.Event()
            task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "1"), moved.set))
            await node.message()
            moved.clear()
            parts = list(frames(Message("reply", "1", "rogue", big(10)), 1))
            for part in parts[:3]:
                await node.call.write(part)
            await moved.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for part in parts[3:]:
                await node.call.write(part)
            again = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "2")))
            await node.message()
            await node.reply("2", "rogue", stream=3)
            assert (await again).id == "2"
            assert "malformed" not in federation.kinds()

    run(test())


def test_nobody_answers_in_anothers_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            began = asyncio.Event()

            async def wait(peer: str, request: Message, alive: Progress) -> Message:
                began.set()
                await asyncio.sleep(1000)
                raise AssertionError

            await federation.node("victim", wait)
            task = asyncio.create_task(federation.coordinator.request("victim", Message("task", "1")))
            await began.wait()
            async with rogue(federation) as node:  # knows the id, and has a certificate of its own
                await node.reply("1", "rogue", stream=1)
                await node.reply("1", "victim", stream=3)
                await eventually(lambda: len(federation.recorded) == 2)
                assert "wrong sender" in await node.gone()
            assert [(who, what) for who, what, _ in federation.recorded] == [
                ("rogue", "wrong id"),
                ("rogue", "wrong sender"),
            ]
            assert not task.done()
            task.cancel()

    run(test())


def test_a_flipped_byte_is_refused_and_sent_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            body = big(5)
            task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "1")))
            async with rogue(federation) as node:
                await node.message()
                first, second, *_ = frames(Message("reply", "1", "rogue", body), 1)
                broken = bytearray(second)
                broken[len(broken) // 2] ^= 1
                await node.call.write(first)
                await node.call.write(bytes(broken))
                assert "tampered" in await node.gone()
            assert federation.kinds() == ["tampered"]
            async with rogue(federation) as node:
                assert (await node.message()).id == "1"
                await node.reply("1", "rogue", body)
                np.testing.assert_array_equal((await task).body.arrays["w"], body.arrays["w"])

    run(test())


FEW = Record({}, {"w": np.ones(3)})
GARBAGE = {
    "empty": b"",
    "unknown type": b"\xff" * 100,
    "zeros": bytes(100),
    "cut off pack": b"\x00\x10\x00\x00\x00abc",
    "empty frame in a pack": b"\x00\x00\x00\x00\x00",
    "begin without end": b"\x01\x02",
    "begin with garbage": b"\x01" + bytes(20) + b"{nonsense",
    "deep json": b"\x03" + b"[" * 900,
    "chunk of nothing": b"\x02" + bytes(20) + b"abc",
    "signal that is no pair": b"\x03[1,2]",
    "unknown signal": signal("explode", "1"),
    "long signal": signal("ack", "x" * 5000),
    "cut off chunk": b"\x02\x00",
    "binary signal": b"\x03\xff\xfe",
    "reply on the stream of a request": next(iter(frames(Message("reply", "1", "rogue"), 2))),
    "request on the stream of a reply": next(iter(frames(Message("task", "1", "rogue"), 1))),
    "reply in one frame on the stream of a request": next(iter(frames(Message("reply", "1", "rogue", FEW), 2))),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_ends_the_connection_and_nothing_else(name: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            await federation.node("good")
            async with rogue(federation) as node:
                task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "1")))
                await node.message()
                await node.call.write(GARBAGE[name])
                assert "malformed" in await node.gone()
            assert federation.kinds() == ["malformed"]
            assert not task.done()  # it waits for the next connection
            task.cancel()
            assert (await federation.coordinator.request("good", Message("task", "2"))).id == "2"

    run(test())


def test_a_node_that_only_sends_garbage_is_given_up_after_three_connections(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path, limit=1 << 20) as federation:
            task = asyncio.create_task(federation.coordinator.request("rogue", Message("task", "1")))
            for _ in range(3):
                async with rogue(federation) as node:
                    await node.message()
                    await node.reply("1", "rogue", big(2))
                    await node.gone()
            with pytest.raises(NodeFailed, match="too large"):
                await task
            assert federation.kinds() == ["too large"] * 3

    run(test())


def test_a_frame_over_the_limit_ends_the_connection(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            await federation.node("good")
            async with rogue(federation) as node:
                with contextlib.suppress(aio.AioRpcError):  # it is told while it still sends
                    await node.call.write(bytes(30 << 20))
                await node.gone()
            assert (await federation.coordinator.request("good", Message("task", "2"))).id == "2"

    run(test())


def test_a_large_request_from_a_node_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path, request_limit=1 << 20) as federation, rogue(federation) as node:
            await node.call.write(next(iter(frames(Message("hello", "1", "rogue", big(2)), 2))))
            assert "too large" in await node.gone()

    run(test())


@pytest.mark.parametrize(("size", "beside"), [(1 << 10, False), (1 << 20, True)])
def test_a_long_header_is_read_beside_the_event_loop(
    size: int, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[int] = []
    honest = framing.read_header

    def watched(text: Any) -> Any:
        if len(text) > size:
            readers.append(threading.get_ident())
        return honest(text)

    monkeypatch.setattr(framing, "read_header", watched)

    async def test() -> None:
        async with Federation(tmp_path) as federation:
            node = await federation.node("good")
            data = {"columns": {"x" * size: "numeric"}}
            answers = await asyncio.gather(  # a long one among short ones, both ways
                *(node.request(Message("hello", f"h{i}", body=Record(data if i == 1 else {}))) for i in range(3)),
                federation.coordinator.request("good", Message("task", "t", body=Record(data))),
            )
            assert [a.body.data for a in answers] == [{}, data, {}, data]
            assert not federation.recorded

    run(test())
    assert len(readers) == 4
    assert all((ident != threading.get_ident()) == beside for ident in readers)


def test_a_long_header_that_is_wrong_is_refused_like_a_short_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            await federation.node("good")
            for field in (b'"hanse"', b'"id"'):
                frame = next(iter(frames(Message("hello", "1", "rogue", Record({"x": "y" * (1 << 20)})), 2)))
                async with rogue(federation) as node:
                    await node.call.write(pack([frame.replace(field, b"\xff" * len(field))]))
                    assert "malformed" in await node.gone()
            assert federation.kinds() == ["malformed"] * 2
            assert (await federation.coordinator.request("good", Message("task", "2"))).id == "2"

    run(test())


def test_a_request_with_a_longer_header_than_is_read_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, rogue(federation) as node:
            frame = next(iter(frames(Message("hello", "1", "rogue", Record({"x": "y" * REQUEST_HEADER})), 2)))
            monkeypatch.setattr(framing, "read_header", lambda text: pytest.fail("it was read"))
            await node.call.write(pack([frame]))
            assert "too large" in await node.gone()

    run(test())


def test_a_node_makes_its_credentials_once_for_each_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries again and again while its coordinator is away, and to make them takes longer than a handshake."""
    shown = [identity(authority(tmp_path), "good", days=0.5)]
    credentials = NodeCredentials(lambda: shown[-1])
    first = credentials()
    assert credentials() is first
    shown.append(identity(authority(tmp_path), "good", days=0.6))  # renewed
    second = credentials()
    assert second is not first
    assert credentials() is second
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    monkeypatch.setattr(validity, "now", lambda: later)
    monkeypatch.setattr("hanse.identity._now", lambda: later)
    with pytest.raises(NotAuthenticated, match="expired on"):  # as at the first call
        credentials()


def test_too_many_half_sent_messages_end_the_connection(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, rogue(federation) as node:
            for stream in range(2, 132, 2):  # the last of these 65 is one too many
                begin = next(iter(frames(Message("hello", f"{stream}", "rogue", big(0.1)), stream)))
                await node.call.write(begin)
            assert "malformed" in await node.gone()

    run(test())


def test_another_method_is_not_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            credentials = grpc_credentials(identity(federation.authority, "x"))
            async with aio.secure_channel(federation.address, credentials) as channel:
                with pytest.raises(aio.AioRpcError) as caught:
                    await channel.unary_unary("/hanse.v1.Link/Admin")(b"")
                assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    run(test())


# ------------------------------------------------------------ what both sides may ask


def test_nodes_ask_the_coordinator_in_their_own_name(tmp_path: Path) -> None:
    async def hello(peer: str, request: Message, alive: Progress) -> Message:
        if request.kind == "hello":
            return Message("reply", request.id, body=Record({"you are": peer}))
        raise NotAllowed(f"{peer} may not do {request.kind}")

    async def test() -> None:
        async with Federation(tmp_path, hello) as federation:
            a, b = await federation.node("a"), await federation.node("b")
            replies = await asyncio.gather(*(n.request(Message("hello", "same id")) for n in (a, b)))
            assert [r.body.data["you are"] for r in replies] == ["a", "b"]
            with pytest.raises(NotAllowed, match="a may not do format"):
                await a.request(Message("format", "2"))

    run(test())


def test_a_crash_of_a_handler_says_no_more_than_its_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def crash(peer: str, request: Message, alive: Progress) -> Message:
        raise FileNotFoundError(2, "No such file", "/secret/patients.csv")

    async def test() -> None:
        async with Federation(tmp_path, crash) as federation:
            node = await federation.node("a", crash)
            for ask in (federation.coordinator.request("a", Message("task", "1")), node.request(Message("hello", "2"))):
                with pytest.raises(HanseError) as caught:
                    await ask
                assert caught.value.code == "error"
                assert "FileNotFoundError" in caught.value.message
                assert "secret" not in caught.value.message

    run(test())
    assert "patients.csv" in caplog.text  # the node's own log has it


def test_a_reply_that_cannot_travel_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def bad(peer: str, request: Message, alive: Progress) -> Message:
        bodies = {
            "dtype": Record({}, {"c": np.zeros(2, complex)}),
            "nan": Record({"x": float("nan")}),
            "size": big(2),
            "none": None,
        }
        return Message("reply", request.id, body=bodies[request.kind])  # type: ignore[arg-type]

    async def test() -> None:
        async with Federation(tmp_path) as federation:
            await federation.node("a", bad, limit=1 << 20)
            reasons = {"dtype": "complex", "nan": "JSON", "size": "limit", "none": "while answering"}
            for kind, expected in reasons.items():
                with pytest.raises(HanseError, match=expected):
                    await federation.coordinator.request("a", Message(kind, kind))
            with pytest.raises(TooLarge):
                await Federation(tmp_path, limit=100).coordinator.request("a", Message("t", "1", body=big(1)))
            with pytest.raises(HanseError, match="complex"):
                body = Record({}, {"c": np.zeros(2, complex)})
                await federation.coordinator.request("a", Message("dtype", "9", body=body))
            assert federation.recorded == []

    run(test())


def test_an_id_can_be_asked_once_at_a_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            task = asyncio.create_task(federation.coordinator.request("later", Message("task", "1")))
            await asyncio.sleep(0)
            with pytest.raises(Conflict, match="already"):
                await federation.coordinator.request("later", Message("task", "1"))
            await federation.node("later")
            await task
            assert (await federation.coordinator.request("later", Message("task", "1"))).id == "1"

    run(test())


def test_a_small_message_overtakes_a_large_one(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            await federation.node("a")
            large = asyncio.create_task(federation.coordinator.request("a", Message("task", "large", body=big(60))))
            await asyncio.sleep(0.01)
            await federation.coordinator.request("a", Message("task", "small"))
            assert not large.done()
            await large

    run(test())


def test_signs_of_life_while_a_handler_works(tmp_path: Path) -> None:
    async def test() -> None:
        heard = 0
        enough = asyncio.Event()

        def progress() -> None:
            nonlocal heard
            heard += 1
            if heard >= 5:
                enough.set()

        async def work(peer: str, request: Message, alive: Progress) -> Message:
            await enough.wait()  # says nothing itself
            return Message("reply", request.id)

        async with Federation(tmp_path) as federation:
            await federation.node("a", work, alive_every=0.02)
            await federation.coordinator.request("a", Message("task", "1"), progress)

    run(test())


def test_a_progress_callback_that_raises_hurts_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def bad() -> None:
        raise RuntimeError("mine")

    async def test() -> None:
        async with Federation(tmp_path) as federation:
            await federation.node("a")
            assert (await federation.coordinator.request("a", Message("task", "1", body=big(5)), bad)).id == "1"

    run(test())


# ------------------------------------------------------------ broken connections


class Proxy:
    """A TCP proxy that can cut connections, or swallow everything without a word."""

    def __init__(self, target: str) -> None:
        self.host, self.port = target.rsplit(":", 1)
        self.cut_after: int | None = None
        self.swallow = False
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self.server = await asyncio.start_server(self._accept, "localhost", 0)
        return f"localhost:{self.server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(self.host, int(self.port))
        self.writers += (writer, onward_writer)
        for pair in ((reader, onward_writer), (onward_reader, writer)):
            task = asyncio.create_task(self._pump(*pair))
            self.tasks.add(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.swallow:
                continue
            if self.cut_after is not None:
                self.cut_after -= len(data)
                if self.cut_after < 0:
                    self.cut_after = None
                    self.cut()
                    return
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def stop(self) -> None:
        self.cut()
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def proxied(federation: Federation) -> AsyncIterator[Proxy]:
    proxy = Proxy(federation.address)
    federation.address = await proxy.start()
    try:
        yield proxy
    finally:
        for node in federation.nodes:
            await node.close()
        await proxy.stop()


def test_a_message_cut_in_the_middle_is_sent_again(tmp_path: Path) -> None:
    async def test() -> None:
        handled: list[str] = []

        async def count(peer: str, request: Message, alive: Progress) -> Message:
            handled.append(request.id)
            return Message("reply", request.id, body=request.body)

        async with Federation(tmp_path) as federation, proxied(federation) as proxy:
            await federation.node("a", count)
            body = big(20)
            for id, cut in (("on the way there", 5 << 20), ("on the way back", 30 << 20)):
                proxy.cut_after = cut
                reply = await federation.coordinator.request("a", Message("task", id, body=body))
                np.testing.assert_array_equal(reply.body.arrays["w"], body.arrays["w"])
                assert proxy.cut_after is None
            assert handled == ["on the way there", "on the way back"]  # each computed once
            assert federation.recorded == []

    run(test())


def test_work_goes_on_while_the_connection_is_down(tmp_path: Path) -> None:
    async def test() -> None:
        began, release = asyncio.Event(), asyncio.Event()
        handled: list[str] = []

        async def work(peer: str, request: Message, alive: Progress) -> Message:
            handled.append(request.id)
            began.set()
            await release.wait()
            return Message("reply", request.id)

        async with Federation(tmp_path) as federation, proxied(federation) as proxy:
            await federation.node("a", work)
            task = asyncio.create_task(federation.coordinator.request("a", Message("task", "1")))
            await began.wait()
            proxy.cut()
            await federation.coordinator.changed()
            assert federation.coordinator.online() == frozenset()
            release.set()
            await task
            assert handled == ["1"]
            assert federation.recorded == []

    run(test())


def test_a_cancel_made_while_the_node_was_away_reaches_it(tmp_path: Path) -> None:
    async def test() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def work(peer: str, request: Message, alive: Progress) -> Message:
            began.set()
            try:
                await asyncio.sleep(1000)
            finally:
                ended.set()
            raise AssertionError

        async with Federation(tmp_path) as federation, proxied(federation) as proxy:
            await federation.node("a", work)
            task = asyncio.create_task(federation.coordinator.request("a", Message("task", "1")))
            await began.wait()
            proxy.cut()
            await federation.coordinator.changed()
            task.cancel()
            await ended.wait()
            assert federation.recorded == []

    run(test())


def test_silence_is_noticed_by_both_sides(tmp_path: Path) -> None:
    async def test() -> None:
        said, report = outcomes()
        async with Federation(tmp_path, beat_s=lambda: 0.24) as federation, proxied(federation) as proxy:
            await federation.node("a", beat_s=lambda: 0.24, report=report)
            proxy.swallow = True
            await federation.coordinator.changed()
            assert federation.coordinator.online() == frozenset()
            await eventually(lambda: "disconnected" in {what for what, _ in said})
            proxy.swallow = False
            proxy.cut()
            assert (await federation.coordinator.request("a", Message("task", "1"))).id == "1"

    run(test())


def test_the_newer_of_two_streams_wins(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation, rogue(federation, "a") as old:
            task = asyncio.create_task(federation.coordinator.request("a", Message("task", "1")))
            await old.message()
            async with rogue(federation, "a") as new:
                assert "newer" in await old.gone()
                assert (await new.message()).id == "1"
                await new.reply("1", "a")
                await task
                assert federation.coordinator.online() == {"a"}
            assert federation.kinds() == ["second stream"]

    run(test())


def test_the_same_id_with_other_content_replaces_the_first(tmp_path: Path) -> None:
    """A coordinator that lost its memory may use an id again for something else."""

    async def test() -> None:
        seen: list[Any] = []
        cancelled = asyncio.Event()

        async def work(peer: str, request: Message, alive: Progress) -> Message:
            seen.append(request.body.data["n"])
            if request.body.data["n"] == 1:
                try:
                    await asyncio.sleep(1000)
                finally:
                    cancelled.set()
            return Message("reply", request.id, body=request.body)

        async with Federation(tmp_path) as first:
            node = await first.node("a", work)
            port = first.address
            task = asyncio.create_task(first.coordinator.request("a", Message("task", "1", body=Record({"n": 1}))))
            await eventually(lambda: seen == [1])
            await first.coordinator.stop()
            with pytest.raises(NodeLost):
                await task
            second = GrpcCoordinator(echo)
            await second.start(port, credentials_of(first.authority))
            reply = await second.request("a", Message("task", "1", body=Record({"n": 2})))
            assert reply.body.data == {"n": 2}
            await cancelled.wait()
            assert seen == [1, 2]
            await node.close()
            await second.stop()

    run(test())


def test_stopping_ends_what_is_pending(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            task = asyncio.create_task(federation.coordinator.request("absent", Message("task", "1")))
            await asyncio.sleep(0.01)
            await federation.coordinator.stop()
            with pytest.raises(NodeLost, match="stop"):
                await task
            with pytest.raises(NodeLost, match="stop"):
                await federation.coordinator.request("absent", Message("task", "2"))
            node = await federation.node("late", wait=False)
            asking = asyncio.create_task(node.request(Message("hello", "1")))
            await asyncio.sleep(0.01)
            await node.close()
            with pytest.raises(NodeLost):
                await asking
            with pytest.raises(NodeLost):
                await node.request(Message("hello", "2"))

    run(test())


def test_an_idle_federation_uses_no_processor_time(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path) as federation:
            for name in "abc":
                await federation.node(name)
            await federation.coordinator.request("a", Message("task", "1"))
            await asyncio.sleep(0.2)
            woken, select = 0, (selector := asyncio.get_running_loop()._selector).select  # type: ignore[attr-defined]

            def counted(timeout: float | None = None) -> Any:
                nonlocal woken
                woken += 1
                return select(timeout)

            selector.select = counted
            await asyncio.sleep(1.5)
            assert woken < 30  # whoever looks every few milliseconds is woken hundreds of times

    run(test())


def test_payloads_over_the_budget_do_not_stay_in_memory(tmp_path: Path) -> None:
    async def test() -> None:
        async with Federation(tmp_path / "a", memory=1 << 20, spool=tmp_path) as federation:
            await federation.node("a")
            reply = await federation.coordinator.request("a", Message("task", "1", body=big(5)))
            small = await federation.coordinator.request("a", Message("task", "2", body=big(0.5)))
            budget = federation.coordinator._peers.budget
            assert budget.held == small.body.nbytes
            np.testing.assert_array_equal(reply.body.arrays["w"], big(5).arrays["w"])
            assert not [name for name in os.listdir(tmp_path) if name.endswith(".spool")]  # unlinked
            del small
            await eventually(lambda: budget.held == 0)

    run(test())


def test_the_node_says_where_payloads_land(tmp_path: Path) -> None:
    async def test() -> None:
        from hanse.messages import Memory

        asked: list[int] = []

        def allocate(nbytes: int) -> Memory:
            asked.append(nbytes)
            return Memory(nbytes)

        async with Federation(tmp_path) as federation:
            await federation.node("a", allocate=allocate)
            await federation.coordinator.request("a", Message("task", "1", body=big(1)))
            assert asked == [1 << 20]

    run(test())


def test_a_renewed_identity_is_used_at_the_next_connection(tmp_path: Path) -> None:
    async def test() -> None:
        seen: list[str] = []
        async with (
            Federation(tmp_path, accept=lambda node, fingerprint: seen.append(fingerprint)) as federation,
            proxied(federation) as proxy,
        ):
            current: list[NodeIdentity] = [identity(federation.authority, "a")]
            await federation.node("a", credentials=lambda: channel_credentials(current[0]))
            current[0] = identity(federation.authority, "a")
            proxy.cut()
            await federation.coordinator.changed()
            await federation.coordinator.request("a", Message("task", "1"))
            assert len(set(seen)) == 2

    run(test())


def test_a_pack_of_frames_is_what_was_packed() -> None:
    assert list(unpack(pack([b"\x01", b"\x02bc", b"\x03"]))) == [b"\x01", b"\x02bc", b"\x03"]
    assert list(unpack(pack([b"\x01x"]))) == [b"\x01x"]


def test_it_is_told_when_something_large_moves_and_not_while_a_node_computes(tmp_path: Path) -> None:
    async def test() -> None:
        moving: list[str] = []
        at_work, may = asyncio.Event(), asyncio.Event()

        def moves(node: str) -> Callable[[], None]:
            moving.append(node)
            return lambda: moving.append("no more")

        async def works(peer: str, request: Message, alive: Progress) -> Message:
            at_work.set()
            await may.wait()
            return Message("reply", request.id, body=request.body)

        async with Federation(tmp_path, moves=moves) as federation:
            await federation.node("a", works)
            for size, told in ((1 << 20, []), (3 << 20, ["a", "no more"])):
                body = Record({}, {"w": np.zeros(size, "u1")})
                asked = asyncio.create_task(federation.coordinator.request("a", Message("task", f"{size}", body=body)))
                await at_work.wait()
                assert moving == told
                may.set()
                await asked
                assert moving == 2 * told  # its answer moved too
                at_work.clear()
                may.clear()

    asyncio.run(asyncio.wait_for(test(), PATIENCE))
