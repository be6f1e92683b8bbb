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
from tests.waiting import PATIENCE


class Behind:
    """A server that notes what reaches it and answers with the body that it got, or with ``says``."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.says: bytes | None = None
        self.status, self.closes = 200, False
        self.headers = ""  # lines that its answers have besides
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
                head = f"HTTP/1.1 {self.status} X\r\n{self.headers}Content-Length: {len(found)}\r\n\r\n"
                writer.write(head.encode() + found)
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
            async with asyncio.timeout(PATIENCE):
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
    "answer",
    [
        *(b"", b"\x0a", b"\x0a\x05ab", b"\x08\x01", fab(b"a") + fab(b"b"), b"\x0a\x00", b"\xff" * 20),
        fab(b"a") + b"\x12\x00",  # with a field that such an answer does not have
        b"\x0a\x05\x12\x01a\x22\x00",
    ],
)
def test_an_answer_without_one_app(answer: bytes) -> None:
    with pytest.raises(WireError):
        app_in(answer)


class Site:
    """A node's relay, the SuperLink that it leads to, and what the node was told of."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str, str]] = []
        self.apart: list[bool] = []
        self.behind = Behind()

    async def ask(self, path: str = "/v1/fleet/get-fab", method: str = "POST") -> tuple[int, bytes]:
        """The answer to a SuperNode, in a connection of its own as one ends where something is refused."""
        streams = Streams(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            return await said(streams, fleet(path, "mine", method=method))
        finally:
            streams.writer.close()


def at_a_site(body: Callable[[Site], Awaitable[None]]) -> None:
    async def main() -> None:
        site = Site()
        told = {"refused": lambda *what: site.refused.append(what), "report": lambda *what: None}
        caller = Caller("a", lambda: None, echo, lambda n: None, limit=1, **told)  # type: ignore[arg-type,return-value]
        await site.behind.start()
        gate = SuperNodesFilter(
            hashlib.sha256(b"ours").hexdigest(), "the name", lambda: site.apart.append(True), caller
        )
        relays = Relays(site.behind.connect, lambda writer: gate)
        server = await asyncio.start_server(relays.came, "127.0.0.1", 0)
        site.port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(PATIENCE):
                await body(site)
        finally:
            server.close()
            await relays.close()
            site.behind.server.close()

    asyncio.run(main())


def test_no_other_app_comes_to_a_site() -> None:
    async def body(site: Site) -> None:
        site.behind.says = fab(b"ours")
        assert await site.ask() == (200, fab(b"ours"))
        assert site.behind.heard[-1][1][START_HEADER] == "the name"  # its own, whatever the SuperNode said
        assert site.behind.heard[-1][1]["accept-encoding"] == "identity"
        for wrong in (fab(b"other"), fab(b"ours") + fab(b"other"), b"", b"ours"):
            site.behind.says = wrong
            assert await site.ask() == (403, b"this site runs no other app")
        assert len(site.refused) == 4
        site.behind.says, site.behind.status = b"", 409
        assert (await site.ask("/v1/fleet/pull-messages"))[0] == 409
        assert site.apart == [True]

    at_a_site(body)


@pytest.mark.parametrize("path", ["/v1/fleet/get-fab", "/v1/fleet/get-run", "/v1/fleet/pull-object"])
@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 299, 300, 301, 302, 303, 304, 307, 308, 399, 600, 999])
def test_an_answer_of_another_kind_brings_nothing(status: int, path: str) -> None:
    """Flower takes 200 to 299 for a success and follows what leads elsewhere: an app could come by either."""

    async def body(site: Site) -> None:
        site.behind.says, site.behind.status = b"" if status in (204, 304) else fab(b"evil"), status
        site.behind.headers = "Location: http://127.0.0.1:1/v1/fleet/get-fab\r\n"
        found, text = await site.ask(path)
        assert found == 502
        assert b"evil" not in text
        assert [what for _, what, _ in site.refused] == ["not accepted"]
        assert str(status) in site.refused[0][2]

    at_a_site(body)


@pytest.mark.parametrize("named", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
def test_an_answer_that_is_not_as_it_is_read_brings_nothing(named: str) -> None:
    """What the relay reads has to be what the SuperNode makes of it: an encoded app hides in what looks like ours."""

    async def body(site: Site) -> None:
        site.behind.says, site.behind.headers = fab(b"ours"), f"Content-Encoding: {named}\r\n"
        for path in ("/v1/fleet/get-fab", "/v1/fleet/pull-messages"):
            assert (await site.ask(path))[0] == 502
        assert [what for _, what, _ in site.refused] == ["not accepted"] * 2
        site.behind.headers = "Content-Encoding: identity\r\n"
        assert await site.ask() == (200, fab(b"ours"))

    at_a_site(body)


def test_a_chunked_answer_is_looked_at_too() -> None:
    async def body(site: Site) -> None:
        async def chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            said = fab(b"other")
            writer.write(
                b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(said), said)
            )
            await reader.read()  # until the relay hangs up
            writer.close()

        server = await asyncio.start_server(chunked, "127.0.0.1", 0)
        site.behind.port = server.sockets[0].getsockname()[1]
        assert await site.ask() == (403, b"this site runs no other app")
        server.close()

    at_a_site(body)


def test_an_error_is_told_without_what_else_it_says() -> None:
    """Only how long it is and of what kind: a cookie or a place to go are nothing that a SuperNode needs."""

    async def body(site: Site) -> None:
        site.behind.says, site.behind.status = b'{"code": 1}', 412
        site.behind.headers = "Content-Type: application/json\r\nLocation: /x\r\nSet-Cookie: a=b\r\n"
        streams = Streams(*await asyncio.open_connection("127.0.0.1", site.port))
        streams.writer.write(fleet("/v1/fleet/get-run", "mine"))
        head = (await streams.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        assert head[0].split()[1] == b"412"
        assert {line.split(b":")[0] for line in head[1:] if line} == {b"content-type", b"content-length"}
        assert await streams.reader.readexactly(11) == b'{"code": 1}'
        streams.writer.close()

    at_a_site(body)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", REGISTER),  # else whoever has an account on the node's machine brings a SuperNode of their own
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/fleet/get-fab?"),
        ("POST", "/v1/fleet/get-fab/"),
        ("POST", "//v1/fleet/get-fab"),
        ("POST", "/v1/fleet/./get-fab"),
        ("POST", "http://127.0.0.1/v1/fleet/get-fab"),
        ("GET", "/v1/fleet/get-fab"),
        ("HEAD", "/v1/fleet/pull-messages"),
    ],
)
def test_nothing_else_is_asked_in_a_nodes_name(method: str, path: str) -> None:
    async def body(site: Site) -> None:
        site.behind.says = fab(b"other")
        if method == "HEAD":  # whose answers have no body
            streams = Streams(*await asyncio.open_connection("127.0.0.1", site.port))
            streams.writer.write(fleet(path, "mine", method=method))
            assert (await streams.reader.readline()).split()[1] == b"403"
            streams.writer.close()
        else:
            assert (await site.ask(path, method))[0] == 403
        assert site.behind.heard == []
        assert [what for _, what, _ in site.refused] == ["not accepted"]

    at_a_site(body)


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

    asyncio.run(asyncio.wait_for(body(), PATIENCE))
