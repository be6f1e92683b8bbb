"""Replies up to a megabyte are one frame, where the other end says that it takes so; and lie where they came in."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import numpy as np
import pytest
import xxhash

from hanse.errors import WireError
from hanse.messages import WHOLE_BYTES, WHOLE_HEADER_BYTES, Assembler, Message, Record, Spool, frames, receipt
from hanse.transport import Progress
from hanse.transports._budget import Budget
from hanse.transports._conduit import BEGIN, CHUNK, CHUNK_BYTES, WHOLE_REPLY
from hanse.transports._large_request import Traffic
from hanse.transports._link import Link
from tests.transports.test_turns import Pipe

_WHOLE = 5  # the type of the frame
PLENTY = {"w": np.random.default_rng(3).normal(size=40_000), "few": np.arange(3, dtype="i1")}


class Kept(Pipe):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes, more: bool = False) -> bool:
        self.written.append(data)
        return super().write(data, more)


async def answered(budget: Budget, arrays: dict[str, Any], says: bool = True) -> tuple[list[Message], list[bytes]]:
    """Two replies of a node with these arrays, and what it wrote."""

    async def work(peer: str, task: Message, progress: Progress) -> Message:
        return Message("reply", task.id, "", Record({"n": 1}, arrays))

    def refused(*what: str) -> None:
        raise AssertionError(what)

    ours = Link("coordinator", "n", work, refused, allocate=budget, traffic=Traffic(1) if says else None)
    theirs = Link("n", "coordinator", work, refused)
    near, far = Kept(), Kept()
    near.other, far.other = far, near
    running = [asyncio.create_task(ours.run(near)), asyncio.create_task(theirs.run(far))]
    try:
        found = [await ours.request(Message("task", f"m{k}", "coordinator", Record({}))) for k in range(2)]
        return found, far.written
    finally:
        for link in (ours, theirs):
            link.close("over")
        await asyncio.gather(*running)


def first_bytes(written: list[bytes]) -> list[int]:
    return [data[0] for data in written]


@pytest.mark.parametrize("says", [True, False])
def test_a_reply_is_one_frame_where_the_other_end_takes_it(says: bool) -> None:
    replies, written = asyncio.run(answered(Budget(), PLENTY, says))
    assert first_bytes(written) == ([_WHOLE] * 2 if says else [BEGIN, CHUNK] * 2)
    for reply in replies:
        assert {name: reply.body.arrays[name].tolist() for name in PLENTY} == {k: v.tolist() for k, v in PLENTY.items()}
        assert reply.body.arrays.receipt == receipt(Record({"n": 1}, PLENTY))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arrays",
    [{"w": np.zeros(CHUNK_BYTES + 1, "u1")}, {"w": np.zeros(9), "n" * WHOLE_HEADER_BYTES: np.zeros(9)}],
    ids=["payload", "header"],
)
def test_a_reply_of_more_than_a_chunk_or_with_a_long_header_is_several_frames(arrays: dict[str, Any]) -> None:
    _, written = asyncio.run(answered(Budget(), arrays))
    assert _WHOLE not in first_bytes(written)
    assert len(written) > 3


def test_a_header_behind_which_numbers_do_not_lie_aligned_is_refused() -> None:
    (frame,) = frames(Message("reply", "i", "n", Record({}, {"x": np.arange(9.0)})), 3)
    length = int.from_bytes(frame[8:12], "little")
    content = frame[32 : 32 + length] + b" " + frame[32 + length :]
    longer = struct.pack("<BI3xI4x16s", _WHOLE, 3, length + 1, xxhash.xxh3_128_digest(content)) + content
    with pytest.raises(WireError, match="in eights"):
        Assembler().feed(longer)


def test_a_long_header_in_one_frame_is_refused_before_it_is_read() -> None:
    text = b"{" * (WHOLE_HEADER_BYTES + 8)
    frame = struct.pack("<BI3xI4x16s", _WHOLE, 3, len(text), bytes(16)) + text + bytes(9)
    with pytest.raises(WireError, match=f"at most {WHOLE_HEADER_BYTES}"):
        Assembler(whole=WHOLE_REPLY).feed(frame)


def test_a_reply_in_one_frame_lies_where_it_came_in_and_counts_as_long_as_it_is_looked_at() -> None:
    budget = Budget()
    replies, written = asyncio.run(answered(budget, PLENTY))
    size = replies[0].body.nbytes
    found = [reply.body.arrays["w"] for reply in replies]
    for array, frame in zip(found, written, strict=True):
        assert np.shares_memory(array, np.frombuffer(frame, "u1"))
        assert not array.flags.writeable
    assert budget.held == 2 * size
    del replies
    assert budget.held == 2 * size
    del found, array
    assert budget.held == 0


def test_what_the_budget_has_no_memory_for_lies_in_a_file_and_says_the_same() -> None:
    budget = Budget(memory=400_000)
    replies, _ = asyncio.run(answered(budget, PLENTY))
    assert budget.held == replies[0].body.nbytes
    assert [isinstance(r.body.arrays.buffer, Spool) for r in replies] == [False, True]  # type: ignore[attr-defined]
    assert replies[0].body.arrays["w"].tolist() == replies[1].body.arrays["w"].tolist()


@pytest.mark.parametrize(
    ("stream", "nbytes", "takes", "most"),
    [
        (2, WHOLE_BYTES, WHOLE_REPLY, WHOLE_BYTES),  # a request comes from who was asked nothing
        (3, WHOLE_BYTES, WHOLE_BYTES, WHOLE_BYTES),
        (3, WHOLE_REPLY, WHOLE_REPLY, WHOLE_REPLY),
    ],
)
def test_a_frame_that_is_larger_than_was_said_is_refused(stream: int, nbytes: int, takes: int, most: int) -> None:
    message = Message("reply", "i", "n", Record({}, {"x": np.zeros(nbytes, "u1")}))
    (frame,) = frames(message, stream, nbytes, whole=2 * nbytes)
    with pytest.raises(WireError, match=f"the largest has {most}"):
        Assembler(whole=takes).feed(frame)


def test_numbers_of_a_large_frame_lie_aligned_and_the_whole_of_it_is_not_copied() -> None:
    (frame,) = frames(Message("reply", "i", "n", Record({}, PLENTY)), 3, whole=WHOLE_REPLY)
    alone = np.frombuffer(bytes(frame), "u1").copy()
    beside = np.empty(len(frame) + 1, "u1")
    beside[1:] = alone
    for data, copied in ((alone.data, False), (beside.data[1:], True)):
        found = Assembler(whole=WHOLE_REPLY).feed(data)  # type: ignore[arg-type]
        assert isinstance(found, Message)
        assert found.body.arrays["w"].flags.aligned
        assert np.shares_memory(found.body.arrays["w"], np.frombuffer(data, "u1")) is not copied
