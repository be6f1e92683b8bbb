"""Statistics for the page: what can be asked, and what a run of them gave."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from hanse.coordinator.access import check_reading, coordinator
from hanse.coordinator.routes.mllabiome import visible
from hanse.errors import NotFound

router = APIRouter(tags=["statistics"])


@router.get("/api/statistics")
async def statistics(request: Request) -> dict[str, Any]:
    """Every statistic, with its arguments; a run of them is proposed like any other."""

    def offered() -> list[dict[str, Any]]:
        from hanse.coordinator.statistics_view import offered  # a megabyte, which other runs do not use

        return offered()

    return {"statistics": await asyncio.to_thread(offered)}


@router.get("/api/runs/{session_id}/statistics")
async def of_run(request: Request, session_id: str) -> dict[str, Any]:
    """What a completed run of statistics gave: rows per column, tables, pictures as descriptions, notes."""
    run = await visible(request, session_id)
    await check_reading(request, run, "statistics")
    store = coordinator(request).store

    def read() -> dict[str, Any]:
        from hanse.coordinator.statistics_view import shown

        model = store.models.latest(session_id)
        if model is None:
            raise NotFound(f"run {session_id} is {run.state}; it has no result yet")
        bundle = store.runs.bundle(session_id)
        asked = {node: int(one.get("most_rows") or 0) for node, one in bundle["datasets"].items()}
        steps = store.rounds.list(session_id)
        failures = {node: str(why) for one in steps for node, why in dict(one.record["failures"]).items()}
        record = store.blobs.get(model.sha)
        found = shown(record, bundle["alignment"]["kinds"], failures, session_id, asked)
        return {"session_id": session_id, **found}

    return await asyncio.to_thread(read)
