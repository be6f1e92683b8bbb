"""What of a run is under way: asks on their way to nodes, and the replies that land.

An exchange ends when all that is needed is in, or when nobody who is still asked shows progress: a
transfer that moves is not late, a node that is silent is. A node that refuses for good is remembered,
so that the loop asks it nothing more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from hanse.config import RunConfig
from hanse.errors import HanseError, NodeLost, is_final, is_passing
from hanse.gather import Reply
from hanse.kinds import Ask
from hanse.messages import Json, Message, Record, Written
from hanse.receipts import Receipts
from hanse.transport import COORDINATOR, ManyHandler, Transport


@dataclass(slots=True)
class _Flight:
    node: str
    step: int
    op: str
    exchange: int
    started: float
    moved: float
    offline: float | None = None


class Sky:
    """All exchanges of a run that are under way.

    Args:
        transport: how nodes are reached.
        config: deadlines are read from here.
        run_id, bundle: name the run and the approved bundle in every task.
        receipts: is given each reply; None: nobody commits to them.
        abreast: of an exchange that waits for all, so many nodes are asked at a time, and the next when these have
            landed; None: all at once.

    Attributes:
        refused: node to the sentence with which it refused for good (:func:`hanse.errors.is_final`).
        waiting: node to why it cannot answer this attempt at the step, but may later (:class:`hanse.errors.NotNow`).
        exchanges, bytes_down, bytes_up: of this attempt at the step, since :meth:`begin`.
        seconds: of those that came since then, node to the time from its ask to its reply, latest.
    """

    def __init__(
        self,
        transport: Transport,
        config: RunConfig,
        run_id: str,
        bundle: str,
        receipts: Receipts | None = None,
        abreast: int | None = None,
    ) -> None:
        self._receipts, self._abreast = receipts, abreast
        self._transport, self._config, self._run_id, self._bundle = transport, config, run_id, bundle
        self._many: ManyHandler | None = getattr(transport, "many", None)
        self._flights: dict[asyncio.Task[Message], _Flight] = {}
        self._back: list[asyncio.Task[Message]] = []  # those that have landed and were not looked at
        self._news: asyncio.Future[None] | None = None  # what ``_landed`` waits for
        self._look_at = 0.0  # nobody is late before then, and nobody's connection has changed
        self._timer: asyncio.TimerHandle | None = None  # comes then or earlier, once for many that land
        self._timer_at = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._ask: Ask | None = None
        self._step = self._attempt = 0
        self.bytes_down = self.bytes_up = self.exchanges = 0
        self.seconds: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        self.waiting: dict[str, str] = {}

    def busy(self) -> frozenset[str]:
        """Nodes that still work on something that was asked."""
        return frozenset(flight.node for flight in self._flights.values())

    def under_way(self) -> dict[str, int]:
        """Nodes that were asked and not heard yet, or heard and not looked at yet: by which step."""
        return {flight.node: flight.step for flight in self._flights.values()}

    def begin(self, step: int, attempt: int, ask: Ask) -> None:
        """The exchanges that follow are of this step."""
        self._step, self._attempt, self._ask = step, attempt, ask
        self.bytes_down = self.bytes_up = self.exchanges = 0
        self.waiting, self.seconds = {}, {}
        if self._receipts is not None:
            self._receipts.begin()

    async def exchange(
        self, asks: Mapping[str, Record], op: str = "answer", need: int | None = None
    ) -> AsyncIterator[Reply]:
        """The next exchange of the step (:class:`hanse.gather.Exchange`)."""
        assert self._ask is not None, "no step has begun"
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        self._look_at = 0.0
        number, late = self.exchanges, self._ask.late
        self.exchanges += 1
        # The name of an ask is the same in a run that was resumed, so that a node which has the answer already
        # gives it again. Whether it is the same ask too, the node tells by its content.
        name = f"{self._run_id}/{self._step}/{self._attempt}/{op}/{number}"
        task: dict[str, Json] = {
            "run": self._run_id,
            "step": self._step,
            "exchange": number,
            "op": op,
            "combine": str(self._ask.combine),
            "bundle": self._bundle,
        }
        if not self._ask.checkpoint:
            task["checkpoint"] = False
        bodies: dict[int, Record] = {}  # by ask: what goes to many is put together once
        nodes = list(asks)
        abreast = len(nodes) if need or self._abreast is None else self._abreast
        try:
            many = max(1, len(nodes))  # nobody new may be asked, and those of earlier steps are waited for
            for first in range(0, many, max(1, abreast)):
                some = nodes[first : first + abreast]
                if need is None and self._at_once(some, asks):
                    record = asks[some[0]]
                    body = Record(Written({**task, "ask": record.data}), record.arrays)
                    for reply in await self._together(some, body, op, number):
                        yield reply
                    continue
                for node in some:
                    record = asks[node]
                    if id(record) not in bodies:
                        bodies[id(record)] = Record(Written({**task, "ask": record.data}), record.arrays)
                    self._send(node, bodies[id(record)], op, number, f"{name}/{node}")
                wanted = min(need or len(some), len(self._flights))
                while wanted > 0 and self._flights:
                    landed = await self._landed()
                    wanted -= sum(reply.body is not None for reply in landed)
                    wanted = min(wanted, len(self._flights))  # after all that landed together, or are not waited for
                    for reply in landed:
                        if reply.body is not None:
                            self.bytes_up += reply.body.nbytes
                            if self._receipts is not None:
                                await self._receipts.add(reply.node, reply.asked, reply.exchange, reply.op, reply.body)
                        yield reply
        finally:
            if late == "drop":
                await self.clear()

    def _at_once(self, nodes: Sequence[str], asks: Mapping[str, Record]) -> bool:
        """Whether these nodes can be asked in one call: the same, where nothing is under way and nobody can be late."""
        if self._many is None or len(nodes) < 2 or self._flights or self._receipts is not None:
            return False
        first = asks[nodes[0]]
        return self._config.round_deadline_s is None and all(asks[node] is first for node in nodes)

    async def _together(self, nodes: Sequence[str], body: Record, op: str, exchange: int) -> list[Reply]:
        """What they reply, in their order."""
        assert self._many is not None
        self.bytes_down += body.nbytes * len(nodes)
        started = time.monotonic()
        found = await self._many(COORDINATOR, nodes, body)
        seconds, replies = time.monotonic() - started, []
        self.seconds |= dict.fromkeys(nodes, seconds)
        for node, one in zip(nodes, found, strict=True):
            if isinstance(one, HanseError):
                replies.append(self._failed(node, self._step, op, exchange, seconds, one))
            else:
                self.bytes_up += one.nbytes
                replies.append(Reply(node, self._step, one, "", seconds, "", op, exchange))
        return replies

    def _send(self, node: str, body: Record, op: str, exchange: int, name: str) -> None:
        now = time.monotonic()
        flight = _Flight(node, self._step, op, exchange, now, now)
        message = Message("task", name, "", body)

        def progress() -> None:
            flight.moved = time.monotonic()

        self.bytes_down += body.nbytes
        future = asyncio.ensure_future(self._transport.request(node, message, progress))
        self._flights[future] = flight
        future.add_done_callback(self._touched_down)

    def _touched_down(self, task: asyncio.Task[Message]) -> None:
        if task in self._flights:
            self._back.append(task)
            self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _timed_out(self) -> None:
        self._timer = None
        self._wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _watch(self) -> None:
        """Has the flights looked at whenever a node comes or goes. Between looking away and listening again
        nothing else runs, so no change is missed."""
        while True:
            self._look_at = 0.0
            self._wake()
            await self._transport.changed()

    async def _landed(self) -> list[Reply]:
        """Waits until something happens: replies, or nodes that are now late.

        What it costs must not grow with the number of those that are still under way: it is done for each reply.
        """
        loop = asyncio.get_running_loop()
        while True:
            back, self._back = self._back, []
            replies = [self._reply(task) for task in back if task in self._flights]
            now = time.monotonic()
            if now >= self._look_at:
                replies += self._look(now)
            if replies:
                return replies
            self._news = loop.create_future()
            if self._timer is None or self._timer_at > self._look_at:
                self._stop_timer()
                self._timer_at = self._look_at
                self._timer = loop.call_later(self._look_at - now, self._timed_out)
            await self._news

    def _look(self, now: float) -> list[Reply]:
        """Looks at all flights; returns those that are late. Progress and landings only put deadlines off,
        so the earliest of them is when to look again."""
        online = self._transport.online()
        late = []
        self._look_at = now + self._config.round_timeout_s
        for task, flight in list(self._flights.items()):
            flight.offline = None if flight.node in online else flight.offline or now
            deadline = self._deadline(flight)
            if now < deadline:
                self._look_at = min(self._look_at, deadline)
            elif not task.done():
                late.append(self._late(task, now))
        return late

    def _deadline(self, flight: _Flight) -> float:
        config = self._config
        silent = flight.moved + config.round_timeout_s
        if config.round_deadline_s is not None:
            silent = min(silent, flight.started + config.round_deadline_s)
        return silent if flight.offline is None else min(silent, flight.offline + config.reconnect_timeout_s)

    def _reply(self, task: asyncio.Task[Message]) -> Reply:
        flight = self._flights.pop(task)
        seconds = self.seconds[flight.node] = time.monotonic() - flight.started
        try:
            return self._of(flight, seconds, task.result().body)
        except HanseError as error:
            return self._failed(flight.node, flight.step, flight.op, flight.exchange, seconds, error)

    def _failed(self, node: str, step: int, op: str, exchange: int, seconds: float, error: HanseError) -> Reply:
        if is_final(error.code):
            self.refused[node] = error.message
        elif is_passing(error.code):
            self.waiting[node] = error.message
        return Reply(node, step, None, error.message, seconds, error.code, op, exchange)

    @staticmethod
    def _of(flight: _Flight, seconds: float, body: Record | None = None, error: str = "", code: str = "") -> Reply:
        return Reply(flight.node, flight.step, body, error, seconds, code, flight.op, flight.exchange)

    def _late(self, task: asyncio.Task[Message], now: float) -> Reply:
        flight = self._flights.pop(task)
        task.cancel()
        config = self._config
        if config.round_deadline_s is not None and now >= flight.started + config.round_deadline_s:
            why = f"took more than the {config.round_deadline_s:g} s that the run allows for an answer"
        elif flight.offline is not None:
            why = f"lost its connection and did not come back within {config.reconnect_timeout_s:g} s"
        else:
            why = f"showed no progress for {config.round_timeout_s:g} s"
        return self._of(flight, now - flight.started, error=why, code=NodeLost.code)

    async def clear(self) -> None:
        """Cancels all that is under way."""
        flights, self._flights = list(self._flights), {}
        for task in flights:
            task.cancel()
        if flights:
            await asyncio.gather(*flights, return_exceptions=True)

    async def close(self) -> None:
        """Nothing is under way any more, and nobody is watched."""
        await self.clear()
        self._stop_timer()
        # What a cancelled task keeps leads back to us, and the collector of cycles may take hours to look: until
        # then we would hold the last model that was sent.
        watching, self._watching, self._ask = self._watching, None, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
