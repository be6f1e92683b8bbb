"""Large answers go on at the chunk that was cut when their coordinator was killed, and large tasks when a node was."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import caller
from grpc_federation import Federation, authority, echo, identity
from test_processes import line, process
from test_turns import Pipe

from hanse.errors import TooLarge, WireError
from hanse.identity import save_identity
from hanse.messages import Assembler, Memory, Message, Record, digest, edition_of, frames, half_of
from hanse.pace import Pace
from hanse.transport import Progress
from hanse.transports import _answers, _kept_halves
from hanse.transports._broadcast import Shared
from hanse.transports._conduit import BEGIN
from hanse.transports._grpc_channel import channel_credentials
from hanse.transports._grpc_node import GrpcNode
from hanse.transports._kept_halves import AnswerHalves, KeptHalves, TaskHalves
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link
from tests.waiting import PATIENCE, eventually

CHUNK = 1 << 10
CHUNKS = 20


def answer(seed: int = 1) -> Message:
    raw = np.random.default_rng(seed).integers(0, 255, CHUNKS * CHUNK - 17, "u1")
    return Message("reply", "m", "n", Record({}, {"w": raw}))


class Coordinator:
    """One process after the other, each of which receives frames and is killed."""

    def __init__(self, folder: Path, again: bool = False) -> None:
        self.kept = KeptHalves(folder, again)
        self.halves = AnswerHalves(self.kept, "n")
        self._frame = b""
        self.assembler = Assembler(self._land, halves=self.halves, keep=self.halves.watch)

    def _land(self, nbytes: int) -> Any:
        return self.halves.land(self.assembler.newest, self._frame, nbytes)

    def feed(self, frame: bytes) -> Any:
        self._frame = frame
        if frame[0] == BEGIN and (half := self.halves.look("m", True)) is not None:
            self.halves["m", True] = half
        return self.assembler.feed(frame)

    def killed(self, folder: Path) -> Coordinator:
        self.kept.leaving = True  # nothing tidies up after it
        return Coordinator(folder)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept_halves, "LEAST_BYTES", 1)


def made(message: Message, stream: int = 1) -> list[bytes]:
    return list(frames(message, stream, CHUNK, edition_of(message.body)))


def half_in(folder: Path, count: int = 8) -> Coordinator:
    """The next process after one that received so many chunks."""
    first = Coordinator(folder)
    for frame in made(answer())[: 1 + count]:
        assert first.feed(frame) is None
    return first.killed(folder)


def begun_again(coordinator: Coordinator, message: Message) -> int:
    coordinator.feed(made(message, 3)[0])
    return coordinator.assembler.filled(3)


def ended(coordinator: Coordinator, message: Message, filled: int) -> None:
    for frame in made(message, 3)[1 + filled // CHUNK :]:
        last = coordinator.feed(frame)
    assert np.array_equal(last.body.arrays["w"], message.body.arrays["w"])


def folders(folder: Path) -> list[Path]:
    return list((folder / "halves").iterdir())


@pytest.mark.parametrize("kills", [1, 3])
def test_what_was_in_is_there_after_every_kill_and_nothing_is_when_it_is_over(kills: int, tmp_path: Path) -> None:
    coordinator = half_in(tmp_path, 4)
    for k in range(1, kills):
        assert begun_again(coordinator, answer()) == 4 * k * CHUNK
        for frame in made(answer(), 3)[1 + 4 * k : 1 + 4 * (k + 1)]:
            coordinator.feed(frame)
        coordinator = coordinator.killed(tmp_path)
    assert begun_again(coordinator, answer()) == 4 * kills * CHUNK
    assert coordinator.halves._kept is coordinator.kept
    ended(coordinator, answer(), 4 * kills * CHUNK)
    assert folders(tmp_path) == []


def test_another_answer_under_the_same_name_begins_anew(tmp_path: Path) -> None:
    coordinator = half_in(tmp_path)
    assert begun_again(coordinator, answer(2)) == 0
    ended(coordinator, answer(2), 0)
    assert folders(tmp_path) == []


def test_a_node_finds_nothing_of_what_another_sent(tmp_path: Path) -> None:
    coordinator = half_in(tmp_path)
    assert coordinator.kept.found("other", "m") is None
    assert coordinator.kept.found("n", "other") is None
    assert coordinator.kept.found("n", "m") is not None
    assert not coordinator.halves.left
    assert coordinator.kept.found("n", "m") is None


def damaged(change: Callable[[bytes], bytes], name: str) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        path = place / name
        path.write_bytes(change(path.read_bytes()))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], int]] = {
    "a byte of the payload": (damaged(lambda raw: raw[: 3 * CHUNK] + b"?!" + raw[3 * CHUNK + 2 :], "payload"), 3),
    "the payload is cut": (damaged(lambda raw: raw[: 5 * CHUNK + 9], "payload"), 5),
    "a chunk's mark is cut": (damaged(lambda raw: raw[:-5], "chunks"), 7),
    "no marks": (damaged(lambda raw: b"", "chunks"), 0),
    "marks of nothing": (damaged(lambda raw: bytes(12) + raw, "chunks"), 0),
    "more marks than there is": (damaged(lambda raw: raw[:12] + b"\xff" * 600, "chunks"), 1),
    "the beginning is cut": (damaged(lambda raw: raw[:40], "begin"), 0),
    "the beginning is empty": (damaged(lambda raw: b"", "begin"), 0),
    "the beginning is gone": (lambda place: (place / "begin").unlink(), 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_not_believed_and_what_came_before_it_is(damage: str, tmp_path: Path) -> None:
    coordinator = half_in(tmp_path)
    what, chunks = DAMAGES[damage]
    what(folders(tmp_path)[0])
    assert begun_again(coordinator, answer()) == chunks * CHUNK
    ended(coordinator, answer(), chunks * CHUNK)
    assert folders(tmp_path) == []


def test_what_nobody_waits_for_goes_and_what_is_old_goes_at_the_next_start(tmp_path: Path) -> None:
    coordinator = half_in(tmp_path)
    assert begun_again(coordinator, answer()) > 0
    coordinator.assembler.drop(3)
    assert folders(tmp_path) == []
    half_in(tmp_path)
    assert len(folders(tmp_path)) == 1
    os.utime(folders(tmp_path)[0], (1.0, 1.0))
    KeptHalves(tmp_path)
    assert folders(tmp_path) == []


def test_a_disk_without_room_is_told_before_it_comes(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="there is room on disk for"):
        KeptHalves(tmp_path).begin("n", "m", b"", 1 << 60)


def test_what_an_earlier_one_under_the_same_name_took_counts_as_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes before the disk is asked, and the process lets go of it as well."""
    coordinator = Coordinator(tmp_path)
    for frame in made(answer())[:8]:
        coordinator.feed(frame)
    coordinator.halves.keep = lambda halves: coordinator.halves.update(halves)  # type: ignore[method-assign]
    coordinator.halves.keep(coordinator.assembler.halves())
    (earlier,) = folders(tmp_path)
    held: list[bool] = []

    def asked(nbytes: int, disk: os.statvfs_result, own: int = 0) -> None:
        still = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_lies(fd)]
        held.append(earlier.exists() or any(str(earlier) in path for path in still))

    monkeypatch.setattr(_kept_halves, "check_room", asked)
    coordinator.feed(made(answer(2), 3)[0])
    assert held == [False]


def fd_lies(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("chunks", [CHUNKS - 1, CHUNKS])
def test_the_last_chunk_comes_again(chunks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was killed when all was in, and nothing had been done with it, still has to be told that it is in."""
    monkeypatch.setattr(_kept_halves.OnDisk, "over", lambda self: None)
    first = Coordinator(tmp_path)
    for frame in made(answer())[: 1 + chunks]:
        first.feed(frame)
    coordinator = first.killed(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(_kept_halves, "LEAST_BYTES", 1)
    assert begun_again(coordinator, answer()) == (CHUNKS - 1) * CHUNK
    ended(coordinator, answer(), (CHUNKS - 1) * CHUNK)
    assert folders(tmp_path) == []


def test_what_lies_on_disk_is_read_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be gigabytes; meanwhile nodes are answered. Nobody looks where nothing was left."""
    looked: list[bool] = []
    real = KeptHalves.found

    def found(self: KeptHalves, peer: str, id: str) -> Any:
        looked.append(threading.current_thread() is threading.main_thread())
        return real(self, peer, id)

    monkeypatch.setattr(KeptHalves, "found", found)
    first = KeptHalves(tmp_path)
    first.leaving = True
    for left in (False, True):
        if left:
            first.begin("n", "m1", b"", 1)
        kept = KeptHalves(tmp_path)
        assert kept.left if left else not kept.left

        async def main(kept: KeptHalves = kept, id: str = f"m{int(left)}") -> None:
            big = Record({}, {"w": np.ones(3 << 20, "u1")})

            async def work(peer: str, asked: Message, progress: Progress) -> Message:
                return Message("reply", asked.id, "", big)

            ours = Link("coordinator", "n", work, print, traffic=Traffic(1), halves=AnswerHalves(kept, "n"))
            theirs = Link("n", "coordinator", work, print)
            near, far = Pipe(), Pipe()
            near.other, far.other = far, near
            running = [asyncio.create_task(ours.run(near)), asyncio.create_task(theirs.run(far))]
            assert np.array_equal((await ours.request(Message("task", id))).body.arrays["w"], big.arrays["w"])
            for link in (ours, theirs):
                link.close("over")
            await asyncio.gather(*running)

        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert looked == ([False] if left else [])


# ---------------------------------------------------------------- tasks, at a node


class Node:
    """One process after the other, each of which receives frames of a task and is killed."""

    def __init__(self, folder: Path) -> None:
        self.kept = KeptHalves(folder)
        self.halves = TaskHalves(self.kept, Memory)
        self.assembler = Assembler(Memory, halves=self.halves, keep=self.halves.watch)

    def feed(self, frame: bytes) -> Any:
        if frame[0] == BEGIN and (half := self.halves.look("m", False)) is not None:
            self.halves["m", False] = half
        return self.assembler.feed(frame)

    def killed(self, folder: Path) -> Node:
        self.kept.leaving = True
        return Node(folder)


def asked(seed: int = 1) -> Message:
    return Message("task", "m", "coordinator", answer(seed).body)


def on_disk(folder: Path) -> list[Path]:
    return list(folder.glob("halves/*"))


def half_a_task(folder: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Node:
    """The next process after one to which half of a task had come in twice the time that is slow."""
    monkeypatch.setattr(_kept_halves.time, "monotonic", lambda: clock[0])
    first = Node(folder)
    for number, frame in enumerate(made(asked(), 2)[:13]):
        clock[0] += _kept_halves.SLOW_SECONDS / 6
        assert first.feed(frame) is None
        assert bool(on_disk(folder)) == (number >= 6)
    return first.killed(folder)


def test_a_task_that_comes_slowly_goes_on_when_its_node_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    node = half_a_task(tmp_path, clock, monkeypatch)
    for kill in range(2):
        node.feed(made(asked(), 4)[0])
        assert node.assembler.filled(4) == (12 + kill) * CHUNK
        if not kill:  # from here on each chunk is kept as it comes
            node.feed(made(asked(), 4)[13])
            node = node.killed(tmp_path)
    for frame in made(asked(), 4)[14:]:
        last = node.feed(frame)
    assert np.array_equal(last.body.arrays["w"], asked().body.arrays["w"])
    assert isinstance(last.body.arrays.buffer, Memory)  # where the worker looks, and not the copy
    assert on_disk(tmp_path) == []


def test_another_task_under_the_same_name_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = half_a_task(tmp_path, [0.0], monkeypatch)
    node.feed(made(asked(2), 4)[0])
    assert node.assembler.filled(4) == 0
    for frame in made(asked(2), 4)[1:]:
        last = node.feed(frame)
    assert np.array_equal(last.body.arrays["w"], asked(2).body.arrays["w"])
    assert on_disk(tmp_path) == []


@pytest.mark.parametrize("fault", [OSError(12, "no memory"), MemoryError(), TooLarge("no room")])
def test_a_task_begins_anew_where_there_is_no_room_for_the_half_that_was_left(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = half_a_task(tmp_path, [0.0], monkeypatch)

    def full(nbytes: int) -> Any:
        raise fault

    assert TaskHalves(node.kept, full).look("m", False) is None
    assert on_disk(tmp_path) == []


@pytest.mark.parametrize("fault", [OSError(12, "no memory"), WireError("it is shorter than it says")])
def test_a_connection_ends_where_what_was_left_cannot_be_read(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes nothing more while a half is looked for: were nobody told, it would do so for good."""
    first = KeptHalves(tmp_path)
    first.leaving = True
    first.begin("coordinator", "m", b"", 1)
    halves = TaskHalves(KeptHalves(tmp_path), Memory)

    def look(id: str, reply: bool) -> Any:
        raise fault

    monkeypatch.setattr(halves, "look", look)

    async def main() -> None:
        ours = Link("coordinator", "n", echo, print, traffic=Traffic(1))
        theirs = Link("n", "coordinator", echo, lambda *what: None, halves=halves)
        near, far = Pipe.pair()
        running = asyncio.create_task(ours.run(near))
        task = asyncio.create_task(ours.request(Message("task", "m", body=Record({}, {"w": np.ones(3 << 20, "u1")}))))
        assert str(fault) in await theirs.run(far)
        ours.close("over")
        await asyncio.gather(running, task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_disk_that_is_full_costs_the_copy_and_not_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept_halves, "SLOW_SECONDS", 0.0)
    for fault in (OSError(28, "full"), TooLarge("no room")):
        writes = [0]

        def write(self: Any, offset: int, chunk: memoryview, writes: list[int] = writes, fault: Any = fault) -> None:
            writes[0] += 1
            if writes[0] == 5:
                raise fault

        with monkeypatch.context() as here:
            here.setattr(_kept_halves.OnDisk, "write", write)
            node = Node(tmp_path)
            for frame in made(asked(), 2):
                last = node.feed(frame)
        assert np.array_equal(last.body.arrays["w"], asked().body.arrays["w"])
        assert writes == [5]
        assert on_disk(tmp_path) == []


def test_a_task_goes_on_when_its_node_was_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with SIGKILL when twelve chunks had come: they are not sent again."""
    raw = np.random.default_rng(3).integers(0, 255, 24 << 20, "u1")
    sent_from: list[int] = []
    real = Shared.rest

    def noted(self: Shared, start: int = 0, saving: float | None = None) -> Any:
        sent_from.append(start)
        return real(self, start, saving)

    monkeypatch.setattr(Shared, "rest", noted)

    async def test() -> None:
        home = tmp_path / "node"
        async with Federation(tmp_path / "authority") as federation:
            save_identity(home, identity(federation.authority, "a"))
            asking = Message("task", "m", body=Record({}, {"w": raw}))
            reply = asyncio.create_task(federation.coordinator.request("a", asking))
            async with process("node", home, "fast", federation.address, "12") as first:
                await first.wait()
            assert len(on_disk(home)) == 1
            async with process("node", home, "fast", federation.address) as second:
                assert await line(second) == "began m"
                assert np.array_equal((await reply).body.arrays["w"], raw)

    asyncio.run(asyncio.wait_for(test(), PATIENCE))
    assert sent_from == [0, 12 << 20]
    assert on_disk(tmp_path / "node") == []


# ---------------------------------------------------------------- all of it


def test_a_frame_that_begins_nothing_is_none() -> None:
    for frame in (b"", made(answer())[1], next(iter(frames(answer(), 1, CHUNK, 0)))):
        with pytest.raises(WireError):
            half_of(frame, Memory)


def test_an_upload_goes_on_when_its_coordinator_was_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with SIGKILL in the middle: the node works once, and sends the chunks that had come only once."""
    raw = np.random.default_rng(3).integers(0, 255, 24 << 20, "u1")
    spool, worked, sent_from = tmp_path / "spool", list[str](), list[int]()
    spool.mkdir()

    async def work(peer: str, request: Message, alive: Progress) -> Message:
        worked.append(request.id)
        return Message("reply", request.id, body=Record({"n": 1}, {"w": raw}))

    real = _answers.rest

    def noted(reply: Message, stream: int, chunk: int, place: int, *more: Any) -> Any:
        sent_from.append(place)
        return real(reply, stream, chunk, place, *more)

    monkeypatch.setattr(_answers, "rest", noted)

    async def test() -> None:
        signer, pace = authority(tmp_path), Pace()
        pace.set(64.0, ())  # 8 MB a second, so that it is killed in the middle
        async with process("coordinator", tmp_path, "localhost:0", "m", spool) as first:
            address = (await line(first)).removeprefix("listening ")
            known = identity(signer, "a")
            node = GrpcNode(caller("a", work, pace=pace), address, credentials=lambda: channel_credentials(known))
            node.start()
            marks = 6 * _kept_halves._CHUNK.size  # a chunk counts when its mark is there, after its bytes
            while not any(one.stat().st_size >= marks for one in spool.glob("halves/*/chunks")):
                await asyncio.sleep(0.01)
            first.kill()
            await first.wait()
        pace.set(0.0, ())
        async with process("coordinator", tmp_path, address, "m", spool) as second:
            assert await line(second) == f"listening {address}"
            assert await line(second) == f"reply m 1 {digest(Record({'n': 1}, {'w': raw}))}"
        await node.close()

    asyncio.run(asyncio.wait_for(test(), PATIENCE))
    assert worked == ["m"]
    assert sent_from[0] == 0
    assert len(sent_from) == 2
    assert sent_from[1] >= 6 << 20
    assert list(spool.glob("halves/*/begin")) == []  # none that the next one would find


# ---------------------------------------------------------------- files are used again


def spares(folder: Path) -> list[Path]:
    return [place for place in folders(folder) if place.name.startswith("spare")]


def whole(coordinator: Coordinator, message: Message) -> Message:
    for frame in made(message):
        last = coordinator.feed(frame)
    assert isinstance(last, Message)
    return last


def test_the_file_of_an_answer_is_used_again_and_shows_nothing_of_what_it_held(tmp_path: Path) -> None:
    async def main() -> None:
        coordinator = Coordinator(tmp_path, again=True)
        files = set()
        for seed in range(3):
            message = whole(coordinator, answer(seed))
            assert np.array_equal(message.body.arrays["w"], answer(seed).body.arrays["w"])
            (place,) = folders(tmp_path)
            files.add((place / "payload").stat().st_ino)
            assert [one.name for one in place.iterdir()] == ["payload"]  # nobody takes it for a half
            del message
        assert len(files) == 1
        coordinator = coordinator.killed(tmp_path)
        assert spares(tmp_path) == []
        assert not coordinator.halves.left

    asyncio.run(main())


def test_a_half_in_a_file_that_was_used_before_is_what_came_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        coordinator = Coordinator(tmp_path, again=True)
        whole(coordinator, answer(2))
        for frame in made(answer())[: 1 + 8]:
            assert coordinator.feed(frame) is None
        coordinator = coordinator.killed(tmp_path)
        assert begun_again(coordinator, answer()) == 8 * CHUNK
        ended(coordinator, answer(), 8 * CHUNK)

    asyncio.run(main())


def test_two_answers_that_are_read_never_share_a_file(tmp_path: Path) -> None:
    async def main() -> None:
        coordinator = Coordinator(tmp_path, again=True)
        for _ in range(2):
            held = [whole(coordinator, answer(seed)) for seed in (1, 2)]
            for seed, message in zip((1, 2), held, strict=True):
                assert np.array_equal(message.body.arrays["w"], answer(seed).body.arrays["w"])
            del held, message
        assert len(spares(tmp_path)) == 2

    asyncio.run(main())


def test_files_that_are_kept_make_room_and_go_when_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        coordinator, seen = Coordinator(tmp_path, again=True), list[int]()
        held = [whole(coordinator, answer(seed)) for seed in (1, 2, 3)]
        held.clear()
        assert len(spares(tmp_path)) == 3

        def full(nbytes: int, disk: os.statvfs_result, own: int = 0) -> None:
            seen.append(len(spares(tmp_path)))
            if seen[-1]:
                raise TooLarge("no room")

        monkeypatch.setattr(_kept_halves, "check_room", full)
        held.append(whole(coordinator, answer(4)))  # in one of them; the others make room
        assert seen == [2, 0]
        monkeypatch.setattr(_kept_halves, "check_room", lambda nbytes, disk, own: full(1, disk))
        with pytest.raises(TooLarge, match="no room"):  # what is read makes none
            whole(coordinator, answer(5))
        coordinator.kept.leave()
        assert np.array_equal(held[0].body.arrays["w"], answer(4).body.arrays["w"])
        held.clear()
        assert folders(tmp_path) == []

    asyncio.run(main())


def test_a_file_that_no_answer_needs_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept_halves, "SPARE_SECONDS", 0.0)

    async def main() -> None:
        coordinator = Coordinator(tmp_path, again=True)
        whole(coordinator, answer())
        assert len(spares(tmp_path)) == 1
        await eventually(lambda: folders(tmp_path) == [])

    asyncio.run(main())
