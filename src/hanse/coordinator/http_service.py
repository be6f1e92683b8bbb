"""A service that is another process, asked over HTTP: at an address that an operator has named.

What is asked goes to that address alone (no redirect is followed, no proxy of the environment is used), and what comes
back is bounded, in bytes and in time.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from hanse.addresses import is_loopback
from hanse.errors import ConfigError, WireError
from hanse.messages import Json, loads

_LARGEST = 1 << 20  # of an answer
_PIECE = 1 << 16


def checked(url: str, what: str) -> str:
    """``url``, if what goes there cannot be read or changed on its way: https, or http on this machine.

    >>> checked("https://id.example/a", "oidc_issuer")
    'https://id.example/a'
    >>> checked("http://id.example", "oidc_issuer")
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: oidc_issuer is 'http://id.example': others could read and change it; use https (http is \
for a service on this machine)
    """
    try:
        parts = urllib.parse.urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{what} is {url[:200]!r}; expected https://HOST:PORT")
    if parts.scheme == "http" and not is_loopback(str(parts.hostname)):
        raise ConfigError(
            f"{what} is {url[:200]!r}: others could read and change it; use https "
            "(http is for a service on this machine)"
        )
    return url


@dataclass(frozen=True, slots=True)
class Returned:
    """What came back, whatever its status."""

    status: int
    raw: bytes


def ask(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float, authority: str = ""
) -> Returned:
    """One request. Blocks.

    Args:
        url: as :func:`checked` lets it pass.
        timeout_s: for each wait on the way, and for the answer as a whole.
        authority: file of the certificate that signs the service's own (PEM); "" for those that this machine trusts.

    Raises:
        OSError, http.client.HTTPException: nothing came, or not in time. WireError: it has over 1 MB.
    """
    parts = urllib.parse.urlsplit(url)
    ends = time.monotonic() + timeout_s
    host, port = str(parts.hostname), parts.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=timeout_s, context=_context(authority))
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=timeout_s)
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(connection):
        connection.request(method, target, body, {"Accept": "application/json", **headers})
        with contextlib.closing(connection.getresponse()) as answer:
            raw = bytearray()
            while piece := answer.read1(_PIECE):
                raw += piece
                if len(raw) > _LARGEST:
                    raise WireError("its answer has over 1 MB")
                if time.monotonic() > ends:
                    raise TimeoutError("its answer took too long")
            if answer.length:  # what ``read1`` says nothing of
                raise http.client.IncompleteRead(bytes(raw), answer.length)
            return Returned(answer.status, bytes(raw))


class SaidNo(OSError):
    """The service answered with another status than one of success."""

    def __init__(self, answer: Returned) -> None:
        super().__init__(f"it answered with status {answer.status}")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class HttpService:
    """The service at an address.

    Args:
        url: ``http://HOST:PORT`` on this machine, else ``https://HOST:PORT``.
        variable: that names it, for errors. ``token_variable``: that has its token.
        token: shown to it; "" where it asks for none.
        timeout_s: of one attempt.
        authority: file of the certificate that signs its own (PEM); "" for those that this machine trusts.

    Raises:
        ConfigError: the address is none, or the token would travel readable.
    """

    url: str
    variable: str
    token_variable: str
    token: str = ""
    timeout_s: float = 2.0
    authority: str = ""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(checked(self.url, self.variable))
        if parts.username or parts.password:
            raise ConfigError(f"{self.variable} holds a password; give a token in {self.token_variable}")

    def call(self, method: str, path: str, body: Json = None) -> Json:
        """What it answers. Blocks. Raises as :func:`ask`, and ``SaidNo`` for another status than one of success."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        sent = None if body is None else json.dumps(body).encode()
        answer = ask(method, self.url.rstrip("/") + path, headers, sent, self.timeout_s, self.authority)
        if not 200 <= answer.status < 300:
            raise SaidNo(answer)
        return loads(answer.raw)


@functools.lru_cache(8)
def _context(authority: str) -> ssl.SSLContext:
    """Made once: reading the certificates that this machine trusts takes longer than a question."""
    return ssl.create_default_context(cafile=authority or None)
