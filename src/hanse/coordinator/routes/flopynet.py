"""FLOPY-NET's routes: the same objects in the words of its document."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from hanse.config import RunConfig
from hanse.coordinator import capabilities, exposition, registry, summaries, training_metrics
from hanse.coordinator.access import account, address, anonymous, coordinator, operates, own_run
from hanse.coordinator.routes.health import examiner, health
from hanse.coordinator.routes.mllabiome import visible, visible_node, visible_nodes
from hanse.coordinator.schemas import FlopyRegistration, documented, read, read_object
from hanse.errors import ConfigError, Conflict, NotFound
from hanse.messages import Json
from hanse.store.nodes import REVOKED, Node
from hanse.store.runs import StoredRun
from hanse.store.states import TERMINAL, RunState

router = APIRouter(tags=["FLOPY-NET"])
STATUS = {
    "pending": "waiting_for_clients",
    "awaiting_consent": "waiting_for_clients",
    "running": "training",
    "paused": "paused",
    "stopping": "training",
    "completed": "completed",
    "failed": "error",
    "rejected": "rejected",
    "expired": "expired",
    "cancelled": "cancelled",
}


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


@router.get("/status")
async def status(request: Request, run: str | None = None) -> Any:
    """State and progress of the run. Without a token, as health checks ask: what ``GET /health`` says, and no run."""
    if anonymous(request):
        return await health(request)
    it, found = coordinator(request), await _the_run(request, run)
    registered = await _clients(request)
    body: dict[str, Any] = {
        "status": "ready",
        "run": None,
        "rounds": None,
        "current_round": None,
        "max_rounds": None,
        "clients": len(it.presence.online()),
        "registered_clients": len(registered),
        "current_accuracy": None,
        "estimated_completion": None,
        "training_active": False,
        "training_paused": False,
        "pause_reason": None,
        "stop_reason": None,
        "timestamp": now(),
    }
    if found is None:
        return body
    records = await asyncio.to_thread(_records, it.store, found)
    measured = training_metrics.metrics(records)
    total, done = int(found.config.get("num_rounds", 0)), measured["rounds"]
    mean = measured["average_round_time"]
    ends = None
    if mean is not None and str(found.state) == "running":
        ends = (datetime.now(UTC) + timedelta(seconds=mean * max(0, total - done))).isoformat()
    accuracies = [a for a in measured["accuracy"] if a is not None]
    return {
        **body,
        "status": STATUS[str(found.state)],
        "run": found.id,
        "rounds": done,
        "current_round": found.round,
        "max_rounds": total,
        "current_accuracy": accuracies[-1] if accuracies else None,
        "estimated_completion": ends,
        "training_active": str(found.state) in ("running", "stopping"),
        "training_paused": str(found.state) == "paused",
        "pause_reason": (found.reason or None) if found.state is RunState.PAUSED else None,
        "stop_reason": (found.reason or None) if found.state in TERMINAL else None,
    }


@router.post("/start", status_code=202)
async def start(request: Request) -> dict[str, Any]:
    """Starts a run that has its consents, or proposes one."""
    raw = await read_object(request)
    it, who = coordinator(request), account(request)
    chosen = raw.get("session_id")
    if "session_id" in raw and (len(raw) > 1 or not isinstance(chosen, str)):
        raise ConfigError("give a session_id (text) alone, or the settings of a run")
    running = await asyncio.to_thread(it.store.runs.list, {"running"}, limit=1)
    if chosen is None and running:
        raise Conflict(f"run {running[0].id} is running; wait for it, or name a session_id")
    if raw and chosen is None:
        settings, _ = await asyncio.to_thread(it.runs.read, raw)
        _enough(len(it.presence.online()), RunConfig.parse(settings).min_available_nodes)
        run, _, warnings = await it.runs.propose(raw, who.name, operates(request))
        return _started(run, warnings)

    def ready() -> StoredRun | None:
        waiting = it.store.runs.list({"awaiting_consent"}, limit=1000)
        return next((r for r in waiting if it.store.consents.tally(r.id).complete), None)

    found = await asyncio.to_thread(it.store.runs.get, chosen) if chosen else await asyncio.to_thread(ready)
    if found is None:
        raise Conflict("no run has all its consents; propose one with its settings, or wait for the owners")
    own_run(request, found.proposer)
    _enough(len(it.presence.online() & set(found.nodes)), int(found.config.get("min_available_nodes", 1)))
    return _started(await it.runs.execute(found.id, who.name))


def _started(run: StoredRun, warnings: Sequence[str] = ()) -> dict[str, Any]:
    state = str(run.state)
    return {"status": STATUS[state], "session_id": run.id, "state": state, "warnings": list(warnings)}


@router.get("/metrics")
async def metrics(request: Request, run: str | None = None) -> Response:
    """Accuracy, loss and participation per round, and what follows from them. Who asks for text, as Prometheus does,
    gets the figures of the coordinator itself in its format."""
    if run is None and _wants_text(request.headers.get("accept", "")):
        sight = await asyncio.to_thread(coordinator(request).sees, account(request))
        told = exposition.text(await exposition.figures(coordinator(request), examiner(request), sight.node))
        return Response(told, media_type=exposition.CONTENT_TYPE)
    found = await _the_run(request, run)
    records = [] if found is None else await asyncio.to_thread(_records, coordinator(request).store, found)
    return JSONResponse({"run": None if found is None else found.id, **training_metrics.metrics(records)})


def _wants_text(accept: str) -> bool:
    return "json" not in accept and ("text/plain" in accept or "openmetrics" in accept)


@router.get("/clients")
async def clients(request: Request) -> dict[str, Any]:
    """Registered nodes."""
    listed = [_shown(request, node) for node in await _clients(request)]
    return {"clients": listed, "total": len(listed), "connected": sum(bool(c["connected"]) for c in listed)}


@router.post("/register", status_code=201, openapi_extra=documented(FlopyRegistration))
async def register(request: Request) -> JSONResponse:
    """Registers a node with what it can do."""
    body = await read(request, FlopyRegistration)
    it, where = coordinator(request), address(request)
    told = body.capabilities.model_dump(exclude_none=True)
    node, new, said = await asyncio.to_thread(
        registry.register, it.store, it.settings, account(request), body.client_id, {}, told, where
    )
    it.presence.heard(node.id)
    warnings = list(said)
    if body.ip_address not in (None, where):
        warnings.append(f"ip_address is told as {body.ip_address!r}; the connection comes from {where}, which counts")
    answer = {"client_id": node.id, "status": "registered", "ip_address": where, "warnings": warnings}
    return JSONResponse(answer, 201 if new else 200)


@router.get("/clients/{client_id}")
async def one_client(request: Request, client_id: str) -> dict[str, Any]:
    """One node."""
    node = await visible_node(request, client_id)
    if node.status == REVOKED:
        raise NotFound(f"node {client_id!r} is revoked")
    return _shown(request, node)


def _shown(request: Request, node: Node) -> dict[str, Json]:
    it = coordinator(request)
    seen = registry.client(node, it.presence, it.settings)
    told = capabilities.of(node)
    samples = summaries.shown(node, it.settings.small_cell, False).get("num_samples")
    samples = told.get("data_samples") if samples is None else samples
    return {
        "client_id": node.id,
        "status": seen["status"],
        "connected": seen["connected"],
        "ip_address": node.address or None,
        "last_heartbeat": seen["last_heartbeat"],
        "registered_at": seen["registered_at"],
        "capabilities": {**told, "data_samples": samples},
    }


def _records(store: Any, run: StoredRun) -> list[dict[str, Json]]:
    return [r.public() for r in store.rounds.list(run.id)]


def _enough(online: int, needed: int) -> None:
    if online < needed:
        raise ConfigError(f"{online} nodes are on line, and the run needs {needed}; start more nodes")


async def _clients(request: Request) -> list[Node]:
    return [n for n in await visible_nodes(request) if n.status != REVOKED]


async def _the_run(request: Request, run: str | None) -> StoredRun | None:
    it, who = coordinator(request), account(request)
    if run is not None:
        return await visible(request, run)

    def newest() -> StoredRun | None:
        sight = it.sees(who)
        for states in ({"running", "stopping", "paused"}, None):
            found = [r for r in it.store.runs.list(states, limit=1000) if sight.run(r)]
            if found:
                return found[0]
        return None

    return await asyncio.to_thread(newest)
