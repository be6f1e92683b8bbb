"""What every transport promises (``hanse.transport.Transport``). A new one is one more factory."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from hanse import transports
from hanse.errors import ConfigError, HanseError, NodeFailed, NotApproved
from hanse.messages import Memory, Message, Record
from hanse.transport import Handler, Progress, Transport
from hanse.transports.local import LocalTransport

sys.path.insert(0, str(Path(__file__).parents[1] / "transports"))
sys.path.insert(0, str(Path(__file__).parents[2]))
from flower_federation import FlowerFederation
from folder_federation import FolderFederation
from grpc_federation import Federation
from patience import processor_seconds

from tests.contracts.answering.algorithms import answering
from tests.contracts.on_ray import Actors, OnRay, started
from tests.extending import install
from tests.waiting import PATIENCE

install("transports/inbox.py")


@dataclass
class Lab:
    """A transport under test, and what brings nodes on line and off."""

    transport: Transport
    join: Callable[[str, Handler], Awaitable[None]]
    leave: Callable[[str], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    recorded: list[Any] = field(default_factory=list)  # what was refused or came late; nothing, when it is closed


async def local(wire: str) -> Lab:
    transport = LocalTransport({}, wire)

    async def join(node: str, handler: Handler) -> None:
        transport.attach(node, handler)

    async def leave(node: str) -> None:
        transport.detach(node)

    async def close() -> None:
        pass

    return Lab(transport, join, leave, close)


async def of_nodes(make: Callable[[Path], Federation | FolderFederation | FlowerFederation]) -> Lab:
    """One whose nodes dial in."""
    home = tempfile.TemporaryDirectory()
    federation = await make(Path(home.name)).__aenter__()
    nodes: dict[str, Any] = {}

    async def join(node: str, handler: Handler) -> None:
        nodes[node] = await federation.node(node, handler, alive_every=0.05)

    async def leave(node: str) -> None:
        await nodes.pop(node).close()

    async def close() -> None:
        await federation.__aexit__()
        home.cleanup()
        assert federation.recorded == []

    return Lab(federation.coordinator, join, leave, close, federation.recorded)


async def inbox() -> Lab:
    async def nobody(peer: str, message: Message, progress: Progress) -> Message:
        raise AssertionError("no node asks anything here")

    hub = transports.Hub(nobody, lambda node, mark: None, lambda *what: None, lambda hosts: (b"", b"", b""), Path())
    listener = transports.listener("inbox://contract", hub)
    address = await listener.start()
    nodes: dict[str, transports.Line] = {}

    async def join(node: str, handler: Handler) -> None:
        caller = transports.Caller(node, no_identity, handler, Memory, lambda *said: None, lambda *what: None, 1 << 30)
        nodes[node] = transports.line(address, caller)
        nodes[node].start()
        while node not in listener.online():
            await listener.changed()

    async def leave(node: str) -> None:
        await nodes.pop(node).close()

    return Lab(listener, join, leave, listener.stop)


async def ray(actors: Actors) -> Lab:
    """No transport by itself: the places of a simulation, behind the one that it asks them by."""
    sites = OnRay(actors.lent())

    async def join(node: str, handler: Handler) -> None:
        assert isinstance(handler, Does), "a site in an actor does what has a name"
        sites.transport.attach(node, sites.handler(node, handler.name))

    async def leave(node: str) -> None:
        sites.transport.detach(node)

    async def close() -> None:
        sites.close()

    return Lab(sites.transport, join, leave, close)


@pytest.fixture(scope="module")
def actors() -> Iterator[Actors]:
    with started(str(Path(__file__).with_name("answering"))) as found:
        yield found


def no_identity() -> Any:
    raise AssertionError("there are no certificates here")


MAKERS: dict[str, Callable[..., Coroutine[Any, Any, Lab]]] = {
    "local": lambda: local("references"),
    "local exact": lambda: local("exact"),
    "grpc": lambda: of_nodes(Federation),
    "folder": lambda: of_nodes(FolderFederation),
    "flower": lambda: of_nodes(FlowerFederation),
    "ray": ray,
    "a transport of one file": inbox,
}
MARKS = {
    "flower": [pytest.mark.flower, pytest.mark.timeout(1000)],
    "ray": [pytest.mark.long, pytest.mark.timeout(600)],
}
NOT_ON_RAY = {
    "test_the_handler_knows_who_asks": "an actor is asked by the process that made it, and by nobody else",
    "test_an_error_message_as_reply_is_raised_too": "a site replies with a record or raises; it makes no messages",
    "test_cancelling_the_request_cancels_the_work": "an actor ends what it has begun, unless the run ends: then it is "
    "killed (tests/experiment/test_cluster.py)",
    "test_work_that_says_it_is_alive_is_heard": "no site of a simulation is late, however long it works",
    "test_who_is_on_line_and_when_that_changes": "the sites of a simulation are there from its beginning to its end",
}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in MAKERS])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs a test with nodes that have these handlers, on each transport."""
    make = MAKERS[request.param]
    if request.param == "ray":
        if why := NOT_ON_RAY.get(request.function.__name__):
            pytest.skip(why)
        make = partial(make, request.getfixturevalue("actors"))
    return partial(on, make, 200 if request.param == "flower" else None)


def on(
    make: Callable[[], Coroutine[Any, Any, Lab]],
    patience: float | None,
    test: Callable[[Lab], Awaitable[None]],
    **handlers: Handler,
) -> None:
    async def body() -> None:
        lab = await make()
        try:
            async with asyncio.timeout(PATIENCE) if patience is None else processor_seconds(patience):
                for node, handler in handlers.items():
                    await lab.join(node, handler)
                await test(lab)
        finally:
            await lab.close()

    asyncio.run(body())


Run = Callable[..., None]


@dataclass(frozen=True)
class Does:
    """A handler that does what is so called in ``answering``."""

    name: str

    async def __call__(self, peer: str, request: Message, alive: Progress) -> Message:
        does = getattr(answering, self.name)
        body = await asyncio.to_thread(does, request.body) if self.name == "waits" else does(request.body)
        return Message("reply", request.id, body=body)


echo = Does("echo")


class Pipe:
    """What a handler that ``waits`` waits for, in whatever process it is."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pipe"
        os.mkfifo(self.path)

    @property
    def ask(self) -> Record:
        return Record({"until": str(self.path)})

    async def begun(self) -> IO[str]:
        """When the handler waits; it goes on when this is closed."""
        return await asyncio.to_thread(self.path.open, "w")


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    names = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
    found = {name: rng.integers(0, 2, (3, 5)).astype(name) for name in names}
    return found | {"empty": np.zeros((0, 4), "f4"), "scalar": np.array(np.nan), "one": np.ones(1)}


def same(a: Record, b: Record) -> None:
    assert dict(a.data) == dict(b.data)
    assert set(a.arrays) == set(b.arrays)
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name])
        assert array.dtype == b.arrays[name].dtype


def test_what_is_sent_is_what_comes_back(run: Run) -> None:
    async def test(lab: Lab) -> None:
        body = Record({"text": "ä\n\0", "n": [1, 2.5, None, {"a": True}]}, arrays())
        reply = await lab.transport.request("a", Message("task", "1", body=body))
        assert (reply.kind, reply.id) == ("reply", "1")
        same(reply.body, body)

    run(test, a=echo)


def test_a_message_may_have_no_arrays(run: Run) -> None:
    async def test(lab: Lab) -> None:
        same((await lab.transport.request("a", Message("task", "1"))).body, Record())

    run(test, a=echo)


def test_thirty_megabytes_both_ways(run: Run) -> None:
    async def test(lab: Lab) -> None:
        rng = np.random.default_rng(1)
        body = Record({}, {"w": rng.random(3_750_000), "odd": rng.integers(0, 9, 1_234_567).astype("u1")})
        moved: list[int] = []
        reply = await lab.transport.request("a", Message("task", "1", body=body), lambda: moved.append(1))
        same(reply.body, body)
        assert np.asarray(reply.body.arrays["w"]).flags.aligned

    run(test, a=echo)


def test_many_at_once_each_gets_its_own(run: Run) -> None:
    async def test(lab: Lab) -> None:
        async def one(node: str, i: int) -> None:
            body = Record({"node": node, "i": i}, {"i": np.full(i * 7, i)})
            same((await lab.transport.request(node, Message("task", f"{node}{i}", body=body))).body, body)

        await asyncio.gather(*(one(node, i) for i in range(60) for node in "abc"))

    run(test, a=echo, b=echo, c=echo)


def test_requests_are_handled_in_the_order_they_were_made(run: Run) -> None:
    async def test(lab: Lab) -> None:
        asks = [Record({"of": of, "i": i}) for i in range(40)]
        sent = (lab.transport.request("a", Message("task", f"{i}", body=ask)) for i, ask in enumerate(asks))
        for i, reply in enumerate(await asyncio.gather(*sent)):
            assert reply.body.data["seen"] == [*range(i + 1)]

    of = uuid.uuid4().hex
    run(test, a=Does("tells_what_came"))


def test_the_handler_knows_who_asks(run: Run) -> None:
    peers: list[str] = []

    async def note(peer: str, request: Message, alive: Progress) -> Message:
        peers.append(peer)
        return Message("reply", request.id)

    async def test(lab: Lab) -> None:
        await lab.transport.request("a", Message("task", "1"))
        assert peers == ["coordinator"]

    run(test, a=note)


def test_the_nodes_error_arrives_as_it_was_raised(run: Run) -> None:
    async def test(lab: Lab) -> None:
        with pytest.raises(NotApproved, match="^the owner has not approved this; ask again$"):
            await lab.transport.request("a", Message("task", "1"))

    run(test, a=Does("refuses"))


def test_an_error_message_as_reply_is_raised_too(run: Run) -> None:
    async def no(peer: str, request: Message, alive: Progress) -> Message:
        return Message("error", request.id, body=Record({"code": "config", "message": "wrong setting"}))

    async def test(lab: Lab) -> None:
        with pytest.raises(ConfigError, match="wrong setting"):
            await lab.transport.request("a", Message("task", "1"))

    run(test, a=no)


def test_cancelling_the_request_cancels_the_work(run: Run) -> None:
    async def test(lab: Lab) -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def work(peer: str, request: Message, alive: Progress) -> Message:
            if request.kind == "task":
                began.set()
                try:
                    await asyncio.sleep(1000)
                finally:
                    ended.set()
            return Message("reply", request.id)

        await lab.join("a", work)
        task = asyncio.create_task(lab.transport.request("a", Message("task", "1")))
        await began.wait()
        assert not ended.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()
        assert (await lab.transport.request("a", Message("other", "2"))).id == "2"

    run(test)


def test_what_was_cancelled_answers_nothing_that_comes_after(run: Run, tmp_path: Path) -> None:
    async def test(lab: Lab) -> None:
        pipe = Pipe(tmp_path)
        task = asyncio.create_task(lab.transport.request("a", Message("task", "1", body=pipe.ask)))
        work = await pipe.begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        work.close()
        for i in range(3):
            after = Message("task", f"after {i}", body=Record({"i": i}))
            same((await lab.transport.request("a", after)).body, after.body)
        assert {kind for _, kind, _ in lab.recorded} <= {"late"}
        lab.recorded.clear()

    run(test, a=Does("waits"))


def test_work_that_says_it_is_alive_is_heard(run: Run) -> None:
    async def test(lab: Lab) -> None:
        heard = asyncio.Event()

        async def work(peer: str, request: Message, alive: Progress) -> Message:
            alive()
            await heard.wait()
            return Message("reply", request.id)

        await lab.join("a", work)
        await lab.transport.request("a", Message("task", "1"), heard.set)

    run(test)


def test_who_is_on_line_and_when_that_changes(run: Run) -> None:
    async def test(lab: Lab) -> None:
        async def changed() -> frozenset[str]:
            await lab.transport.changed()
            return lab.transport.online()

        assert lab.transport.online() == frozenset()
        waiting = asyncio.create_task(changed())
        await asyncio.sleep(0)
        await lab.join("a", echo)
        assert await waiting == {"a"}
        waiting = asyncio.create_task(changed())
        await asyncio.sleep(0)
        await lab.leave("a")
        assert await waiting == frozenset()
        await lab.join("b", echo)
        assert lab.transport.online() == {"b"}

    run(test)


def test_one_slow_node_does_not_hold_up_the_others(run: Run, tmp_path: Path) -> None:
    async def test(lab: Lab) -> None:
        pipe = Pipe(tmp_path)
        waiting = asyncio.create_task(lab.transport.request("slow", Message("task", "1", body=pipe.ask)))
        work = await pipe.begun()
        for i in range(5):
            await lab.transport.request("a", Message("task", f"{i}"))
        assert not waiting.done()
        work.write("go on")
        work.close()
        assert (await waiting).body.data == {"heard": "go on"}

    run(test, slow=Does("waits"), a=echo)


def test_every_error_of_a_node_is_an_error_of_hanse(run: Run) -> None:
    async def test(lab: Lab) -> None:
        with pytest.raises(HanseError, match="plain") as caught:
            await lab.transport.request("a", Message("task", "1"))
        assert caught.value.code == "error"

    run(test, a=Does("fails"))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_actor_that_ends_fails_what_its_sites_are_asked_and_no_other(actors: Actors) -> None:
    """Over a network such a request waits for its node; in a simulation nobody brings the actor back."""

    async def test(lab: Lab) -> None:
        body = Record({}, {"x": np.arange(1000.0)})
        same((await lab.transport.request("a", Message("task", "0", body=body))).body, body)  # each has a place now
        same((await lab.transport.request("b", Message("task", "0", body=body))).body, body)
        await lab.join("a", Does("ends"))
        asked = [lab.transport.request(node, Message("task", "1", body=body)) for node in "ab"]
        lost, other = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(lost, NodeFailed)
        assert "the actor that this site is in has ended" in lost.message
        assert isinstance(other, Message)
        same(other.body, body)
        await lab.join("a", echo)
        with pytest.raises(NodeFailed, match="has ended"):
            await lab.transport.request("a", Message("task", "2", body=body))
        same((await lab.transport.request("b", Message("task", "2", body=body))).body, body)

    on(partial(ray, actors), None, test, a=echo, b=echo)
