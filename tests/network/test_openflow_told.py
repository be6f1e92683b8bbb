"""What a switch is told when it refuses something, and which of two that call at once is listened to: no network, but
switches that do what the test says."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from tests.waiting import PATIENCE

pytest.importorskip("os_ken", reason="os-ken is not installed (hanse[network])")

from os_ken.ofproto import ofproto_protocol
from os_ken.ofproto import ofproto_v1_3 as numbers

from hanse.errors import NotNow
from hanse.network_driver import Pair, Preference
from hanse.registry import find, settings
from hanse.settings import checked

SERVER = "10.2.0.10"


def driver() -> Any:
    return find("network", "openflow").driver(checked({"listen": "127.0.0.1:0"}, settings("network", "openflow")))


def preference(last: int) -> Preference:
    return Preference(Pair(f"10.2.0.{last}", SERVER, 7443), 200, 60.0)


class Table:
    """A switch that keeps its flows, and refuses one of the next changes."""

    def __init__(self) -> None:
        self.protocol = ofproto_protocol.ProtocolDesc(version=numbers.OFP_VERSION)
        self.id, self.rows, self.refuses = 1, dict[Any, Any](), 0

    async def tell(self, wanted: Sequence[Any]) -> None:
        refused = False
        for number, change in enumerate(wanted, 1):
            key = change.priority, tuple(sorted(change.match.items()))
            if change.command == numbers.OFPFC_DELETE_STRICT:
                self.rows.pop(key, None)
            elif number == self.refuses:
                refused = True
            else:
                self.rows[key] = change
        if refused:
            raise NotNow("the switch refused 1 change")

    async def ask(self, question: Any) -> list[Any]:
        return [type("Part", (), {"body": list(self.rows.values())})]

    def who_has(self, address: str) -> None:
        pass

    def clients(self) -> set[str]:
        """Whose packets to the server are preferred."""
        found = [dict(match) for priority, match in self.rows if priority > 1000]
        return {match["ipv4_src"] for match in found if match["ipv4_dst"] == SERVER}


@pytest.mark.parametrize("refuses", [1, 2, 3, 4, 5, 6])
def test_of_a_preference_that_is_refused_in_part_nothing_stays(refuses: int) -> None:
    async def body() -> None:
        it, table = driver(), Table()
        it._switch = table
        it._hosts = {f"10.2.0.{last}": (last, "") for last in (10, 11, 12, 13)}
        await it.apply([preference(11)])
        before = set(table.rows)
        table.refuses = refuses
        with pytest.raises(NotNow):
            await it.apply([preference(11), preference(12)])
        table.refuses = 0
        await it.apply([preference(11)])
        assert set(table.rows) == before
        assert table.clients() == {"10.2.0.11"}
        await it.apply(())
        assert table.clients() == set()

    asyncio.run(body())


class Calling:
    """A switch that calls, says who it is, and answers barriers once it may."""

    def __init__(self, number: int) -> None:
        self.number, self.may = number, asyncio.Event()
        self.asked, self.over = asyncio.Event(), asyncio.Event()  # a barrier came; the connection ended

    async def run(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        def say(kind: int, xid: int, body: bytes = b"") -> None:
            writer.write(struct.pack("!BBHI", numbers.OFP_VERSION, kind, 8 + len(body), xid) + body)

        say(numbers.OFPT_HELLO, 1)
        try:
            while True:
                _, kind, length, xid = struct.unpack("!BBHI", await reader.readexactly(8))
                await reader.readexactly(length - 8)
                if kind == numbers.OFPT_FEATURES_REQUEST:
                    say(numbers.OFPT_FEATURES_REPLY, xid, struct.pack("!QIBB2xII", self.number, 0, 1, 0, 0, 0))
                elif kind == numbers.OFPT_BARRIER_REQUEST:
                    self.asked.set()
                    await self.may.wait()
                    say(numbers.OFPT_BARRIER_REPLY, xid)
        except (OSError, EOFError):
            pass
        finally:
            self.over.set()
            writer.close()


def racing(body: Callable[[Any, Callable[[int], Calling]], Awaitable[None]]) -> None:
    async def main() -> None:
        it, tasks, told = driver(), list[asyncio.Task[None]](), list[bool]()
        await it.start(lambda: told.append(True))
        port = it._server.sockets[0].getsockname()[1]

        def call(number: int) -> Calling:
            calling = Calling(number)
            tasks.append(asyncio.create_task(calling.run(port)))
            return calling

        try:
            async with asyncio.timeout(PATIENCE):
                await body(it, call)
        finally:
            it._switch = None  # it need not be told at the end
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await it.stop()

    asyncio.run(main())


def test_of_two_switches_that_call_at_once_the_first_that_is_ready_stays() -> None:
    async def body(it: Any, call: Callable[[int], Calling]) -> None:
        slow, quick = call(1), call(2)
        await asyncio.gather(slow.asked.wait(), quick.asked.wait())
        quick.may.set()
        while it._switch is None:
            await asyncio.sleep(0.01)
        assert it._switch.id == 2
        slow.may.set()
        await slow.over.wait()
        assert it._switch.id == 2
        assert it.missing() == ""
        assert not quick.over.is_set()

    racing(body)


def test_of_two_connections_of_one_switch_the_later_stays() -> None:
    async def body(it: Any, call: Callable[[int], Calling]) -> None:
        first, second = call(7), call(7)
        await asyncio.gather(first.asked.wait(), second.asked.wait())
        first.may.set()
        while it._switch is None:
            await asyncio.sleep(0.01)
        second.may.set()
        await first.over.wait()
        while it._switch is None:
            await asyncio.sleep(0.01)
        assert it._switch.id == 7
        assert not second.over.is_set()

    racing(body)
