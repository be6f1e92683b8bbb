"""The web application: routes, one way for all errors, limits, and the page's security headers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import hanse
from hanse.coordinator.access import authorize
from hanse.coordinator.health import Examiner
from hanse.coordinator.routes import ROUTERS
from hanse.coordinator.schemas import Invalid, check_length
from hanse.coordinator.service import Coordinator
from hanse.errors import HanseError, NotAuthenticated, StorageFailed, TooLarge
from hanse.store.faults import passing

_log = logging.getLogger(__name__)
_CODES = {404: "not_found", 405: "not_allowed_here", 413: "too_large", 422: "config"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def create_app(coordinator: Coordinator, examiner: Examiner | None = None) -> FastAPI:
    """The application for a coordinator that is started and stopped by the caller."""
    app = FastAPI(
        title="Hanse coordinator",
        version=hanse.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(authorize)],
        redirect_slashes=False,
    )
    app.state.coordinator = coordinator
    app.state.examiner = examiner or Examiner(coordinator)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(HanseError, _hanse_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _query_error)
    app.add_middleware(Guard, limit=coordinator.settings.body_bytes)
    return app


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
            answer = _answer(TooLarge(f"the body is over the limit of {self._limit} bytes"))
            await answer(scope, receive, headed)
            return
        try:
            await self._app(scope, bounded, headed)
        except Exception as error:  # what Starlette answers to is raised again, and is told twice
            if begun:
                raise
            await _unexpected(Request(scope), error)(scope, receive, headed)


def _answer(error: HanseError, details: Any = None) -> JSONResponse:
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if details is not None:
        body["details"] = details
    headers = {"www-authenticate": "Bearer"} if isinstance(error, NotAuthenticated) else None
    return JSONResponse({"error": body}, error.status, headers)


async def _hanse_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HanseError)
    return _answer(error, error.details if isinstance(error, Invalid) else None)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "refused")
    message = (
        f"there is no {request.method} {request.url.path}" if error.status_code in (404, 405) else str(error.detail)
    )
    return JSONResponse({"error": {"code": code, "message": message[:500]}}, error.status_code, error.headers)


async def _query_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    details = [{"field": ".".join(str(p) for p in e["loc"][1:]), "message": str(e["msg"])} for e in error.errors()]
    return _answer(Invalid(details), details)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    fault = passing(error)
    if fault:
        _log.warning("%s %s: %s", request.method, request.url.path, fault)
        return _answer(StorageFailed(f"the coordinator's storage failed ({fault}); try again in a moment"))
    _log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(HanseError("the coordinator could not do this; its log has the details"))
