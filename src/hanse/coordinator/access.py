"""Who may call what: one table. What is not in it is refused, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from fastapi import Request

from hanse.bundle import Bundle
from hanse.coordinator.service import Coordinator
from hanse.errors import NotAllowed, NotAuthenticated
from hanse.messages import Json
from hanse.store.accounts import Role, UserAccount
from hanse.store.runs import StoredRun

OP, OWNER, SCIENTIST = Role.OPERATOR, Role.DATA_OWNER, Role.DATA_SCIENTIST
ALL = frozenset({OP, OWNER, SCIENTIST})
NOBODY_NEEDS_TO_LOG_IN: frozenset[Role] = frozenset()

TABLE: Mapping[tuple[str, str], frozenset[Role]] = MappingProxyType(
    {
        # open
        ("GET", "/"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/page/{name}"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/health"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/ready"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/docs"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/openapi.json"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/api/authority"): NOBODY_NEEDS_TO_LOG_IN,
        ("POST", "/api/nodes/enrol"): NOBODY_NEEDS_TO_LOG_IN,  # the secret in the body is what lets in
        ("GET", "/api/login"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/login"): NOBODY_NEEDS_TO_LOG_IN,
        ("GET", "/login/callback"): NOBODY_NEEDS_TO_LOG_IN,  # a state and a cookie are what lets in
        ("POST", "/api/login/session"): NOBODY_NEEDS_TO_LOG_IN,
        ("DELETE", "/api/login/session"): ALL,
        ("POST", "/api/login/device"): NOBODY_NEEDS_TO_LOG_IN,
        ("POST", "/api/login/device/token"): NOBODY_NEEDS_TO_LOG_IN,
        # mllabiome
        ("POST", "/api/clients/register"): frozenset({OWNER}),
        ("GET", "/api/clients"): ALL,
        ("POST", "/api/clients/{client_id}/heartbeat"): frozenset({OWNER}),
        ("GET", "/api/training/analyze"): ALL,
        ("POST", "/api/training/start"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/training/sessions"): ALL,
        ("GET", "/api/training/sessions/{session_id}"): ALL,
        ("POST", "/api/training/sessions/{session_id}/consent"): frozenset({OWNER}),
        ("POST", "/api/training/sessions/{session_id}/execute"): frozenset({SCIENTIST, OP}),
        ("POST", "/api/training/sessions/{session_id}/cancel"): frozenset({SCIENTIST, OP}),
        ("POST", "/api/training/sessions/{session_id}/pause"): frozenset({SCIENTIST, OP}),
        ("POST", "/api/training/sessions/{session_id}/resume"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/analytics/session/{session_id}"): ALL,
        # FLOPY-NET
        ("GET", "/status"): ALL,  # and see OPEN_IN_PART
        ("POST", "/start"): frozenset({SCIENTIST, OP}),
        ("GET", "/metrics"): ALL,
        ("GET", "/clients"): ALL,
        ("POST", "/register"): frozenset({OWNER}),
        ("GET", "/clients/{client_id}"): ALL,
        # Hanse
        ("GET", "/api/me"): ALL,
        ("GET", "/api/config/schema"): ALL,
        ("GET", "/api/nodes"): ALL,
        ("GET", "/api/nodes/join-tokens"): frozenset({OP}),
        ("POST", "/api/nodes/join-tokens"): frozenset({OP}),
        ("DELETE", "/api/nodes/join-tokens/{token_id}"): frozenset({OP}),
        ("GET", "/api/nodes/{node_id}"): ALL,
        ("POST", "/api/nodes/{node_id}/revoke"): frozenset({OP}),
        ("POST", "/api/nodes/{node_id}/reinstate"): frozenset({OP}),
        ("GET", "/api/studies"): ALL,
        ("POST", "/api/studies"): frozenset({OP}),
        ("POST", "/api/studies/{study}"): frozenset({OP}),
        ("POST", "/api/studies/{study}/close"): frozenset({OP}),
        ("GET", "/api/accounts"): frozenset({OP}),
        ("POST", "/api/accounts"): frozenset({OP}),
        ("POST", "/api/accounts/{account_id}/token"): frozenset({OP}),
        ("POST", "/api/accounts/{account_id}/disable"): frozenset({OP}),
        ("POST", "/api/accounts/{account_id}/nodes"): frozenset({OP}),
        ("DELETE", "/api/accounts/{account_id}/nodes/{node_id}"): frozenset({OP}),
        ("GET", "/api/runs/{session_id}/rounds"): ALL,
        ("GET", "/api/runs/{session_id}/bundle"): ALL,
        ("GET", "/api/runs/{session_id}/evidence"): ALL,
        ("GET", "/api/runs/{session_id}/inclusion"): frozenset({OWNER}),
        ("GET", "/api/runs/{session_id}/model"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/runs/{session_id}/coefficients"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/runs/{session_id}/card"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/runs/{session_id}/statistics"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/runs/{session_id}/messages"): frozenset({SCIENTIST, OP}),
        ("POST", "/api/runs/{session_id}/messages/{step}"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/runs/{session_id}/messages/{step}"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/statistics"): ALL,
        ("GET", "/api/models"): frozenset({SCIENTIST, OP}),
        ("POST", "/api/models"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/models/compare"): frozenset({SCIENTIST, OP}),
        ("GET", "/api/events"): ALL,
        ("GET", "/api/events/stream"): ALL,
        ("GET", "/api/audit"): frozenset({OP}),
        ("GET", "/api/audit/verify"): frozenset({OP}),
        ("GET", "/api/state"): frozenset({OP}),
        ("POST", "/api/state"): frozenset({OP}),
    }
)


# health checks have no token; who sends none is told here what ``GET /health`` tells, and nothing of any run
OPEN_IN_PART = frozenset({("GET", "/status")})


def coordinator(request: Request) -> Coordinator:
    """The coordinator that the request's application serves."""
    found: Coordinator = request.app.state.coordinator
    return found


def account(request: Request) -> UserAccount:
    """Who asks; only in routes that need a login."""
    found: UserAccount = request.state.account
    return found


def anonymous(request: Request) -> bool:
    """Whether nobody has logged in, in a route that is open in part."""
    return not hasattr(request.state, "account")


async def authorize(request: Request) -> None:
    """Runs before every route. Raises ``NotAuthenticated``, ``NotAllowed``."""
    route = request.scope.get("route")
    roles = TABLE.get((request.method, getattr(route, "path", "")))
    if roles is None:
        raise NotAllowed("nobody may call this")
    if roles is NOBODY_NEEDS_TO_LOG_IN:
        return
    if (request.method, getattr(route, "path", "")) in OPEN_IN_PART and "authorization" not in request.headers:
        return
    token = bearer(request)
    found = await asyncio.to_thread(coordinator(request).authenticate, token) if token else None
    if found is None:
        if request.headers.get("authorization"):  # none at all is a page that has not logged in yet
            note_refusal(request)
        raise NotAuthenticated(
            "a valid API token is needed: Authorization: Bearer hanse_...; "
            "an operator makes a new one with: hanse coordinator token rotate"
        )
    if found.role not in roles:
        who = " or ".join(sorted(r.replace("_", " ") for r in roles))
        raise NotAllowed(f"this is for a {who}; the account {found.name} is a {found.role.replace('_', ' ')}")
    request.state.account = found


def bearer(request: Request) -> str:
    """The token that is shown; "" where none is."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def note_refusal(request: Request, **more: Json) -> None:
    """Counts somebody who was not let in, and writes it down. Raises ``TooMany``, and writes nothing, where there were
    too many from the same address."""
    attempts = coordinator(request).logins
    attempts.check(address(request))
    attempts.failed(address(request))
    detail = {"address": address(request), **more}
    coordinator(request).chronicle.note("account.refused", actor="unknown", detail=detail)


def address(request: Request) -> str:
    """Where the request came from, as the connection says."""
    return request.client.host if request.client else ""


def own_node(request: Request, node_id: str) -> None:
    """Raises ``NotAllowed`` unless the account decides for the node."""
    if node_id not in account(request).nodes:
        raise NotAllowed(f"the account {account(request).name} does not decide for {node_id}")


def operates(request: Request) -> bool:
    """Whether the account is an operator."""
    return account(request).role is Role.OPERATOR


async def check_reading(request: Request, run: StoredRun, result: str) -> None:
    """Raises ``NotAllowed`` where the account may not see a result of the run: somebody else's, or by the operator's
    policies."""
    own_run(request, run.proposer)
    it, who = coordinator(request), account(request)
    if it.governance.decides:
        frozen = Bundle(await asyncio.to_thread(it.store.runs.bundle, run.id))
        if not frozen.content:
            raise NotAllowed("the proposal of this run is not here, so no policy can say who may see its result")
        reader = {"name": who.name, "role": str(who.role), "own": who.name == run.proposer, "result": result}
        await it.governance.check_reading(frozen, run.id, run.proposer, len(run.nodes), **reader)


def own_run(request: Request, proposer: str) -> None:
    """Raises ``NotAllowed`` unless the account proposed the run, or operates the federation."""
    who = account(request)
    if not operates(request) and who.name != proposer:
        raise NotAllowed(f"this run was proposed by {proposer}; only {proposer} or an operator may do this")
