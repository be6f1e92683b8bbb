"""The way out through a SOCKS proxy (RFC 1928), with a name and a password where it asks for them (RFC 1929).

The host's name is sent as it is, so the proxy looks it up: inside, it may mean nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import SplitResult, unquote

_VERSION, _CONNECT = 5, 1
_FREE, _PASSWORD = 0, 2
_V4, _NAME, _V6 = 1, 3, 4
_REFUSALS = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "it cannot reach that network",
    4: "it cannot reach that host",
    5: "nobody listens there",
    6: "it took too long",
}


async def connect(sock: socket.socket, proxy: SplitResult, host: str, port: int) -> None:
    """Asks the proxy at the other end of ``sock`` for a connection to ``host``. Raises ``ConnectionError`` in words."""
    loop = asyncio.get_running_loop()

    async def read(count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = await loop.sock_recv(sock, count - len(found))
            if not more:
                raise ConnectionError("the proxy ended the connection; does it speak SOCKS 5?")
            found += more
        return found

    named = proxy.username is not None
    await loop.sock_sendall(sock, bytes([_VERSION, 2, _FREE, _PASSWORD]) if named else bytes([_VERSION, 1, _FREE]))
    version, method = await read(2)
    if version != _VERSION:
        raise ConnectionError("the proxy does not speak SOCKS 5")
    if method == _PASSWORD and named:
        words = [unquote(word or "").encode() for word in (proxy.username, proxy.password)]
        if any(len(word) > 255 for word in words):
            raise ConnectionError("name and password of a SOCKS proxy have at most 255 bytes each")
        await loop.sock_sendall(sock, b"\x01" + b"".join(bytes([len(word)]) + word for word in words))
        if (await read(2))[1]:
            raise ConnectionError("the proxy does not take this name and password")
    elif method != _FREE:
        raise ConnectionError("the proxy wants a name and a password: write them into its address")
    await loop.sock_sendall(sock, bytes([_VERSION, _CONNECT, 0]) + _address(host) + port.to_bytes(2, "big"))
    version, status, _, kind = await read(4)
    if version != _VERSION or status:
        raise ConnectionError(f"the proxy does not let it through: {_REFUSALS.get(status, f'it says {status}')}")
    length = {_V4: 4, _V6: 16}.get(kind)
    await read((length if length is not None else (await read(1))[0]) + 2)  # where it calls from


def _address(host: str) -> bytes:
    """As the protocol writes it.

    >>> _address("10.0.0.1"), _address("site.example")
    (b'\\x01\\n\\x00\\x00\\x01', b'\\x03\\x0csite.example')
    """
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        name = host.encode("idna")
        return bytes([_NAME, len(name)]) + name
    return bytes([_V4 if len(packed) == 4 else _V6]) + packed
