"""A service that is another process, asked over HTTP: at an address that an operator's variable names."""

from __future__ import annotations

import functools
import json
import ssl
import urllib.parse
import urllib.request
from dataclasses import dataclass

from hanse.coordinator.listening import LOOPBACK
from hanse.errors import ConfigError, WireError
from hanse.messages import Json, loads

_LARGEST = 1 << 20  # of an answer


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address is not the one that the operator trusts."""

    def redirect_request(self, *_: object) -> None:
        return None


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
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.variable} is {self.url!r}; expected https://HOST:PORT")
        if parts.username or parts.password:
            raise ConfigError(f"{self.variable} holds a password; give a token in {self.token_variable}")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ConfigError(
                f"{self.variable} is {self.url!r}: what decides would travel so that others can change it; use https "
                "(http is for a service on this machine)"
            )

    def call(self, method: str, path: str, body: Json = None) -> Json:
        """What it answers. Blocks. Raises ``OSError`` (a ``urllib.error.HTTPError`` where it says no),
        ``http.client.HTTPException``, ``WireError``."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url.rstrip("/") + path, sent, headers, method=method)
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), urllib.request.ProxyHandler({})]
        if self.url.startswith("https"):
            handlers.append(urllib.request.HTTPSHandler(context=_context(self.authority)))
        with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as answer:
            raw = answer.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise WireError("its answer has over 1 MB")
        return loads(raw)


@functools.lru_cache(8)
def _context(authority: str) -> ssl.SSLContext:
    """Made once: reading the certificates that this machine trusts takes longer than a question."""
    return ssl.create_default_context(cafile=authority or None)
