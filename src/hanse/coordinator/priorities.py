"""What a network is wanted to prefer, and until when: kept as data, and said to the network again whenever it has
forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from dataclasses import dataclass

from hanse.errors import ConfigError, Conflict, HanseError, NotFound, NotNow, TooMany
from hanse.messages import Json
from hanse.network_driver import Driver, Pair, Preference

MOST_HOSTS, MOST_PREFERENCES = 1000, 1000
_AGAIN_S = 5.0  # until what failed on its own (a timer, a switch that came back) is tried again

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """A preference that is in force.

    Args:
        ends: by :func:`time.monotonic`.
    """

    pair: Pair
    priority: int
    ends: float

    def left(self) -> float:
        """Seconds until it is over."""
        return max(0.0, self.ends - time.monotonic())


class Priorities:
    """Servers, clients and what goes before other traffic between them.

    Args:
        driver: makes a network do it; started and stopped with this.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.servers: dict[str, int] = {}  # address to the TCP port at which it is called; 0: all
        self.clients: set[str] = set()
        self._standing: dict[tuple[str, str], Standing] = {}
        self._one = asyncio.Lock()  # the network is told one state at a time
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises ``ConfigError`` where the driver cannot work."""
        await self._driver.start(self._soon)

    async def stop(self) -> None:
        """Nothing stays preferred for longer than was wanted."""
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._driver.stop()

    # ------------------------------------------------------------ who takes part

    def register_server(self, address: str, port: int = 0) -> bool:
        """Whether it is new; a port that differs counts from the next preference on. Raises ``Conflict``."""
        if address in self.clients:
            raise Conflict(f"{address} is registered as a client; a host is either")
        new = address not in self.servers
        self._check_room(new)
        self.servers[address] = port
        return new

    def register_client(self, address: str) -> bool:
        """Whether it is new. Raises ``Conflict``."""
        if address in self.servers:
            raise Conflict(f"{address} is registered as a server; a host is either")
        new = address not in self.clients
        self._check_room(new)
        self.clients.add(address)
        return new

    def _check_room(self, new: bool) -> None:
        if new and len(self.servers) + len(self.clients) >= MOST_HOSTS:
            raise TooMany(f"{MOST_HOSTS} hosts are registered, which is the most")

    # ------------------------------------------------------------ what goes first

    async def prefer(self, source: str, target: str, priority: int, seconds: float) -> Standing:
        """From now on, for so long, what goes between a client and a server goes before other traffic. Said again, it
        counts from then.

        Raises:
            NotFound: one of them is not registered, or the network does not know where it is.
            ConfigError: both are clients, or both servers.
            NotNow: no network is there, or it did not confirm; then nothing is preferred that was not before.
        """
        client, server = self._sides(source, target)
        self._forget_ended()
        if (client, server) not in self._standing and len(self._standing) >= MOST_PREFERENCES:
            raise TooMany(f"{MOST_PREFERENCES} pairs are preferred, which is the most; release some")
        asked = Standing(Pair(client, server, self.servers[server]), priority, time.monotonic() + seconds)
        async with self._one:
            before = self._standing.get((client, server))
            self._standing[client, server] = asked
            try:
                if why := (await self._tell()).get(asked.pair):
                    raise NotFound(why)
            except BaseException:
                self._standing.pop((client, server), None)
                if before is not None:
                    self._standing[client, server] = before
                self._soon()
                raise
        self._set_timer()
        return asked

    async def release(self, source: str, target: str) -> bool:
        """Ends the preference before its time; whether there was one. Raises ``NotNow`` where the network did not
        confirm: then it ends when its time is over."""
        client, server = self._sides(source, target)
        async with self._one:
            there = self._standing.pop((client, server), None)
            if there is not None:
                await self._tell()
        return there is not None and there.left() > 0

    def _sides(self, source: str, target: str) -> tuple[str, str]:
        """The client and the server of the two."""
        for address in (source, target):
            if address not in self.servers and address not in self.clients:
                raise NotFound(f"{address} is not registered; register it as a server or as a client first")
        if (source in self.servers) == (target in self.servers):
            raise ConfigError(f"{source} and {target} are of one kind; expected a client and a server")
        return (target, source) if source in self.servers else (source, target)

    async def _tell(self) -> dict[Pair, str]:
        if why := self._driver.missing():
            raise NotNow(why)
        self._forget_ended()
        wanted = [Preference(one.pair, one.priority, one.left()) for one in self._standing.values()]
        return dict(await self._driver.apply(wanted))

    def _forget_ended(self) -> None:
        now = time.monotonic()
        self._standing = {pair: one for pair, one in self._standing.items() if one.ends > now}

    # ------------------------------------------------------------ by itself

    def _soon(self) -> None:
        """The network is told what is wanted, as soon as it can be."""
        task = asyncio.get_running_loop().create_task(self._again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again(self) -> None:
        async with self._one:
            if self._driver.missing():
                return  # it is told when it is back
            try:
                wrong = await self._tell()
            except HanseError as error:
                _log.warning("the network was not told what is preferred (%s); it is tried again", error.message)
                self._set_timer(_AGAIN_S)
                return
        for pair, why in wrong.items():
            _log.warning("what goes between %s and %s is not preferred: %s", pair.client, pair.server, why)
        self._set_timer(_AGAIN_S if wrong else math.inf)

    def _set_timer(self, most: float = math.inf) -> None:
        """Until the first preference is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait = min([most, *(one.left() for one in self._standing.values())])
        if wait < math.inf:
            self._timer = asyncio.get_running_loop().call_later(wait + 0.01, self._soon)

    # ------------------------------------------------------------ looking

    def missing(self) -> str:
        """Why nothing can be preferred now; "" where it can."""
        return self._driver.missing()

    async def seen(self) -> dict[str, Json]:
        """See :meth:`hanse.network_driver.Driver.seen`."""
        if why := self._driver.missing():
            raise NotNow(why)
        return dict(await self._driver.seen())

    async def statistics(self) -> dict[str, Json]:
        """Who is registered, what is preferred and for how long; where the network is there, what it counted."""
        seen: dict[str, Json] = {}
        with contextlib.suppress(HanseError):
            seen = await self.seen()
        self._forget_ended()
        return {
            "connected": not self.missing(),
            "reason": self.missing(),
            "servers": [{"server_ip": address, "port": port} for address, port in sorted(self.servers.items())],
            "clients": sorted(self.clients),
            "priorities": [
                {
                    "src_ip": one.pair.client,
                    "dst_ip": one.pair.server,
                    "port": one.pair.port,
                    "priority": one.priority,
                    "expires_in_s": round(one.left(), 3),
                    "flows": [f for f in seen.get("flows", []) if _of(f, one.pair)],
                }
                for _, one in sorted(self._standing.items())
            ],
            "ports": seen.get("ports", []),
        }


def _of(flow: dict[str, Json], pair: Pair) -> bool:
    return flow.get("client") == pair.client and flow.get("server") == pair.server
