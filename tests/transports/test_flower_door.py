"""What passes between SuperNodes and the SuperLink, and what does not: real TLS, and a server in place of Flower."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_federation import authority, echo, identity

from hanse.errors import NotAuthenticated, NotNow, WireError
from hanse.transports import Caller, Hub
from hanse.transports._flower_door import REGISTER, START_HEADER, Door
from hanse.transports._flower_node import SuperNodesFilter, app_in
from hanse.transports._flower_relay import HttpFilter, Relays, Streams, ask
from hanse.transports._grpc_channel import channel_credentials
from hanse.transports._port import Port


class Behind:
    """A server that notes what reaches it and answers with the body that it got, or with ``says``."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.says: bytes | None = None
        self.status, self.closes = 200, False
        self.connections = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def connect(self) -> Streams:
        return Streams(*await asyncio.open_connection("127.0.0.1", self.port))

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().rstrip().split("\r\n")
                headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.heard.append((first, headers, body))
                found = body if self.says is None else self.says
                writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(found)}\r\n\r\n".encode() + found)
                await writer.drain()
                if self.closes:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class House:
    """A door with a coordinator's certificates, and what is behind it."""

    def __init__(self, home: Path) -> None:
        self.authority = authority(home)
        self.refused: list[tuple[str, str, str]] = []
        self.behind, self.registered = Behind(), dict[str, str]()
        self.opened: list[Streams] = []
        self.accept: Callable[[str, str], Any] = lambda node, mark: None
        hub = Hub(
            echo,
            lambda node, mark: self.accept(node, mark),
            lambda *what: self.refused.append(what),
            lambda hosts: (*self.authority.issue_server([*hosts, "localhost"]), self.authority.pem),
            home,
        )
        self.port = Port("localhost:0", hub)
        self.door = Door(self.port, hub, self.register, self.registered, self.behind.connect)

    async def register(self, node: str, key: str) -> str:
        if key != "a key":
            raise WireError("no key")
        self.registered[node] = f"start of {node}"
        return self.registered[node]

    def as_node(self, name: str, other: Any = None) -> Callable[[], Awaitable[Streams]]:
        who = identity(other or self.authority, name)
        context = channel_credentials(who)
        if other is not None:
            context.load_verify_locations(cadata=self.authority.pem.decode())
        context.set_alpn_protocols(["http/1.1"])

        async def connect() -> Streams:
            self.opened.append(Streams(*await asyncio.open_connection("localhost", self.port.number, ssl=context)))
            return self.opened[-1]

        return connect


def run(home: Path, body: Callable[[House], Awaitable[None]]) -> None:
    async def main() -> None:
        house = House(home)
        await house.behind.start()
        await house.door.open()
        try:
            async with asyncio.timeout(20):
                await body(house)
        finally:
            for streams in house.opened:
                streams.writer.close()
            await house.door.close()
            house.behind.server.close()

    asyncio.run(main())


async def said(streams: Streams, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to bytes as they are."""
    streams.writer.write(request)
    head = await streams.reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    return int(head.split()[1]), await streams.reader.readexactly(length)


def fleet(what: str, name: str, body: bytes = b"", method: str = "POST") -> bytes:
    head = f"{method} {what} HTTP/1.1\r\nhost: me\r\n{START_HEADER}: {name}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_registered_node_reaches_what_supernodes_ask(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        connect = house.as_node("a")
        assert await ask(connect, REGISTER, b"a key") == (200, "start of a")
        streams = await connect()
        for size in (0, 10, 3 << 20):
            content = bytes(range(256)) * (size // 256)
            status, found = await said(streams, fleet("/v1/fleet/pull-messages", "start of a", content))
            assert (status, found) == (200, content)
        assert house.behind.connections == 1  # of three requests
        assert not house.refused

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/control/register-node"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/unregister-node"),
        ("GET", "/v1/fleet/pull-messages"),
        ("POST", "/v1/fleet/../control/start-run"),
        ("POST", "/v1/fleet/pull-messages/"),
        ("POST", "/v1/fleet/pull-messages?x=/v1/control/start-run"),
        ("POST", "//v1/control/start-run"),
        ("POST", "http://127.0.0.1/v1/control/start-run"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ],
)
def test_nothing_else_of_flower_is_reached(tmp_path: Path, method: str, path: str) -> None:
    async def body(house: House) -> None:
        connect = house.as_node("a")
        await ask(connect, REGISTER, b"a key")
        status, _ = await said(await connect(), fleet(path, "start of a", b"x", method))
        assert status == 403
        assert house.behind.heard == []
        assert [what for _, what, _ in house.refused] == ["not accepted"]

    run(tmp_path, body)


def test_a_second_request_cannot_hide_in_the_first(tmp_path: Path) -> None:
    hidden = fleet("/v1/control/start-run", "start of a")
    both = (
        f"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: me\r\n{START_HEADER}: start of a\r\n"
        f"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ).encode() + hidden

    async def body(house: House) -> None:
        connect = house.as_node("a")
        await ask(connect, REGISTER, b"a key")
        streams = await connect()
        streams.writer.write(both)
        await streams.reader.read()  # until the end
        assert all("control" not in first for first, _, _ in house.behind.heard)

    run(tmp_path, body)


def test_who_is_not_registered_is_told_so(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        connect = house.as_node("a")
        assert (await said(await connect(), fleet("/v1/fleet/pull-messages", "start of a")))[0] == 409
        await ask(connect, REGISTER, b"a key")
        assert (await said(await connect(), fleet("/v1/fleet/pull-messages", "an older one")))[0] == 409
        other = house.as_node("b")
        assert (await said(await other(), fleet("/v1/fleet/pull-messages", "start of a")))[0] == 409
        del house.registered["a"]
        assert (await said(await connect(), fleet("/v1/fleet/pull-messages", "start of a")))[0] == 409
        assert house.behind.heard == []

    run(tmp_path, body)


def test_who_may_not_come_in_gets_no_supernode(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        connect = house.as_node("a")

        def no(node: str, mark: str) -> None:
            raise NotAuthenticated(f"{node} was revoked")

        def later(node: str, mark: str) -> None:
            raise NotNow("the store is away")

        house.accept = no
        assert await ask(connect, REGISTER, b"a key") == (403, "a was revoked")
        house.accept = later
        assert (await ask(connect, REGISTER, b"a key"))[0] == 503
        house.accept = lambda node, mark: None
        assert (await ask(connect, REGISTER, b"no key"))[0] == 403
        assert house.registered == {}

    run(tmp_path, body)


def test_who_shows_no_certificate_of_this_authority_is_not_heard(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        with pytest.raises(OSError):  # noqa: PT011
            await ask(house.as_node("a", authority(tmp_path / "another")), REGISTER, b"a key")
        anyone = ssl.create_default_context(cadata=house.authority.pem.decode())

        async def connect() -> Streams:
            return Streams(*await asyncio.open_connection("localhost", house.port.number, ssl=anyone))

        with pytest.raises(OSError):  # noqa: PT011
            await ask(connect, REGISTER, b"a key")
        assert house.registered == {}

    run(tmp_path, body)


# ---------------------------------------------------------------- at the node


def fab(content: bytes) -> bytes:
    """An answer to get-fab with this app."""
    inner = b"\x0a\x02ab" + b"\x12" + number(len(content)) + content
    return b"\x0a" + number(len(inner)) + inner


def number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 200, b"y" * 70_000])
def test_the_app_in_an_answer(content: bytes) -> None:
    assert app_in(fab(content)) == content


@pytest.mark.parametrize(
    "answer", [b"", b"\x0a", b"\x0a\x05ab", b"\x08\x01", fab(b"a") + fab(b"b"), b"\x0a\x00", b"\xff" * 20]
)
def test_an_answer_without_one_app(answer: bytes) -> None:
    with pytest.raises(WireError):
        app_in(answer)


def test_no_other_app_comes_to_a_site(tmp_path: Path) -> None:
    refused: list[tuple[str, str, str]] = []
    apart: list[bool] = []
    caller = Caller(
        "a",
        lambda: None,
        echo,
        lambda n: None,
        lambda *w: None,
        lambda *w: refused.append(w),
        1,  # type: ignore[arg-type,return-value]
    )

    async def body() -> None:
        behind = Behind()
        await behind.start()
        gate = SuperNodesFilter(hashlib.sha256(b"ours").hexdigest(), "the name", lambda: apart.append(True), caller)
        relays = Relays(behind.connect, lambda writer: gate)
        server = await asyncio.start_server(relays.came, "127.0.0.1", 0)
        streams = Streams(*await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1]))
        behind.says = fab(b"ours")
        assert await said(streams, fleet("/v1/fleet/get-fab", "mine")) == (200, fab(b"ours"))
        assert behind.heard[-1][1][START_HEADER] == "the name"  # its own, whatever the SuperNode said
        for wrong in (fab(b"other"), fab(b"ours") + fab(b"other"), b"", b"ours"):
            behind.says = wrong
            status, found = await said(streams, fleet("/v1/fleet/get-fab", "mine"))
            assert status == 403
            assert b"other" not in found or found == b"this site runs no other app"
        assert len(refused) == 4
        behind.says, behind.status = b"", 409
        assert (await said(streams, fleet("/v1/fleet/pull-messages", "mine")))[0] == 409
        assert apart == [True]
        streams.writer.close()
        server.close()
        await relays.close()
        behind.server.close()

    asyncio.run(asyncio.wait_for(body(), 20))


def test_a_server_that_closed_meanwhile_is_called_again(tmp_path: Path) -> None:
    async def body() -> None:
        behind = Behind()
        behind.closes = True
        await behind.start()

        class All(HttpFilter):
            async def asked(self, method: str, path: str, headers: object) -> None:
                return None

        relays = Relays(behind.connect, lambda writer: All())
        server = await asyncio.start_server(relays.came, "127.0.0.1", 0)
        streams = Streams(*await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1]))
        for _ in range(3):
            assert await said(streams, fleet("/x", "", b"hello")) == (200, b"hello")
            await asyncio.sleep(0.05)
        behind.server.close()
        assert (await said(streams, fleet("/x", "", b"hello")))[0] == 502
        streams.writer.close()
        server.close()
        await relays.close()

    asyncio.run(asyncio.wait_for(body(), 20))
