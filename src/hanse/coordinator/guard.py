"""What stands before every HTTP service here: bodies are bounded, what nobody has thought of is answered too, and every
answer says what a browser may do with it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from hanse.coordinator.schemas import check_length
from hanse.errors import HanseError, NotAuthenticated, StorageFailed, TooLarge
from hanse.store.faults import passing

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """Bounds the bodies that come in, answers where something failed that nobody has thought of, and says in every
    answer what a browser may do with it."""

    HEADERS = (
        (
            b"content-security-policy",
            b"default-src 'self'; img-src 'self' data:; "
            b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'",
        ),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, begun = 0, False

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            check_length(received, self._limit)
            return message

        async def headed(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                has = {name.lower() for name, _ in message["headers"]}
                extra = [h for h in self.HEADERS if h[0] not in has]
                if b"cache-control" not in has:
                    extra.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            refused = answer(TooLarge(f"the body is over the limit of {self._limit} bytes"))
            await refused(scope, receive, headed)
            return
        try:
            await self._app(scope, bounded, headed)
        except Exception as error:  # what Starlette answers to is raised again, and is told twice
            if begun:
                raise
            await _unexpected(Request(scope), error)(scope, receive, headed)


def answer(error: HanseError, details: Any = None) -> JSONResponse:
    """An error as an answer."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if details is not None:
        body["details"] = details
    headers = {"www-authenticate": "Bearer"} if isinstance(error, NotAuthenticated) else None
    return JSONResponse({"error": body}, error.status, headers)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    fault = passing(error)
    if fault:
        _log.warning("%s %s: %s", request.method, request.url.path, fault)
        return answer(StorageFailed(f"the coordinator's storage failed ({fault}); try again in a moment"))
    _log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(HanseError("the coordinator could not do this; its log has the details"))
