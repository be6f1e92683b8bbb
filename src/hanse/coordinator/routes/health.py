"""Whether the coordinator works: for load balancers, service managers and Prometheus."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from hanse import validity
from hanse.coordinator.health import Examiner, Health

router = APIRouter(tags=["health"])


def examiner(request: Request) -> Examiner:
    """The one of this application."""
    found: Examiner = request.app.state.examiner
    return found


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Whether it works, or needs a restart (503): runs without a driver, a port for nodes that does not answer."""
    found = await examiner(request).health()
    return _answer(found, found.alive, "healthy" if found.ready else "degraded" if found.alive else "unhealthy")


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """Whether it can do all that it is for; 503 also where the database cannot be written, or the disk is full."""
    found = await examiner(request).health()
    return _answer(found, found.ready, "ready" if found.ready else "not ready")


def _answer(found: Health, good: bool, status: str) -> JSONResponse:
    looks = {name: said or "ok" for name, said in found.looks.items()}
    body: dict[str, Any] = {
        "status": status,
        "timestamp": validity.now().isoformat(),
        "checks": looks,
        "warnings": found.warnings,
    }
    return JSONResponse(body, 200 if good else 503)
