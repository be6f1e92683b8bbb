"""mllabiome's routes, with its field names."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from hanse.coordinator import as_documented, course, registry, sessions, training_metrics
from hanse.coordinator.access import account, address, coordinator, operates, own_node, own_run
from hanse.coordinator.schemas import (
    ConsentGiven,
    Heartbeat,
    Reason,
    Registration,
    checked,
    documented,
    read,
    read_object,
)
from hanse.errors import NotAllowed, NotFound
from hanse.store.accounts import Role, UserAccount
from hanse.store.database import iso
from hanse.store.nodes import REVOKED, Node
from hanse.store.runs import StoredRun
from hanse.store.states import RunState

router = APIRouter(tags=["mllabiome"])
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=10**9)]


@router.post("/api/clients/register", status_code=201, openapi_extra=documented(Registration))
async def register(request: Request) -> JSONResponse:
    """Registers a node with a summary of its data."""
    raw, weak = as_documented.registration(await read_object(request))
    body = checked(raw, Registration)
    summary = body.model_dump(exclude={"client_id", "capabilities"}, exclude_none=True)
    registry.check_summary(summary)
    it = coordinator(request)
    node, new, said = await asyncio.to_thread(
        registry.register,
        it.store,
        it.settings,
        account(request),
        body.client_id,
        summary,
        body.capabilities,
        address(request),
    )
    it.presence.heard(node.id)
    if new:
        it.chronicle.note("node.registered", node=node.id, actor=account(request).name)
    return JSONResponse(
        {
            "client_id": node.id,
            "status": "registered",
            "registered_at": iso(node.registered_at),
            "heartbeat_interval_s": it.presence.heartbeat_s,
            "warnings": [*weak, *said],
        },
        201 if new else 200,
    )


@router.get("/api/clients")
async def clients(
    request: Request, status: Annotated[str | None, Query(pattern="^(online|stale|offline)$")] = None, include: str = ""
) -> dict[str, Any]:
    """Registered nodes with their summaries."""
    it = coordinator(request)
    listed = [registry.client(n, it.presence, it.settings, include == "features") for n in await _nodes(request)]
    shown = [c for c in listed if status is None or c["status"] == status]
    return {"clients": shown, "total": len(shown), "online": sum(c["status"] == "online" for c in shown)}


@router.post("/api/clients/{client_id}/heartbeat", openapi_extra=documented(Heartbeat))
async def heartbeat(request: Request, client_id: str) -> dict[str, Any]:
    """Signals that the node is alive; answers with what waits for its owner."""
    body = await read(request, Heartbeat)
    it = coordinator(request)
    node = await asyncio.to_thread(it.store.nodes.get, client_id)  # unknown is 404, also for those who may not ask
    own_node(request, client_id)
    registry.check_enrolled(node)
    heard = await it.heartbeat(client_id, body.busy)
    waiting = await asyncio.to_thread(it.runs.consent.pending, client_id)
    actions = [
        {"action": "consent", "session_id": r.id, "code_hash": r.bundle_hash, "expires_at": iso(r.expires)}
        for r in waiting
    ]
    return {"client_id": client_id, "last_heartbeat": iso(heard), "pending_actions": actions}


@router.get("/api/training/analyze")
async def analyze(request: Request, client_ids: str | None = None, tags: str = "", include: str = "") -> dict[str, Any]:
    """Union and intersection of the nodes' features, and their common metadata columns."""
    ids = None if client_ids is None else [c for c in client_ids.split(",") if c]
    wanted = [t for t in tags.split(",") if t]
    nodes = await _nodes(request)
    return await asyncio.to_thread(registry.analyze, nodes, ids, wanted, include == "features")


@router.post("/api/training/start", status_code=201)
async def start(request: Request) -> dict[str, Any]:
    """Proposes a run; the body is its settings."""
    raw = await read_object(request)
    it = coordinator(request)
    run, frozen, warnings = await it.runs.propose(raw, account(request).name, operates(request))
    shown = await asyncio.to_thread(sessions.full, it.store, run, frozen)
    return {**shown, "warnings": list(warnings)}


@router.get("/api/training/sessions")
async def list_sessions(
    request: Request, state: str | None = None, limit: Limit = 100, offset: Offset = 0
) -> dict[str, Any]:
    """Runs, newest first."""
    it, who = coordinator(request), account(request)
    states = None if state is None else [s for s in state.split(",") if s]

    def look() -> dict[str, Any]:
        sight = it.sees(who)
        if sight.all_runs:
            found, total = list(it.store.runs.list(states, limit=limit, offset=offset)), it.store.runs.count(states)
        else:
            own = [r for r in it.store.runs.list(states, limit=1_000_000) if sight.run(r)]
            found, total = own[offset : offset + limit], len(own)
        return {"sessions": [sessions.brief(it.store, r) for r in found], "total": total}

    return await asyncio.to_thread(look)


@router.get("/api/training/sessions/{session_id}")
async def session(request: Request, session_id: str) -> dict[str, Any]:
    """One run, with the code that its nodes would execute; for a data owner, while it waits for consent, what it asks
    that the last run which an own node agreed to did not."""
    run = await visible(request, session_id)
    store, who = coordinator(request).store, account(request)

    def look() -> dict[str, Any]:
        waits = run.state is RunState.AWAITING_CONSENT and who.role is Role.DATA_OWNER
        return {**sessions.full(store, run), "changes": sessions.changes(store, run, who.nodes) if waits else {}}

    return await asyncio.to_thread(look)


@router.post("/api/training/sessions/{session_id}/consent", openapi_extra=documented(ConsentGiven))
async def consent(request: Request, session_id: str) -> dict[str, Any]:
    """An owner accepts or rejects the hash that was proposed."""
    it = coordinator(request)
    given = await read_object(request)
    checked(given, ConsentGiven)  # what is no consent is said before whether there is such a run
    proposed = (await asyncio.to_thread(it.store.runs.get, session_id)).bundle_hash
    raw, weak = as_documented.consent(given, proposed)
    body = checked(raw, ConsentGiven)
    await asyncio.to_thread(it.store.nodes.get, body.client_id)  # 404
    own_node(request, body.client_id)
    reason = "; ".join(filter(None, [body.reason, as_documented.UNNAMED if weak else ""]))
    run = await it.runs.consent.decide_here(
        session_id, body.client_id, body.decision, raw["code_hash"], account(request).name, reason
    )
    shown = await asyncio.to_thread(sessions.brief, it.store, run)
    told = {k: shown[k] for k in ("session_id", "state", "consents", "remaining", "code_hash")}
    return {**told, "warnings": list(weak)}


@router.post("/api/training/sessions/{session_id}/execute", status_code=202)
async def execute(request: Request, session_id: str) -> dict[str, Any]:
    """Starts a run whose consents are all in."""
    await steered(request, session_id)
    run = await coordinator(request).runs.execute(session_id, account(request).name)
    return {"session_id": run.id, "state": str(run.state)}


@router.post("/api/training/sessions/{session_id}/cancel", openapi_extra=documented(Reason))
async def cancel(request: Request, session_id: str) -> dict[str, Any]:
    """Ends a run without a result."""
    await steered(request, session_id)
    body = await read(request, Reason)
    run = await coordinator(request).runs.cancel(session_id, account(request).name, body.reason)
    return {"session_id": run.id, "state": str(run.state)}


@router.post("/api/training/sessions/{session_id}/pause", openapi_extra=documented(Reason))
async def pause(request: Request, session_id: str) -> dict[str, Any]:
    """Holds a run before its next step."""
    await steered(request, session_id)
    body = await read(request, Reason)
    run = await coordinator(request).runs.pause(session_id, account(request).name, body.reason)
    return {"session_id": run.id, "state": str(run.state)}


@router.post("/api/training/sessions/{session_id}/resume", openapi_extra=documented(Reason))
async def resume(request: Request, session_id: str) -> dict[str, Any]:
    """Goes on with a paused run."""
    await steered(request, session_id)
    body = await read(request, Reason)
    run = await coordinator(request).runs.resume(session_id, account(request).name, body.reason)
    return {"session_id": run.id, "state": str(run.state)}


@router.get("/api/analytics/session/{session_id}")
async def session_analytics(
    request: Request,
    session_id: str,
    window: Annotated[int, Query(ge=1, le=1000)] = 3,
    tolerance: Annotated[float, Query(gt=0, le=1)] = 0.01,
) -> dict[str, Any]:
    """Curves, importance, contributions, convergence."""
    run = await visible(request, session_id)

    def look() -> dict[str, Any]:
        records = [r.public() for r in coordinator(request).store.rounds.list(session_id)]
        about = {
            "session_id": run.id,
            "state": str(run.state),
            "current_round": run.round,
            "num_rounds": run.config.get("num_rounds"),
        }
        found = course.session(about, records, run.nodes, window, tolerance)
        return {**found, "trends": training_metrics.trends(course.views(records))}

    return await asyncio.to_thread(look)


async def visible(request: Request, session_id: str) -> StoredRun:
    """The run, if the account may see it. Raises ``NotFound``, ``NotAllowed``."""
    it, who = coordinator(request), account(request)
    run = await asyncio.to_thread(it.store.runs.get, session_id)
    if not (await asyncio.to_thread(it.sees, who)).run(run):
        if who.role == "data_owner":
            raise NotAllowed(f"run {session_id} does not ask a node that {who.name} decides for")
        raise NotAllowed(f"run {session_id} is of a study that {who.name} is not in")
    return run


async def steered(request: Request, session_id: str) -> StoredRun:
    """The run, if the account may steer it."""
    run = await asyncio.to_thread(coordinator(request).store.runs.get, session_id)
    own_run(request, run.proposer)
    return run


async def visible_nodes(request: Request) -> list[Node]:
    """Those that the account may see, also revoked ones."""
    it, who = coordinator(request), account(request)

    def look() -> list[Node]:
        sight = it.sees(who)
        return [node for node in it.store.nodes.list() if sight.node(node.id)]

    return await asyncio.to_thread(look)


async def visible_node(request: Request, node_id: str) -> Node:
    """The node. Raises ``NotFound`` where there is none that the account may see."""
    it, who = coordinator(request), account(request)
    node = await asyncio.to_thread(it.store.nodes.get, node_id)
    if not (await asyncio.to_thread(it.sees, who)).node(node_id):
        raise NotFound(f"there is no node {node_id!r}")
    return node


async def _nodes(request: Request) -> list[Node]:
    return [n for n in await visible_nodes(request) if n.status != REVOKED]


__all__ = ["UserAccount", "router", "steered", "visible", "visible_node", "visible_nodes"]
