"""The page, and what the address says to programs."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

import hanse
from hanse.coordinator.access import TABLE
from hanse.errors import NotFound

router = APIRouter(tags=["page"])
FOLDER = Path(__file__).resolve().parent.parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}


_STYLE = "body{font:15px system-ui;margin:2em}td{padding:.2em 1em .2em 0;vertical-align:top}"


@router.get("/")
async def root(request: Request) -> Response:
    """The page for a browser; name, version and routes for a program."""
    if "text/html" in request.headers.get("accept", "") and (FOLDER / "index.html").is_file():
        return FileResponse(FOLDER / "index.html", media_type=TYPES[".html"], headers={"cache-control": "no-cache"})
    endpoints = [f"{method} {path}" for method, path in TABLE]
    return JSONResponse(
        {
            "name": "Hanse coordinator",
            "version": hanse.__version__,
            "status": "healthy",
            "api": "/openapi.json",
            "endpoints": endpoints,
            "timestamp": datetime.now(UTC).isoformat(),
        }
    )


@router.get("/page/{name}")
async def page_file(request: Request, name: str) -> Response:
    """A file of the page."""
    known = {p.name for p in FOLDER.iterdir() if p.is_file()} if FOLDER.is_dir() else set()
    kind = TYPES.get(Path(name).suffix)
    if name not in known or kind is None:
        raise NotFound(f"the page has no file {name[:100]!r}")
    return FileResponse(FOLDER / name, media_type=kind, headers={"cache-control": "no-cache"})


@router.get("/openapi.json")
async def openapi(request: Request) -> dict[str, Any]:
    """The machine-readable form of this interface."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


@router.get("/docs")
async def docs(request: Request) -> Response:
    """All routes on one page that loads nothing from elsewhere."""
    rows = []
    for path, methods in sorted(request.app.openapi()["paths"].items()):
        for method, about in methods.items():
            roles = ", ".join(sorted(r.replace("_", " ") for r in TABLE.get((method.upper(), path), ()))) or "everybody"
            rows.append(
                f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td><td>{roles}</td>"
                f"<td>{escape(str(about.get('description', '')))}</td></tr>"
            )
    mark = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()  # this style, and no other
    policy = f"default-src 'none'; style-src 'sha256-{mark}'; frame-ancestors 'none'; base-uri 'none'"
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Hanse: REST</title>"
        f"<style>{_STYLE}</style>"
        "<h1>Hanse coordinator: REST</h1><p>The machine-readable form is <a href='/openapi.json'>openapi.json</a>.</p>"
        f"<table><tr><th>Method<th>Path<th>Who<th>What</tr>{''.join(rows)}</table></html>",
        headers={"content-security-policy": policy},
    )
