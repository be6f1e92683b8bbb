"""A node behind a SOCKS proxy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from grpc_federation import Federation

from hanse.messages import Message, Record
from hanse.transports import _grpc_node
from hanse.transports._way_out import tunnel
from tests.waiting import PATIENCE


class Socks:
    """A SOCKS 5 proxy that lets calls through to one place, whatever host they name.

    Args:
        password: that it wants; "" wants none.
        answers: bytes that it answers instead, one after the other.
    """

    def __init__(self, onward: str = "", password: str = "", answers: tuple[bytes, ...] = ()) -> None:
        self.onward, self.password, self.answers = onward, password, answers
        self.asked: list[bytes] = []
        self.open: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Socks:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for writer in self.open:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self.open), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.append(writer)
        if self.answers:
            for answer in self.answers:
                await reader.read(1000)
                writer.write(answer)
            writer.close()
            return
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 2 if self.password else 0
        writer.write(bytes([5, wanted if wanted in methods else 255]))
        if self.password:
            _, length = await reader.readexactly(2)
            name = await reader.readexactly(length)
            (length,) = await reader.readexactly(1)
            word = await reader.readexactly(length)
            writer.write(bytes([1, (name, word) != (b"me", self.password.encode())]))
        head = await reader.readexactly(4)
        (length,) = await reader.readexactly(1)
        host, port = await reader.readexactly(length), await reader.readexactly(2)
        self.asked += [head, host, port]
        there, onwards = await asyncio.open_connection("127.0.0.1", int(self.onward.rpartition(":")[2]))
        self.open.append(onwards)
        writer.write(bytes([5, 0, 0, 1, 10, 0, 0, 1, 0, 80]))

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(carry(reader, onwards), carry(there, writer), return_exceptions=True)


@pytest.mark.parametrize("password", ["", "se cret"])
def test_a_node_calls_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    async def test() -> None:
        async with (
            asyncio.timeout(PATIENCE),
            Federation(tmp_path) as federation,
            Socks(federation.address, password) as proxy,
        ):
            word = "me:se%20cret@" if password else ""
            monkeypatch.setenv("grpc_proxy", f"socks5://{word}127.0.0.1:{proxy.port}")
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.setattr(_grpc_node, "is_loopback", lambda host: False)
            await federation.node("a")
            reply = await federation.coordinator.request("a", Message("task", "1", body=Record({"x": 1})))
            assert reply.body.data == {"x": 1}
            host, _, port = federation.address.rpartition(":")
            assert proxy.asked == [b"\x05\x01\x00\x03", host.encode(), int(port).to_bytes(2, "big")]
            await federation.nodes[0].close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((b"HTTP/1.1 400 what?\r\n",), "does not speak SOCKS 5"),
        ((b"\x05\xff",), "wants a name and a password"),
        ((b"\x05\x02",), "wants a name and a password"),
        ((b"\x05\x00", b"\x05\x02\x00\x01"), "its rules do not allow it"),
        ((b"\x05\x00", b"\x05\x63\x00\x01"), "it says 99"),
        ((b"\x05\x00", b"\x05"), "ended the connection"),
    ],
)
def test_a_proxy_that_says_no_is_told(answers: tuple[bytes, ...], said: str) -> None:
    async def test() -> None:
        async with asyncio.timeout(PATIENCE), Socks(answers=answers) as proxy:
            with pytest.raises(ConnectionError, match=said):
                await tunnel(urlsplit(f"socks5://127.0.0.1:{proxy.port}"), "coordinator.example", 443)

    asyncio.run(test())


def test_a_wrong_password_is_told() -> None:
    async def test() -> None:
        async with asyncio.timeout(PATIENCE), Socks(answers=(b"\x05\x02", b"\x01\x01")) as proxy:
            with pytest.raises(ConnectionError, match="does not take this name and password"):
                await tunnel(urlsplit(f"socks5://me:wrong@127.0.0.1:{proxy.port}"), "coordinator.example", 443)

    asyncio.run(test())
