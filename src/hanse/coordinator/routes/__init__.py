"""REST routes, one file for each face of the coordinator."""

from __future__ import annotations

from hanse.coordinator.routes import (
    accounts,
    audit,
    events,
    flopynet,
    health,
    led,
    login,
    mllabiome,
    models,
    nodes,
    page,
    runs,
    state,
    statistics,
    studies,
)

ROUTERS = (
    page.router,
    mllabiome.router,
    runs.router,
    led.router,
    statistics.router,
    studies.router,
    flopynet.router,
    health.router,
    nodes.router,
    accounts.router,
    login.router,
    events.router,
    models.router,
    audit.router,
    state.router,
)
