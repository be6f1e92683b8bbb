"""What a run left: records of its steps, the bundle, the result."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

from hanse import algorithms, receipts
from hanse.bundle import Bundle
from hanse.coordinator import coefficients_view, evidence, model_card, sessions
from hanse.coordinator.access import check_reading, coordinator, own_node
from hanse.coordinator.routes.mllabiome import visible
from hanse.errors import NotFound, OtherRelease
from hanse.run_schema import run_schema
from hanse.store.states import RunState

router = APIRouter(tags=["runs"])


@router.get("/api/config/schema")
async def schema(request: Request) -> dict[str, Any]:
    """The settings of every run; the ingredients that they may name, by folder, with the settings of each
    (``apart``: where those of a folder stand, if not beside those of every run); and the algorithm that
    ``auto`` means, by model."""
    return await asyncio.to_thread(run_schema)


@router.get("/api/runs/{session_id}/rounds")
async def rounds(
    request: Request,
    session_id: str,
    after: Annotated[int, Query(ge=-1_000_000_000, le=1_000_000_000)] = -1,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> dict[str, Any]:
    """The records of the steps, in order."""
    await visible(request, session_id)
    found = await asyncio.to_thread(coordinator(request).store.rounds.list, session_id, after=after, limit=limit)
    return {"session_id": session_id, "rounds": [r.public() for r in found]}


@router.get("/api/runs/{session_id}/bundle")
async def bundle(request: Request, session_id: str) -> Response:
    """What owners consent to, as canonical JSON; its SHA-256 is the ``code_hash``."""
    await visible(request, session_id)
    frozen = Bundle(await asyncio.to_thread(coordinator(request).store.runs.bundle, session_id))
    if not frozen.content:
        raise NotFound(f"run {session_id} has not been proposed")
    return PlainTextResponse(frozen.text, media_type="application/json")


@router.get("/api/runs/{session_id}/evidence")
async def signed_evidence(request: Request, session_id: str) -> Response:
    """What happened in the run, as one signed file that ``hanse audit verify`` checks without this coordinator."""
    run = await visible(request, session_id)
    it = coordinator(request)
    if it.authority is None:
        raise NotFound("this coordinator has no authority, so nobody could sign the evidence")
    raw = await asyncio.to_thread(evidence.of_run, it.store, run, it.authority)
    headers = {"content-disposition": f'attachment; filename="{session_id}.evidence.zip"'}
    return Response(raw, media_type="application/zip", headers=headers)


@router.get("/api/runs/{session_id}/inclusion")
async def inclusion(request: Request, session_id: str, client_id: str) -> dict[str, Any]:
    """The way from what a node sent up to what this coordinator committed to, for each step that counted it. It is for
    the node's owner alone: it tells by which salt the node's replies are hidden."""
    await visible(request, session_id)
    own_node(request, client_id)
    found = await asyncio.to_thread(coordinator(request).store.rounds.list, session_id)
    shown = [{"step": r.step, **proof} for r in found if (proof := receipts.proof(r.receipts, client_id)) is not None]
    return {"run": session_id, "node": client_id, "steps": shown}


@router.get("/api/runs/{session_id}/model")
async def model(
    request: Request, session_id: str, version: Annotated[int | None, Query(ge=1, le=1 << 31)] = None
) -> Response:
    """The result record, as safetensors."""
    run = await visible(request, session_id)
    await check_reading(request, run, "model")
    store = coordinator(request).store

    def look() -> tuple[str, str]:
        found = store.models.latest(session_id) if version is None else store.models.get(session_id, version)
        if found is None:
            raise NotFound(f"run {session_id} is {run.state} and has no result")
        if not store.blobs.has(found.sha):
            raise NotFound(f"the model {found.sha[:12]} is not stored here; restore it from a backup")
        store.blobs.check(found.sha)
        return found.sha, str(store.blobs.path(found.sha))

    sha, path = await asyncio.to_thread(look)
    headers = {"etag": f'"{sha}"', "x-hanse-sha256": sha}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return FileResponse(
        path, media_type="application/octet-stream", headers=headers, filename=f"{session_id}.safetensors"
    )


@router.get("/api/runs/{session_id}/coefficients")
async def coefficients(request: Request, session_id: str) -> dict[str, Any]:
    """The regression table of a run's exact fit; of another model no terms, and why."""
    run = await visible(request, session_id)
    await check_reading(request, run, "model")  # which it says no more than
    store = coordinator(request).store

    def read() -> dict[str, Any]:
        model = store.models.latest(session_id)
        if model is None or run.state is not RunState.COMPLETED:
            raise NotFound(f"run {session_id} is {run.state} and has no result")
        return {"session_id": session_id, **coefficients_view.shown(store.blobs.get(model.sha))}

    return await asyncio.to_thread(read)


@router.get("/api/runs/{session_id}/card")
async def card(request: Request, session_id: str) -> Response:
    """A model card, as Markdown: which data, consent, code and protection the model came from, and how good it is."""
    run = await visible(request, session_id)
    await check_reading(request, run, "card")
    store = coordinator(request).store

    def write() -> str:
        versions = store.models.list(session_id)
        if (
            run.state is not RunState.COMPLETED
            or not versions
            or not algorithms.learns(str(run.config.get("federated_strategy", "auto")))
        ):
            raise NotFound(f"run {session_id} is {run.state} and has no model to tell of")
        frozen = Bundle(store.runs.bundle(session_id))
        if not frozen.content:
            raise NotFound(f"run {session_id} took place elsewhere; its card is there")
        if why := frozen.unread():
            raise OtherRelease(f"run {session_id} has no card here: {why}")
        steps = [r.public() for r in store.rounds.list(session_id)]
        return model_card.card(sessions.full(store, run, frozen), frozen, versions, steps)

    return PlainTextResponse(await asyncio.to_thread(write), media_type="text/markdown")
