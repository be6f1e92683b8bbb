"""Runs that the data scientist's own program leads, such as the ServerApp of a Flower app: what it asks, what came
back."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from hanse import algorithms
from hanse.config import RunConfig
from hanse.coordinator.access import check_reading, coordinator, own_run
from hanse.coordinator.routes.mllabiome import visible
from hanse.errors import Conflict, NotFound
from hanse.messages import Record, dump, load
from hanse.registry import find
from hanse.store.runs import StoredRun
from hanse.store.states import TERMINAL

router = APIRouter(tags=["runs"])
Step = Annotated[int, Path(ge=0, le=1_000_000_000)]


@router.get("/api/runs/{session_id}/messages")
async def waiting(request: Request, session_id: str) -> dict[str, Any]:
    """The step that the run waits for; null while it works, or does not run. Asking is a sign of life."""
    run = await _led(request, session_id)
    step = await coordinator(request).runs.desk.step(session_id, 0, 0)
    return {"session_id": session_id, "state": str(run.state), "reason": run.reason, "step": step}


@router.post("/api/runs/{session_id}/messages/{step}", status_code=202)
async def say(request: Request, session_id: str, step: Step) -> dict[str, Any]:
    """Says what a step asks, as a record of Hanse in safetensors. The same again changes nothing."""
    run = await _led(request, session_id)
    if run.state in TERMINAL:
        raise Conflict(f"run {session_id} is {run.state}. {run.reason or ''}".strip())
    said = load(await request.body())
    coordinator(request).runs.desk.say(session_id, step, said)
    return {"session_id": session_id, "step": step}


@router.get("/api/runs/{session_id}/messages/{step}")
async def came_back(
    request: Request, session_id: str, step: Step, wait: Annotated[float, Query(ge=0, le=30)] = 0
) -> Response:
    """What came back of a step, as a record of Hanse; 202 with the step that the run waits for, while it has not."""
    run = await _led(request, session_id)
    await check_reading(request, run, "model")
    it = coordinator(request)
    at = await it.runs.desk.step(session_id, step, 0 if run.state in TERMINAL else wait)
    run = await asyncio.to_thread(it.store.runs.get, session_id)

    def look() -> bytes | None:
        try:
            state = it.store.rounds.load(session_id, step)
        except NotFound:
            return None
        found: Record = find("algorithms", _algorithm(run)).returned(state)
        return dump(found)

    raw = await asyncio.to_thread(look)
    if raw is not None:
        return Response(raw, media_type="application/octet-stream")
    return JSONResponse({"session_id": session_id, "state": str(run.state), "reason": run.reason, "step": at}, 202)


async def _led(request: Request, session_id: str) -> StoredRun:
    """The run, of who proposed it. Raises ``NotFound``, ``NotAllowed``, ``Conflict``."""
    run = await visible(request, session_id)
    own_run(request, run.proposer)
    if not hasattr(find("algorithms", _algorithm(run)), "returned"):
        raise Conflict(f"run {session_id} is led by the coordinator, so nobody says what it asks")
    return run


def _algorithm(run: StoredRun) -> str:
    return algorithms.resolve(RunConfig.read(run.config))
