"""Accounts, and who one is."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

import hanse
from hanse.coordinator.access import account, coordinator
from hanse.coordinator.schemas import NewAccount, NodeLink, documented, read

router = APIRouter(tags=["accounts"])


@router.get("/api/me")
async def me(request: Request) -> dict[str, Any]:
    """Whose token this is."""
    it, who = coordinator(request), account(request)
    it.chronicle.note("account.login", actor=who.name, detail={"account": who.id})
    about = {
        "version": hanse.__version__,
        "heartbeat_interval_s": it.presence.heartbeat_s,
        "address": it.settings.address,
    }
    return {"account": who.public(), "coordinator": about}


@router.get("/api/accounts")
async def accounts(request: Request) -> dict[str, Any]:
    """All accounts, without their tokens."""
    found = await asyncio.to_thread(coordinator(request).store.accounts.list)
    return {"accounts": [a.public() for a in found]}


@router.post("/api/accounts", status_code=201, openapi_extra=documented(NewAccount))
async def new_account(request: Request) -> dict[str, Any]:
    """A new account; its token is shown only now."""
    body = await read(request, NewAccount)
    made, token = await asyncio.to_thread(
        coordinator(request).store.accounts.create_account,
        body.name,
        body.role,
        body.nodes,
        actor=account(request).name,
    )
    return {"account": made.public(), "token": token}


@router.post("/api/accounts/{account_id}/token")
async def rotate(request: Request, account_id: str) -> dict[str, Any]:
    """A new token; the old one is worth nothing from now on."""
    store = coordinator(request).store
    token = await asyncio.to_thread(store.accounts.rotate_token, account_id, actor=account(request).name)
    return {"account": (await asyncio.to_thread(store.accounts.get, account_id)).public(), "token": token}


@router.post("/api/accounts/{account_id}/disable")
async def disable(request: Request, account_id: str) -> dict[str, Any]:
    """From now on the account's token opens nothing."""
    store = coordinator(request).store
    return (await asyncio.to_thread(store.accounts.disable, account_id, actor=account(request).name)).public()


@router.post("/api/accounts/{account_id}/nodes", openapi_extra=documented(NodeLink))
async def link(request: Request, account_id: str) -> dict[str, Any]:
    """Makes a data owner decide for a node."""
    body = await read(request, NodeLink)
    store = coordinator(request).store
    return (await asyncio.to_thread(store.accounts.link, account_id, body.node, actor=account(request).name)).public()


@router.delete("/api/accounts/{account_id}/nodes/{node_id}")
async def unlink(request: Request, account_id: str, node_id: str) -> dict[str, Any]:
    """The account no longer decides for the node."""
    store = coordinator(request).store
    return (await asyncio.to_thread(store.accounts.unlink, account_id, node_id, actor=account(request).name)).public()
