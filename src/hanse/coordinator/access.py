"""Who may call what: one table. What is not in it is refused, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from fastapi import Request

from hanse.coordinator.service import Coordinator
from hanse.errors import NotAllowed, NotAuthenticated
from hanse.store.accounts import Account, Role

O, D, S = Role.OPERATOR, Role.DATA_OWNER, Role.DATA_SCIENTIST
ALL = frozenset({O, D, S})
NOBODY_NEEDS_TO_LOG_IN: frozenset[Role] = frozenset()

TABLE: Mapping[tuple[str, str], frozenset[Role]] = MappingProxyType({
    # open
    ("GET", "/"): NOBODY_NEEDS_TO_LOG_IN,
    ("GET", "/page/{name}"): NOBODY_NEEDS_TO_LOG_IN,
    ("GET", "/health"): NOBODY_NEEDS_TO_LOG_IN,
    ("GET", "/docs"): NOBODY_NEEDS_TO_LOG_IN,
    ("GET", "/openapi.json"): NOBODY_NEEDS_TO_LOG_IN,
    ("GET", "/api/authority"): NOBODY_NEEDS_TO_LOG_IN,
    ("POST", "/api/nodes/enrol"): NOBODY_NEEDS_TO_LOG_IN,  # the secret in the body is what lets in
    # mllabiome
    ("POST", "/api/clients/register"): frozenset({D}),
    ("GET", "/api/clients"): ALL,
    ("POST", "/api/clients/{client_id}/heartbeat"): frozenset({D}),
    ("GET", "/api/training/analyze"): ALL,
    ("POST", "/api/training/start"): frozenset({S, O}),
    ("GET", "/api/training/sessions"): ALL,
    ("GET", "/api/training/sessions/{session_id}"): ALL,
    ("POST", "/api/training/sessions/{session_id}/consent"): frozenset({D}),
    ("POST", "/api/training/sessions/{session_id}/execute"): frozenset({S, O}),
    ("POST", "/api/training/sessions/{session_id}/cancel"): frozenset({S, O}),
    ("POST", "/api/training/sessions/{session_id}/pause"): frozenset({S, O}),
    ("POST", "/api/training/sessions/{session_id}/resume"): frozenset({S, O}),
    ("GET", "/api/analytics/session/{session_id}"): ALL,
    # FLOPY-NET
    ("GET", "/status"): ALL,
    ("POST", "/start"): frozenset({S, O}),
    ("GET", "/metrics"): ALL,
    ("GET", "/clients"): ALL,
    ("POST", "/register"): frozenset({D}),
    ("GET", "/clients/{client_id}"): ALL,
    # Hanse
    ("GET", "/api/me"): ALL,
    ("GET", "/api/config/schema"): ALL,
    ("GET", "/api/nodes"): ALL,
    ("GET", "/api/nodes/join-tokens"): frozenset({O}),
    ("POST", "/api/nodes/join-tokens"): frozenset({O}),
    ("DELETE", "/api/nodes/join-tokens/{token_id}"): frozenset({O}),
    ("GET", "/api/nodes/{node_id}"): ALL,
    ("POST", "/api/nodes/{node_id}/revoke"): frozenset({O}),
    ("POST", "/api/nodes/{node_id}/reinstate"): frozenset({O}),
    ("GET", "/api/accounts"): frozenset({O}),
    ("POST", "/api/accounts"): frozenset({O}),
    ("POST", "/api/accounts/{account_id}/token"): frozenset({O}),
    ("POST", "/api/accounts/{account_id}/disable"): frozenset({O}),
    ("POST", "/api/accounts/{account_id}/nodes"): frozenset({O}),
    ("DELETE", "/api/accounts/{account_id}/nodes/{node_id}"): frozenset({O}),
    ("GET", "/api/runs/{session_id}/rounds"): ALL,
    ("GET", "/api/runs/{session_id}/bundle"): ALL,
    ("GET", "/api/runs/{session_id}/model"): frozenset({S, O}),
    ("GET", "/api/models"): frozenset({S, O}),
    ("GET", "/api/models/compare"): frozenset({S, O}),
    ("GET", "/api/events"): ALL,
    ("GET", "/api/events/stream"): ALL,
    ("GET", "/api/audit"): frozenset({O}),
    ("GET", "/api/audit/verify"): frozenset({O}),
    ("GET", "/api/state"): frozenset({O}),
    ("POST", "/api/state"): frozenset({O}),
})  # fmt: skip


def coordinator(request: Request) -> Coordinator:
    found: Coordinator = request.app.state.coordinator
    return found


def account(request: Request) -> Account:
    """Who asks; only in routes that need a login."""
    found: Account = request.state.account
    return found


async def authorize(request: Request) -> None:
    """Runs before every route. Raises ``NotAuthenticated``, ``NotAllowed``."""
    route = request.scope.get("route")
    roles = TABLE.get((request.method, getattr(route, "path", "")))
    if roles is None:
        raise NotAllowed("nobody may call this")
    if roles is NOBODY_NEEDS_TO_LOG_IN:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found: Account | None = None
    if scheme.lower() == "bearer":
        found = await asyncio.to_thread(coordinator(request).store.accounts.authenticate, token.strip())
    if found is None:
        if token:  # no token at all is a page that has not logged in yet
            coordinator(request).chronicle.note("account.refused", actor="unknown", detail={"address": address(request)})
        raise NotAuthenticated("a valid API token is needed: Authorization: Bearer hanse_...")
    if found.role not in roles:
        who = " or ".join(sorted(r.replace("_", " ") for r in roles))
        raise NotAllowed(f"this is for a {who}; the account {found.name} is a {found.role.replace('_', ' ')}")
    request.state.account = found


def address(request: Request) -> str:
    """Where the request came from, as the connection says."""
    return request.client.host if request.client else ""


def own_node(request: Request, node_id: str) -> None:
    """Raises ``NotAllowed`` unless the account decides for the node."""
    if node_id not in account(request).nodes:
        raise NotAllowed(f"the account {account(request).name} does not decide for {node_id}")


def own_run(request: Request, proposer: str) -> None:
    """Raises ``NotAllowed`` unless the account proposed the run, or operates the federation."""
    who = account(request)
    if who.role is not Role.OPERATOR and who.name != proposer:
        raise NotAllowed(f"this run was proposed by {proposer}; only {proposer} or an operator may do this")
