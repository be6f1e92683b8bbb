"""Reads along on a node's connection: a man in the middle to whom the test gives the keys.

Coordinator and node are real processes that speak gRPC with mutual TLS. The node dials this recorder
instead, which holds a certificate of the same authority, and passes every byte on under the node's own
certificate. So what is recorded is what really is on the wire, decrypted, whoever sent it and whatever for.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType

from hanse.identity import Authority, NodeIdentity

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA = 0


class Recorder:
    """A context manager. ``up`` is what the node sent, ``down`` what it was sent, as it was on the wire."""

    def __init__(self, authority: Authority, identity: NodeIdentity, folder: Path) -> None:
        folder.mkdir()
        key, certificate = authority.issue_server(["localhost", "127.0.0.1"])
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(*_files(folder / "server", certificate + authority.pem, key))
        self._server.load_verify_locations(cadata=authority.pem.decode())
        self._server.verify_mode = ssl.CERT_REQUIRED  # the node proves itself to the recorder, too
        self._client = ssl.create_default_context(cadata=authority.pem.decode())
        self._client.load_cert_chain(*_files(folder / "node", identity.cert_pem, identity.key_pem))
        for context in (self._server, self._client):
            context.set_alpn_protocols(["h2"])
        host, _, port = identity.address.removeprefix("grpc://").rpartition(":")
        self._behind = (host, int(port))
        self.connections: list[tuple[bytearray, bytearray]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder")

    @property
    def up(self) -> bytes:
        return b"".join(bytes(up) for up, _ in self.connections)

    @property
    def down(self) -> bytes:
        return b"".join(bytes(down) for _, down in self.connections)

    def sent(self) -> bytes:
        """The payloads that the node sent, each stream's put together: a text that was cut in two by
        the frames of HTTP/2 is whole in it."""
        return b"".join(payloads(bytes(up)) for up, _ in self.connections)

    def received(self) -> bytes:
        return b"".join(payloads(bytes(down)) for _, down in self.connections)

    def __enter__(self) -> Recorder:
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.address = listening.result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> str:
        self._listening = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._server)
        return f"localhost:{self._listening.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        self._listening.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._behind
        name = "localhost" if host in ("127.0.0.1", "::1") else host
        behind_reader, behind_writer = await asyncio.open_connection(host, port, ssl=self._client, server_hostname=name)
        up, down = bytearray(), bytearray()
        self.connections.append((up, down))
        try:
            both = [_pass(reader, behind_writer, up), _pass(behind_reader, writer, down)]
            await asyncio.wait([asyncio.ensure_future(one) for one in both], return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, behind_writer):
                end.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
    try:
        while data := await reader.read(1 << 16):
            seen += data
            writer.write(data)
            await writer.drain()
    except OSError:
        pass


def payloads(wire: bytes) -> bytes:
    """The DATA of each stream of an HTTP/2 connection, stream after stream."""
    at = len(_PREFACE) if wire.startswith(_PREFACE) else 0
    streams: defaultdict[int, bytearray] = defaultdict(bytearray)
    while at + 9 <= len(wire):
        length, kind, flags = int.from_bytes(wire[at : at + 3], "big"), wire[at + 3], wire[at + 4]
        stream = int.from_bytes(wire[at + 5 : at + 9], "big") & 0x7FFFFFFF
        body = wire[at + 9 : at + 9 + length]
        if kind == _DATA:
            assert not flags & 0x8, "padding is not expected"
            streams[stream] += body
        at += 9 + length
    return b"".join(bytes(s) for s in streams.values())


def _files(stem: Path, certificate: bytes, key: bytes) -> tuple[str, str]:
    pair = stem.with_suffix(".crt"), stem.with_suffix(".key")
    for path, content in zip(pair, (certificate, key), strict=True):
        path.write_bytes(content)
    return str(pair[0]), str(pair[1])
