"""Events: listed, and as a stream that a page or a notebook stays on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from hanse.coordinator.access import account, coordinator
from hanse.coordinator.chronicle import STEP
from hanse.coordinator.service import Coordinator
from hanse.coordinator.sight import Sight
from hanse.errors import ConfigError
from hanse.store.accounts import UserAccount
from hanse.store.database import to_json
from hanse.store.events import Event

router = APIRouter(tags=["events"])
_OPERATORS = ("account.", "join_token.", "node.refused", "state.", "study.")
_ALIVE_S = 15.0
_TOGETHER_S = 0.1  # steps of so long are told together; whatever else happens, and those before it, at once
_RIGHTS = ("account.disabled", "account.token", "account.linked", "account.unlinked")
_BATCH = 500


@router.get("/api/events")
async def events(
    request: Request,
    since: Annotated[int, Query(ge=0, le=1 << 62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    run: str | None = None,
    node: str | None = None,
    kind: str | None = None,
) -> dict[str, Any]:
    """Events after ``since``, oldest first. ``last_event_id`` is where to go on."""
    it, who = coordinator(request), account(request)

    def look() -> dict[str, Any]:
        kinds = None if kind is None else [k for k in kind.split(",") if k]
        found = it.store.events.since(since, limit, run=run, node=node, kinds=kinds)
        last = found[-1].id if found else since
        return {"events": [e.public() for e in EventsSeen(it, who).of(found)], "last_event_id": last}

    return await asyncio.to_thread(look)


@router.get("/api/events/stream")
async def stream(request: Request, since: Annotated[int | None, Query(ge=0, le=1 << 62)] = None) -> StreamingResponse:
    """Server-sent events; goes on after ``Last-Event-ID``."""
    it, who = coordinator(request), account(request)
    header = request.headers.get("last-event-id")
    if header is not None:
        if not header.isdigit() or len(header) > 18:
            raise ConfigError(f"Last-Event-ID is {header[:40]!r}; expected the id of an event")
        since = int(header)
    if since is None:
        since = await asyncio.to_thread(it.store.events.last)
    return StreamingResponse(
        _stream(it, who, since), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


async def _stream(it: Coordinator, who: UserAccount, last: int) -> AsyncIterator[bytes]:
    sight, began = EventsSeen(it, who), await asyncio.to_thread(it.store.events.last)

    def look(after: int) -> tuple[list[Event], list[Event] | None]:
        """What has happened, and what of it the account may see; None where its rights have changed meanwhile."""
        found = list(it.store.events.since(after, _BATCH))
        changed = any(event.id > began and _of_rights(event, who) for event in found)
        return found, None if changed else sight.of(found)

    yield b": connected\n\n"
    while not it.chronicle.closed:
        news, turn = it.chronicle.news(), it.chronicle.turn()  # taken before reading, so that nothing falls between
        found, shown = await asyncio.to_thread(look, last)
        if found:
            last = found[-1].id
            if shown is None:
                return  # who comes back is looked at anew
            if shown:
                yield "".join(_frame(event) for event in shown).encode()
            if all(event.kind == STEP for event in found):  # nobody sees more of them a second, and each is asked about
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(turn.wait(), _TOGETHER_S)
            continue
        try:
            await asyncio.wait_for(news.wait(), _ALIVE_S)
        except TimeoutError:
            if await asyncio.to_thread(lambda: it.store.accounts.get(who.id).disabled):
                return
            yield b": alive\n\n"


def _of_rights(event: Event, who: UserAccount) -> bool:
    """Whether after it the account may see other things than before."""
    return event.kind.startswith("study.") or (event.kind in _RIGHTS and event.detail.get("account") == who.id)


def _frame(event: Event) -> str:
    data = json.dumps(json.loads(to_json(event.public())), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"


class EventsSeen:
    """Which events an account may see. Remembers of runs whether it may: their nodes and study are frozen with them."""

    def __init__(self, it: Coordinator, who: UserAccount) -> None:
        self._it, self._who = it, who
        self._runs: dict[str, bool] = {}
        self._sight: Sight | None = None

    def of(self, events: list[Event]) -> list[Event]:
        """Blocks."""
        return [e for e in events if self._may(e)]

    def _may(self, event: Event) -> bool:
        if self._who.role == "operator":
            return True
        if event.kind.startswith(_OPERATORS):
            return False
        sight = self._sight = self._sight or self._it.sees(self._who)
        scientist = self._who.role == "data_scientist"
        if scientist and sight.all_runs:
            return True
        if event.run is None:
            return sight.node(event.node) if scientist and event.node else event.node in self._who.nodes or scientist
        if event.run not in self._runs:
            self._runs[event.run] = sight.run(self._it.store.runs.get(event.run))
        return self._runs[event.run]
