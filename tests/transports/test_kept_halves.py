"""Large answers go on at the chunk that was cut when their coordinator was killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_federation import authority, identity
from test_processes import line, process

from hanse.errors import TooLarge, WireError
from hanse.messages import Assembler, Memory, Message, Record, digest, edition_of, frames, half_of
from hanse.pace import Pace
from hanse.transport import Progress
from hanse.transports import _answers, _kept_halves
from hanse.transports._grpc_channel import channel_credentials
from hanse.transports._grpc_node import GrpcNode
from hanse.transports._kept_halves import KeptHalves, NodeHalves
from tests.waiting import PATIENCE

CHUNK = 1 << 10
CHUNKS = 20


def answer(seed: int = 1) -> Message:
    raw = np.random.default_rng(seed).integers(0, 255, CHUNKS * CHUNK - 17, "u1")
    return Message("reply", "m", "n", Record({}, {"w": raw}))


class Coordinator:
    """One process after the other, each of which receives frames and is killed."""

    def __init__(self, folder: Path) -> None:
        self.kept = KeptHalves(folder)
        self.halves = NodeHalves(self.kept, "n")
        self._frame = b""
        self.assembler = Assembler(self._land, halves=self.halves)

    def _land(self, nbytes: int) -> Any:
        return self.halves.land(self.assembler.newest, self._frame, nbytes)

    def feed(self, frame: bytes) -> Any:
        self._frame = frame
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
    assert coordinator.halves._on_disk is coordinator.kept
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
            node = GrpcNode("a", address, work, credentials=lambda: channel_credentials(known), pace=pace)
            node.start()
            while not any(one.stat().st_size >= 6 << 20 for one in spool.glob("halves/*/payload")):
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
    assert list(spool.glob("halves/*")) == []
