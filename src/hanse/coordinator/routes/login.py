"""Logins by an OpenID provider: for the page, and for a command line."""

from __future__ import annotations

import asyncio
import contextlib
import html
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from hanse.coordinator.access import account, address, bearer, coordinator, note_refusal
from hanse.coordinator.logins import Logins
from hanse.coordinator.oidc import Pending
from hanse.coordinator.schemas import DeviceLogin, LoginCode, documented, read
from hanse.errors import HanseError, NotAllowed, NotAuthenticated, NotFound

router = APIRouter(tags=["login"])
_COOKIE = "hanse_login"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Not logged in</title>
<link rel="stylesheet" href="/page/style.css"><main id="main" class="signin"><h1>You are not logged in</h1>
<p role="alert">{}</p>
<p><a class="button main" href="/login">Log in again</a> <a href="/">or with a token</a></p></main>
"""  # for a browser, which is not on the page then


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


@contextlib.contextmanager
def _noting(request: Request) -> Iterator[None]:
    """Writes down who is not let in, as often as whoever guesses tokens."""
    try:
        yield
    except (NotAuthenticated, NotAllowed) as error:
        note_refusal(request, code=error.code, reason=error.message[:500])
        raise


@router.get("/api/login")
async def ways(request: Request) -> dict[str, Any]:
    """Whether one can log in by an OpenID provider, and which."""
    it = coordinator(request)
    return {"oidc": it.oidc is not None, "issuer": it.oidc.provider.issuer if it.oidc else None}


@router.get("/login")
async def begin(request: Request) -> Response:
    """Sends a browser to the provider."""
    base = coordinator(request).settings.url or str(request.base_url)
    try:
        logins = _logins(request)
        _attempt(request)
        to, browser = await asyncio.to_thread(logins.begin, base.rstrip("/") + "/login/callback")
    except HanseError as why:
        return _in_a_browser(request, why)
    answer = RedirectResponse(to, 303)
    _keep(answer, browser, base)
    return answer


@router.get("/login/callback")
async def come_back(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Where the provider sends the browser back to; the page finds a code for its session behind the #."""
    logins, browser = _logins(request), request.cookies.get(_COOKIE, "")
    try:
        with _noting(request):
            found = await asyncio.to_thread(logins.come_back, state, code, browser, error)
    except HanseError as why:
        return _in_a_browser(request, why)
    return RedirectResponse(f"/#/login/{found}", 303)


@router.post("/api/login/session", openapi_extra=documented(LoginCode))
async def session(request: Request) -> Response:
    """The token of the session, once, against the code that the browser came back with."""
    body, logins = await read(request, LoginCode), _logins(request)
    with _noting(request):
        token = logins.redeem(body.code, request.cookies.get(_COOKIE, ""))
    answer = JSONResponse({"token": token})
    answer.delete_cookie(_COOKIE)
    return answer


@router.delete("/api/login/session")
async def log_out(request: Request) -> dict[str, bool]:
    """Ends the session whose token is shown. An API token is none, and stays what it is: ``{"ended": false}``."""
    it = coordinator(request)
    ended = it.oidc is not None and it.oidc.end(bearer(request))
    if ended:
        it.chronicle.note("account.logout", actor=account(request).name, detail={"account": account(request).id})
    return {"ended": ended}


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
        with _noting(request):
            return JSONResponse({"token": await asyncio.to_thread(logins.poll_device, body.login)})
    except Pending:
        return JSONResponse({"pending": True}, 202)


def _in_a_browser(request: Request, why: HanseError) -> Response:
    """The error as a page, where a person looks. Raises it where a program does."""
    if "text/html" not in request.headers.get("accept", ""):
        raise why
    return HTMLResponse(_PAGE.format(html.escape(why.message)), why.status)


def _keep(answer: Response, browser: str, base: str) -> None:
    secure = base.startswith("https")
    answer.set_cookie(_COOKIE, browser, max_age=900, httponly=True, samesite="lax", secure=secure)
