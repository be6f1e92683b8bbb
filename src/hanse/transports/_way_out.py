"""The way out of a network that lets its machines call others through a proxy only: HTTP (CONNECT, RFC 9110, 9.3.6) or
SOCKS (``_socks.py``).

Which proxy that is, stands in the environment: ``grpc_proxy``, ``https_proxy``, ``http_proxy`` or ``all_proxy``, the
first that is set, in small letters or capitals; ``no_proxy`` names the hosts that are reached without. What goes
through the tunnel is TLS, so it sees nothing.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass

from hanse.errors import ConfigError
from hanse.transports import _socks

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")
_SOCKS = ("socks5", "socks5h", "socks")
_ANSWER_BYTES = 16 << 10


def proxy_for(host: str) -> SplitResult | None:
    """The proxy on the way to ``host``; None where there is none. Raises ``ConfigError`` for one that is no address.

    >>> os.environ["grpc_proxy"] = "http://proxy.example:3128"
    >>> proxy_for("coordinator.example").port
    3128
    >>> del os.environ["grpc_proxy"]
    """
    given = ((os.environ.get(name) or os.environ.get(name.upper()) or "") for name in _VARIABLES)
    named = next(filter(None, given), "")
    if not named or proxy_bypass(host):
        return None
    found = urlsplit(named if "://" in named else f"http://{named}")
    try:
        port = found.port
    except ValueError:
        port = None
    if found.scheme not in ("http", *_SOCKS) or not found.hostname or port is None:
        shown = f"{found.scheme}://{found.hostname or ''}"  # without the password
        raise ConfigError(
            f"the proxy is {shown!r}; expected http://HOST:PORT or socks5://HOST:PORT, in {' or '.join(_VARIABLES)}"
        )
    return found


async def tunnel(proxy: SplitResult, host: str, port: int) -> socket.socket:
    """A connection to ``host`` through the proxy. Raises ``OSError`` where it does not make one."""
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (await loop.getaddrinfo(proxy.hostname, proxy.port, type=socket.SOCK_STREAM))[
        0
    ]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)
        await (_socks.connect if proxy.scheme in _SOCKS else _connect)(sock, proxy, host, port)
        return sock
    except BaseException:
        sock.close()
        raise


async def _connect(sock: socket.socket, proxy: SplitResult, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    asked = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n"
    if proxy.username is not None:
        word = base64.b64encode(f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()).decode()
        asked += f"Proxy-Authorization: Basic {word}\r\n"
    await loop.sock_sendall(sock, f"{asked}\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):  # a byte at a time: what follows is TLS, and not ours to take
        more = await loop.sock_recv(sock, 1)
        answer += more
        if not more or len(answer) > _ANSWER_BYTES:
            raise ConnectionError("the proxy gave no answer that can be read")
    status = answer.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].startswith(b"2"):
        said = answer.split(b"\r\n", 1)[0].decode("latin-1")[:200]
        raise ConnectionError(f"the proxy does not let it through: {said!r}")
