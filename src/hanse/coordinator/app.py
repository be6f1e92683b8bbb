"""The web application: routes, and one way for all errors."""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import hanse
from hanse.coordinator.access import authorize
from hanse.coordinator.guard import Guard, answer
from hanse.coordinator.health import Examiner
from hanse.coordinator.routes import ROUTERS
from hanse.coordinator.schemas import Invalid
from hanse.coordinator.service import Coordinator
from hanse.errors import HanseError

_CODES = {404: "not_found", 405: "not_allowed_here", 413: "too_large", 422: "config"}


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


async def _hanse_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HanseError)
    return answer(error, error.details if isinstance(error, Invalid) else None)


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
    return answer(Invalid(details), details)
