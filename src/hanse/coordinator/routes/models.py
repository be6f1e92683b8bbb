"""Model versions, and what changed from one to another, of the same run or of two."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from hanse.coordinator import brought_in
from hanse.coordinator.access import account, coordinator, operates
from hanse.coordinator.routes.mllabiome import visible
from hanse.errors import ConfigError, NotFound
from hanse.messages import Json
from hanse.store import Store
from hanse.store.models import ModelVersion, best_of, difference

router = APIRouter(tags=["models"])


@router.get("/api/models")
async def models(request: Request, run: str | None = None, sha: str | None = None) -> dict[str, Any]:
    """Model versions of one run, with which is the best and the last; the own ones that are a model, by its
    SHA-256; or the latest of every run."""
    store, whose = coordinator(request).store, None if operates(request) else account(request).name
    if run is not None:
        await visible(request, run)

    def look() -> list[dict[str, Json]]:
        if sha is not None:
            named = store.models.named(sha)
            return [m.public() for m in named if whose in (None, store.runs.get(m.run).proposer)]
        if run is not None:
            found = store.models.list(run)
            best = best_of(found)
            return [{**m.public(), "best": m is best, "last": m is found[-1]} for m in found]
        sight = coordinator(request).sees(account(request))
        done = [r for r in store.runs.list({"completed"}, limit=1000) if sight.run(r)]
        return [m.public() for m in (store.models.latest(r.id) for r in done) if m is not None]

    return {"models": await asyncio.to_thread(look)}


@router.post("/api/models", status_code=201)
async def bring_in(request: Request) -> JSONResponse:
    """A model that was learned elsewhere, as a safetensors file of Hanse: a run can go on from it."""
    raw, store, who = await request.body(), coordinator(request).store, account(request).name
    version, new = await asyncio.to_thread(brought_in.bring_in, store, raw, who)
    return JSONResponse(version.public(), 201 if new else 200)


@router.get("/api/models/compare")
async def compare(request: Request, first: str, second: str) -> dict[str, Any]:
    """From the first to the second: positive differences are better, smaller is a negative size."""
    store = coordinator(request).store
    a, b = await asyncio.to_thread(lambda: (_version(store, first), _version(store, second)))
    for version in (a, b):
        await visible(request, version.run)
    return {"first": a.public(), "second": b.public(), **dataclasses.asdict(difference(a, b))}


def _version(store: Store, text: str) -> ModelVersion:
    run, colon, version = text.rpartition(":")
    if colon and version in ("best", "last"):
        found = store.models.best(run) if version == "best" else store.models.latest(run)
        if found is None:
            raise NotFound(f"run {run[:100]!r} has no {version} model version")
        return found
    if not colon or not version.isdigit() or len(version) > 9:
        raise ConfigError(f"{text[:100]!r} does not name a model version; expected RUN:VERSION, RUN:best or RUN:last")
    return store.models.get(run, int(version))
