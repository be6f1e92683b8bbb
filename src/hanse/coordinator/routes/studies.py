"""Studies: the operator makes them, and says who and which nodes are in."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from hanse.coordinator.access import account, coordinator
from hanse.coordinator.schemas import NewStudy, StudyChange, documented, read
from hanse.coordinator.study_budget import shown
from hanse.store.studies import StudyBounds

router = APIRouter(tags=["studies"])


@router.get("/api/studies")
async def studies(request: Request) -> dict[str, Any]:
    """Those that one is in; of a data owner, those with an own node; of an operator, all."""
    who, store = account(request), coordinator(request).store
    return {"studies": await asyncio.to_thread(lambda: [shown(store, study) for study in store.studies.of(who)])}


@router.post("/api/studies", status_code=201, openapi_extra=documented(NewStudy))
async def make(request: Request) -> dict[str, Any]:
    """A new study; people are named as their accounts are."""
    body, store = await read(request, NewStudy), coordinator(request).store
    told = (body.name, body.purpose, body.people, body.nodes, _bounds(body))
    return await asyncio.to_thread(lambda: shown(store, store.studies.make(*told, actor=account(request).name)))


@router.post("/api/studies/{study}", openapi_extra=documented(StudyChange))
async def change(request: Request, study: str) -> dict[str, Any]:
    """Another purpose, other people, nodes or bounds; what is not named stays. Runs that were proposed go on."""
    body, store = await read(request, StudyChange), coordinator(request).store

    told = (body.purpose, body.people, body.nodes, _bounds(body))
    return await asyncio.to_thread(
        lambda: shown(store, store.studies.change(study, *told, actor=account(request).name))
    )


@router.post("/api/studies/{study}/close")
async def close(request: Request, study: str) -> dict[str, Any]:
    """Nothing is proposed in it from now on."""
    store = coordinator(request).store
    return await asyncio.to_thread(lambda: shown(store, store.studies.close(study, actor=account(request).name)))


def _bounds(body: NewStudy | StudyChange) -> StudyBounds:
    return StudyBounds(None if body.ends is None else body.ends.timestamp(), body.most_epsilon, body.most_delta)
