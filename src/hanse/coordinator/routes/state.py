"""``federated_state.json``: out and in."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from hanse.coordinator.access import account, coordinator
from hanse.coordinator.schemas import read_object

router = APIRouter(tags=["state"])


@router.get("/api/state")
async def export(request: Request) -> dict[str, Any]:
    """Nodes and runs, without secrets."""
    it = coordinator(request)
    return await asyncio.to_thread(it.store.state_file.export_state)


@router.post("/api/state")
async def bring_in(request: Request) -> dict[str, Any]:
    """Merges an exported state."""
    it = coordinator(request)
    state = await read_object(request)
    done = await asyncio.to_thread(it.store.state_file.import_state, state, account(request).name)
    return {"added": list(done.added), "updated": list(done.updated), "skipped": list(done.skipped)}
