"""Large payloads to and from many nodes: few at a time, shared bytes, and nobody late who only waits."""

from __future__ import annotations

import asyncio
import gc
import math
from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from hanse.messages import Assembler, Buffer, Memory, Message, Record, checksum_of, frames, framing
from hanse.transport import Progress
from hanse.transports import _broadcast, _turns
from hanse.transports._broadcast import KEPT_FRAMES, Broadcast
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link
from hanse.transports._turns import Turn, Turns
from tests.waiting import PATIENCE

CHUNK = 1 << 10


def message(arrays: dict[str, np.ndarray], id: str = "m") -> Message:
    return Message("task", id, "coordinator", Record({"for": id}, arrays))


def model() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    return {"w": random.normal(size=(40, 33)), "b": random.normal(size=7).astype("f4"), "n": np.arange(9)}


def assemble(made: list[bytes]) -> Message:
    assembler = Assembler()
    *halves, whole = [assembler.feed(frame) for frame in made]
    assert halves == [None] * len(halves)
    assert isinstance(whole, Message)
    return whole


# ---------------------------------------------------------------- one payload for many


def test_nodes_that_go_along_together_share_every_chunk() -> None:
    arrays, broadcast = model(), Broadcast(CHUNK)
    shared = broadcast.share(arrays)
    assert broadcast.share(arrays) is shared
    made = [[] for _ in range(5)]
    for row in zip(*(shared.frames(message(arrays, f"m{k}")) for k in range(5)), strict=True):
        for got, frame in zip(made, row, strict=True):
            got.append(frame)
        if made[0][1:]:
            assert all(frame is row[0] for frame in row)
    assert shared.made == len(made[0]) - 1
    alone = list(frames(message(arrays, "m0"), shared.stream, CHUNK))
    assert made[0] == alone
    for k, got in enumerate(made):
        arrived = assemble(got)
        assert arrived.id == f"m{k}"
        assert all(np.array_equal(arrived.body.arrays[name], arrays[name]) for name in arrays)


def test_a_slow_node_gets_the_same_bytes_and_holds_nothing() -> None:
    arrays, broadcast = model(), Broadcast(CHUNK)
    shared = broadcast.share(arrays)
    slow, fast = shared.frames(message(arrays, "slow")), shared.frames(message(arrays, "fast"))
    begun = [next(slow), next(slow)]
    most = 0
    for _ in fast:
        most = max(most, shared.kept_bytes)
    assert most <= KEPT_FRAMES * (CHUNK + 100)
    assert assemble([*begun, *slow]).id == "slow"
    assert shared.kept_bytes <= KEPT_FRAMES * (CHUNK + 100)


def test_what_names_a_payload_makes_its_checksums_once_for_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(found: Sequence[memoryview]) -> int:
        made.append(found)
        return checksum_of(found)

    monkeypatch.setattr(_broadcast, "checksum_of", counted)
    monkeypatch.setattr(framing, "checksum_of", counted)

    async def body() -> None:
        arrays, other, broadcast = model(), model(), Broadcast(CHUNK)
        shared = broadcast.share(arrays)
        edition = await shared.edition()
        chunks = len(made)
        for id in ("a", "b"):  # one after the other: frames are made anew for the second
            assert assemble(list(shared.frames(message(arrays, id), edition))).id == id
        again = await shared.edition()
        assert len(made) == chunks
        assert again == edition
        assert await Broadcast(CHUNK).share(model()).edition() == edition  # as of a process that was started anew
        other["w"][3, 4] += 1
        assert await broadcast.share(other).edition() != edition

    asyncio.run(body())


def test_a_payload_is_forgotten_with_its_last_sender() -> None:
    gc.collect(1)  # what is made from here on is young: it need not look at all that there is
    arrays, broadcast = model(), Broadcast(CHUNK)
    first = broadcast.share(arrays)
    stream, sending = first.stream, first.frames(message(arrays))
    next(sending)
    del first
    assert broadcast.share(arrays).stream == stream
    del sending
    gc.collect(1)
    assert broadcast.share(arrays).stream != stream  # a stream's number is not used twice


# ---------------------------------------------------------------- turns


def test_turns_are_few_and_first_come_first_served() -> None:
    async def body() -> None:
        turns, begun = Turns(2), []
        row = [turns.take(lambda k=k: begun.append(k), lambda: None) for k in range(5)]
        assert begun == [0, 1]
        row[2].release()  # not wanted any more
        row[2].release()
        row[1].release()
        row[1].release()
        assert begun == [0, 1, 3]
        row[0].release()
        assert begun == [0, 1, 3, 4]
        assert turns.waiting == 0

    asyncio.run(body())


def test_who_waits_shows_progress_and_does_not_wait_for_the_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "PATIENCE", 0.01)

    async def body() -> None:
        turns, come, signs = Turns(1), asyncio.Event(), []
        turns.take(lambda: None, lambda: None)  # moves nothing, for ever
        turns.take(come.set, lambda: signs.append(1))
        await asyncio.wait_for(come.wait(), PATIENCE)
        assert signs

    asyncio.run(body())


def test_who_waits_for_a_quick_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(_turns, "PATIENCE", 1000.0)  # its own timer does not come into this
    monkeypatch.setattr(_turns, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    async def body() -> None:
        turns, begun, signs = Turns(1), [], []
        quick = turns.take(lambda: None, lambda: None)
        turns.take(lambda: begun.append(1), lambda: signs.append(1))
        for _ in range(5):
            clock[0] += 999
            quick.moved(_turns.RATE * 1000)
            clock[0] += 1
            turns._look()
        assert not begun
        assert len(signs) == 5
        quick.release()
        assert begun

    asyncio.run(body())


def test_a_silent_node_costs_the_others_one_wait_and_not_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        turns, begun = Turns(1), []
        silent = turns.take(lambda: None, lambda: None)
        row = [turns.take(lambda k=k: begun.append(k), lambda: None) for k in range(5)]
        while not begun:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(_turns, "PATIENCE", 1000)  # from here on nobody begins because somebody waited
        for k, turn in enumerate(row):
            assert begun == list(range(k + 1))
            turn.moved(_turns.RATE * 1000)
            turn.release()
        silent.moved(1)  # it goes on, and ends
        silent.release()
        assert not turns._holders

    monkeypatch.setattr(_turns, "PATIENCE", 0.01)
    asyncio.run(body())


# ---------------------------------------------------------------- links


class Pipe:
    """One end of a connection in memory that holds little, as a network does."""

    HOLDS = 2

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._coming: deque[bytes] = deque()
        self._held = True
        self.other = self

    @staticmethod
    def pair() -> tuple[Pipe, Pipe]:
        one, two = Pipe(), Pipe()
        one.other, two.other = two, one
        return one, two

    def listen(
        self, received: Callable[[bytes], None], ready: Callable[[], None], ended: Callable[[str], None]
    ) -> None:
        self._received, self._ready = received, ready
        self.go_on()

    def write(self, data: bytes, more: bool = False) -> bool:
        self.other._coming.append(data)
        self._loop.call_soon(self.other._tell)
        return len(self.other._coming) < self.HOLDS

    def hold(self) -> None:
        self._held = True

    def go_on(self) -> None:
        self._held = False
        self._tell()

    def _tell(self) -> None:
        if self._coming and not self._held:
            full = len(self._coming) >= self.HOLDS
            self._received(self._coming.popleft())
            if full and len(self._coming) < self.HOLDS:
                self._loop.call_soon(self.other._ready)


class Watched:
    """Counts the payloads that are half in."""

    def __init__(self) -> None:
        self.open = self.most = 0

    def __call__(self, nbytes: int) -> Buffer:
        watch = self

        class Half(Memory):
            def write(self, offset: int, chunk: memoryview) -> None:
                if offset == 0:
                    watch.open += 1
                    watch.most = max(watch.most, watch.open)
                super().write(offset, chunk)

            def seal(self) -> None:
                watch.open -= 1
                super().seal()

        return Half(nbytes)


async def never(peer: str, asked: Message, progress: Progress) -> Message:
    raise AssertionError("a node asked")


async def echo(peer: str, asked: Message, progress: Progress) -> Message:
    return Message("reply", asked.id, "", Record({}, {"w": np.array(asked.body.arrays["w"])}))


def many(
    count: int, traffic: Traffic, watched: Watched
) -> tuple[list[Link], list[Link], Callable[[], list[asyncio.Task[str]]]]:
    refused: Callable[[str, str, str], None] = lambda peer, what, detail: pytest.fail(f"{peer}: {what}: {detail}")  # noqa: E731
    ours = [Link("coordinator", f"n{k}", never, refused, allocate=watched, traffic=traffic) for k in range(count)]
    theirs = [Link(f"n{k}", "coordinator", echo, refused, request_limit=1 << 30) for k in range(count)]

    def connect() -> list[asyncio.Task[str]]:
        running = []
        for here, there in zip(ours, theirs, strict=True):
            near, far = Pipe.pair()
            running += [asyncio.create_task(here.run(near)), asyncio.create_task(there.run(far))]
        return running

    return ours, theirs, connect


def quick(turn: Turn) -> None:
    """It moves, and does not count as silent however slow this machine is."""
    turn.moved(_turns.RATE)
    turn._seen = math.inf


async def end(ours: list[Link], theirs: list[Link], running: list[asyncio.Task[str]]) -> None:
    for link in (*ours, *theirs):
        link.close("over")
    await asyncio.gather(*running)


def test_however_many_nodes_few_replies_are_half_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_turns, "PATIENCE", PATIENCE)  # on a busy machine one that moves may stand still for a moment

    async def body() -> None:
        traffic, watched = Traffic(2), Watched()
        ours, theirs, connect = many(12, traffic, watched)
        running = connect()
        arrays = {"w": np.random.default_rng(2).normal(size=1 << 19)}  # 4 MiB
        replies = await asyncio.gather(*(link.request(message(arrays, f"m{k}")) for k, link in enumerate(ours)))
        assert all(np.array_equal(reply.body.arrays["w"], arrays["w"]) for reply in replies)
        assert 1 <= watched.most <= 2
        assert traffic.sending.waiting == traffic.receiving.waiting == 0
        await end(ours, theirs, running)

    asyncio.run(body())


def test_a_node_that_waits_for_its_turn_is_not_late() -> None:
    async def body() -> None:
        traffic, watched = Traffic(1), Watched()
        ours, theirs, connect = many(2, traffic, watched)
        running = connect()
        arrays = {"w": np.zeros(1 << 19)}
        signs: list[bool] = []  # whether somebody else was moving
        holding = traffic.receiving.take(lambda: None, lambda: None)

        async def hold() -> None:  # another transfer, quick and long
            for _ in range(100):
                quick(holding)
                await asyncio.sleep(0.005)
            holding.release()

        busy = asyncio.create_task(hold())
        await ours[0].request(message(arrays), lambda: signs.append(not busy.done()))
        assert busy.done()
        assert signs.count(True) >= 3, signs  # what it waits for moves, and it is told so
        assert not signs[-1]
        await end(ours, theirs, running)

    asyncio.run(body())


@pytest.mark.parametrize("how", ["cancelled", "disconnected"])
def test_whoever_goes_gives_its_turn_back(how: str) -> None:
    moving = []

    def moves(peer: str) -> Callable[[], None]:
        moving.append(peer)
        return lambda: moving.append(f"{peer} no more")

    async def body() -> None:
        traffic, watched = Traffic(1, moves=moves), Watched()
        ours, theirs, connect = many(3, traffic, watched)
        running = connect()
        arrays = {"w": np.zeros(1 << 19)}
        blocked = [traffic.sending.take(lambda: None, lambda: None), traffic.receiving.take(lambda: None, lambda: None)]
        asked = [asyncio.create_task(link.request(message(arrays, f"m{k}"))) for k, link in enumerate(ours)]
        await asyncio.sleep(0)
        if how == "cancelled":
            asked[0].cancel()
        else:
            ours[0].hang_up("gone")
        blocked[0].release()
        await asyncio.sleep(0.05)
        if how == "cancelled":
            asked[1].cancel()  # its reply may be half in
        else:
            ours[1].hang_up("gone")
        blocked[1].release()
        assert (await asyncio.wait_for(asked[2], PATIENCE)).kind == "reply"
        if how == "disconnected":
            running += connect()
            await asyncio.wait_for(asyncio.gather(*asked), PATIENCE)
        else:
            await asyncio.gather(*asked, return_exceptions=True)
        assert not traffic.sending._holders
        assert not traffic.receiving._holders
        assert traffic.sending.waiting == traffic.receiving.waiting == 0
        assert moving
        for peer in {one.split()[0] for one in moving}:
            assert moving.count(peer) == moving.count(f"{peer} no more")
        await end(ours, theirs, running)

    asyncio.run(body())


def test_the_same_arrays_twice_to_one_node_travel_on_two_streams() -> None:
    async def body() -> None:
        traffic, watched = Traffic(4), Watched()
        ours, theirs, connect = many(1, traffic, watched)
        running = connect()
        arrays = {"w": np.arange(1 << 19, dtype=np.float64)}
        replies = await asyncio.gather(*(ours[0].request(message(arrays, f"m{k}")) for k in range(3)))
        assert [reply.id for reply in replies] == ["m0", "m1", "m2"]
        assert all(np.array_equal(reply.body.arrays["w"], arrays["w"]) for reply in replies)
        await end(ours, theirs, running)

    asyncio.run(body())


def test_what_nobody_can_take_yet_stays_at_the_node() -> None:
    async def body() -> None:
        traffic, watched = Traffic(1), Watched()
        ours, theirs, connect = many(1, traffic, watched)
        running = connect()
        holding = traffic.receiving.take(lambda: None, lambda: None)
        asked = asyncio.create_task(ours[0].request(message({"w": np.zeros(1 << 19)})))
        small = 0
        while not traffic.receiving.waiting:
            await asyncio.sleep(0.001)
        for k in range(20):  # its connection is not stopped meanwhile
            quick(holding)
            small += (await ours[0].request(message({"w": np.zeros(k + 1)}, f"small{k}"))).kind == "reply"
        assert small == 20
        assert not asked.done()
        assert watched.most <= 1
        holding.release()
        assert (await asyncio.wait_for(asked, PATIENCE)).body.nbytes == 4 << 20
        await end(ours, theirs, running)

    asyncio.run(body())
