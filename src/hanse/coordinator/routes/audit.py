"""The coordinator's audit log."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from hanse.coordinator.access import coordinator

router = APIRouter(tags=["audit"])


@router.get("/api/audit")
async def entries(
    request: Request,
    since: Annotated[int, Query(ge=0, le=1 << 62)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 500,
) -> dict[str, Any]:
    """Entries after ``since``, oldest first."""
    found = await asyncio.to_thread(coordinator(request).store.audit.entries, since, limit)
    return {"entries": [e._asdict() for e in found]}


@router.get("/api/audit/verify")
async def verify(request: Request) -> dict[str, Any]:
    """Whether the chain is whole."""
    audit = coordinator(request).store.audit
    verdict, head = await asyncio.to_thread(lambda: (audit.verify(), audit.head))
    return {**asdict(verdict), "head": list(head)}
