"""Nodes in our own words: list, join tokens, enrolment, revocation."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from hanse.coordinator import enrolment, registry
from hanse.coordinator.access import account, address, coordinator
from hanse.coordinator.routes.mllabiome import visible_node, visible_nodes
from hanse.coordinator.schemas import Enrolment, NewJoinToken, Reason, documented, read
from hanse.coordinator.service import Coordinator
from hanse.errors import ConfigError, NotFound
from hanse.identity import JoinToken
from hanse.store.database import iso
from hanse.store.nodes import Node

router = APIRouter(tags=["nodes"])


@router.get("/api/nodes")
async def nodes(request: Request) -> dict[str, Any]:
    """The nodes that one may see, also revoked ones."""
    it = coordinator(request)
    listed = [_view(it, n) for n in await visible_nodes(request)]
    return {"nodes": listed, "total": len(listed), "online": sum(n["status"] == "online" for n in listed)}


@router.get("/api/nodes/join-tokens")
async def join_tokens(request: Request) -> dict[str, Any]:
    """Join tokens, without their secrets."""
    found = await asyncio.to_thread(coordinator(request).store.nodes.join_tokens.list)
    return {"join_tokens": [t.public() for t in found]}


@router.post("/api/nodes/join-tokens", status_code=201, openapi_extra=documented(NewJoinToken))
async def new_join_token(request: Request) -> dict[str, Any]:
    """Invites one node; the token is shown only now."""
    body = await read(request, NewJoinToken)
    it = coordinator(request)
    if it.authority is None:
        raise ConfigError("this coordinator has no authority, so nodes cannot enrol")

    def make() -> tuple[Any, str]:
        owner = enrolment.owner_id(it.store, body.owner)
        return it.store.nodes.join_tokens.create(account(request).name, body.node, owner=owner, lifetime_s=body.valid_s)

    token, secret = await asyncio.to_thread(make)
    url = it.settings.url or str(request.base_url).rstrip("/")
    line = JoinToken(url, it.settings.address, secret, it.authority.fingerprint(), body.node or "")
    return {"id": token.id, "node": token.node, "expires": iso(token.expires), "token": line.encode()}


@router.delete("/api/nodes/join-tokens/{token_id}")
async def revoke_join_token(request: Request, token_id: str) -> dict[str, Any]:
    """Makes an unused token worthless."""
    it = coordinator(request)
    gone = await asyncio.to_thread(it.store.nodes.join_tokens.revoke, token_id, actor=account(request).name)
    return gone.public()


@router.get("/api/authority")
async def authority(request: Request) -> Response:
    """The certificate that nodes must know; they compare its SHA-256 with their join token's."""
    it = coordinator(request)
    if it.authority is None:
        raise NotFound("this coordinator has no authority, so nodes cannot enrol")
    return PlainTextResponse(it.authority.pem.decode(), media_type="application/x-pem-file")


@router.post("/api/nodes/enrol", status_code=201, openapi_extra=documented(Enrolment))
async def enrol(request: Request) -> dict[str, Any]:
    """A certificate against a join token's secret."""
    body = await read(request, Enrolment)
    asked = {"token": body.token, "node_id": body.node_id, "csr": body.csr}
    return dict(await coordinator(request).enrol(asked, address(request)))


@router.get("/api/nodes/{node_id}")
async def one_node(request: Request, node_id: str) -> dict[str, Any]:
    """One node, with the columns of its datasets."""
    it = coordinator(request)
    return _view(it, await visible_node(request, node_id), columns=True)


@router.post("/api/nodes/{node_id}/revoke", openapi_extra=documented(Reason))
async def revoke(request: Request, node_id: str) -> dict[str, Any]:
    """Shuts a node out, at once."""
    body = await read(request, Reason)
    it = coordinator(request)
    node = await asyncio.to_thread(it.store.nodes.revoke, node_id, actor=account(request).name, reason=body.reason)
    it.presence.disconnect(node_id, "the node was revoked")
    return _view(it, node)


@router.post("/api/nodes/{node_id}/reinstate", openapi_extra=documented(Reason))
async def reinstate(request: Request, node_id: str) -> dict[str, Any]:
    """Lets a revoked node in again."""
    body = await read(request, Reason)
    it = coordinator(request)
    node = await asyncio.to_thread(it.store.nodes.reinstate, node_id, actor=account(request).name, reason=body.reason)
    return _view(it, node)


def _view(it: Coordinator, node: Node, columns: bool = False) -> dict[str, Any]:
    return registry.node_view(node, it.presence, it.settings, columns, it.clocks.get(node.id, ""))
