"""Logins by an OpenID provider: for the page, and for a command line."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from hanse.coordinator.access import address, coordinator
from hanse.coordinator.logins import Logins
from hanse.coordinator.oidc import Pending
from hanse.coordinator.schemas import DeviceLogin, LoginCode, documented, read
from hanse.errors import HanseError, NotFound

router = APIRouter(tags=["login"])
_COOKIE = "hanse_login"


def _logins(request: Request) -> Logins:
    found: Logins | None = coordinator(request).oidc
    if found is None:
        raise NotFound("this coordinator has no OpenID provider; log in with a token")
    return found


def _attempt(request: Request) -> None:
    """Counts a login that is begun: each keeps something in memory, and asks the provider."""
    attempts = coordinator(request).logins
    attempts.check(address(request))
    attempts.failed(address(request))


def _refused(request: Request, error: HanseError) -> None:
    detail = {"address": address(request), "code": error.code, "reason": error.message[:500]}
    coordinator(request).chronicle.note("account.refused", actor="unknown", detail=detail)


@router.get("/api/login")
async def ways(request: Request) -> dict[str, Any]:
    """Whether one can log in by an OpenID provider, and which."""
    it = coordinator(request)
    return {"oidc": it.oidc is not None, "issuer": it.oidc.provider.issuer if it.oidc else None}


@router.get("/login")
async def begin(request: Request) -> Response:
    """Sends a browser to the provider."""
    logins = _logins(request)
    _attempt(request)
    base = coordinator(request).settings.url or str(request.base_url)
    to, browser = await asyncio.to_thread(logins.begin, base.rstrip("/") + "/login/callback")
    answer = RedirectResponse(to, 303)
    _keep(answer, browser, base)
    return answer


@router.get("/login/callback")
async def come_back(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Where the provider sends the browser back to; the page finds a code for its session behind the #."""
    logins, browser = _logins(request), request.cookies.get(_COOKIE, "")
    try:
        found = await asyncio.to_thread(logins.come_back, state, code if not error else "", browser)
    except HanseError as refused:
        _refused(request, refused)
        raise
    return RedirectResponse(f"/#/login/{found}", 303)


@router.post("/api/login/session", openapi_extra=documented(LoginCode))
async def session(request: Request) -> Response:
    """The token of the session, once, against the code that the browser came back with."""
    body, logins = await read(request, LoginCode), _logins(request)
    try:
        token = logins.redeem(body.code, request.cookies.get(_COOKIE, ""))
    except HanseError as refused:
        _refused(request, refused)
        raise
    answer = JSONResponse({"token": token})
    answer.delete_cookie(_COOKIE)
    return answer


@router.post("/api/login/device")
async def begin_device(request: Request) -> dict[str, Any]:
    """Begins a login without a browser here: a code to be typed at the provider."""
    logins = _logins(request)
    _attempt(request)
    return await asyncio.to_thread(logins.begin_device)


@router.post("/api/login/device/token", openapi_extra=documented(DeviceLogin))
async def device_token(request: Request) -> Response:
    """The token of the session, once the code was typed; 202 until then."""
    body, logins = await read(request, DeviceLogin), _logins(request)
    try:
        return JSONResponse({"token": await asyncio.to_thread(logins.poll_device, body.login)})
    except Pending:
        return JSONResponse({"pending": True}, 202)
    except HanseError as refused:
        _refused(request, refused)
        raise


def _keep(answer: Response, browser: str, base: str) -> None:
    secure = base.startswith("https")
    answer.set_cookie(_COOKIE, browser, max_age=900, httponly=True, samesite="lax", secure=secure)
