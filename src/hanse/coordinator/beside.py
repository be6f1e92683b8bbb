"""Services that run beside a coordinator, as processes of their own: who may ask them, and how they are served."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from hanse.addresses import is_loopback
from hanse.coordinator.listening import check_tls, split
from hanse.errors import ConfigError, HanseError, NotAuthenticated


def bearer(token: str, whose: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets in who shows the token (``Authorization: Bearer ...``); everybody where it is "".
    Raises ``NotAuthenticated``."""

    async def authorize(request: Request) -> None:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        fits = scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token.encode())
        if token and not fits:
            raise NotAuthenticated(f"{whose} answers who shows its token: Authorization: Bearer ...")

    return authorize


def refusal(error: HanseError, **more: Any) -> JSONResponse:
    """An error as an answer; ``more``: the same in the vocabulary of others."""
    headers = {"www-authenticate": "Bearer"} if isinstance(error, NotAuthenticated) else None
    return JSONResponse({**more, "error": {"code": error.code, "message": error.message}}, error.status, headers)


def check(http: str, token: str, variable: str, tls_cert: str, tls_key: str, danger: str) -> None:
    """Raises ``ConfigError`` where others could ask without a token, or read it on its way.

    Args:
        variable: of the environment, that has the token.
        danger: what anybody could do else.
    """
    host, _ = split(http)
    check_tls(tls_cert, tls_key)
    if not is_loopback(host) and not (token and tls_cert):
        raise ConfigError(f"{host} is not loopback: set {variable} and give --tls-cert and --tls-key, or {danger}")


class OneEvent(uvicorn.Server):
    """uvicorn without signal handlers of its own: whoever runs it says when it ends, and what ends after it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None are."""
        yield


def serve(
    app: FastAPI,
    http: str,
    tls_cert: str,
    tls_key: str,
    what: str,
    told: Callable[[str], None],
    during: AbstractAsyncContextManager[None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT. Raises ``ConfigError`` where it cannot listen.

    Args:
        what: the service, in words.
        told: gets its address, before the first answer.
        during: lasts as long; what it raises is raised, and nothing is served.
    """
    host, port = split(http)
    tls: dict[str, Any] = {"ssl_certfile": tls_cert, "ssl_keyfile": tls_key} if tls_cert else {}
    quiet: dict[str, Any] = {"log_config": None, "log_level": "warning", "server_header": False, "lifespan": "off"}
    server = OneEvent(uvicorn.Config(app, host=host, port=port, **quiet, **tls))

    def stop() -> None:
        server.should_exit = True

    async def whole() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        async with during or contextlib.nullcontext():
            told(f"{'https' if tls else 'http'}://{http}")
            try:
                await server.serve()
            except SystemExit:  # it has said why
                raise ConfigError(f"cannot listen on {http}; is another {what} running?") from None

    asyncio.run(whole())
