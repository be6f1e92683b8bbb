"""A Merkle tree over what was counted: each leaf leads to the root, and nothing else does."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.messages import Assembler, Buffered, Layout, Memory, Message, Packer, Record, edition_of, frames, receipt
from hanse.receipts import LARGE, Receipts, climbed, commitment, hashed, leaf, proof, root, salted, way


def leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(count)]


@given(st.integers(1, 70), st.data())
def test_each_leaf_leads_to_the_root_and_at_its_own_place_alone(count: int, data: st.DataObject) -> None:
    all_of, place = leaves(count), data.draw(st.integers(0, count - 1))
    steps = way(all_of, place)
    assert climbed(all_of[place], place, count, steps) == root(all_of)
    other = data.draw(st.integers(0, count - 1))
    if other != place:
        assert climbed(all_of[other], place, count, steps) != root(all_of)
        assert climbed(all_of[place], other, count, steps) != root(all_of)
    for more in (steps + steps[:1], steps[1:], [*steps, "00" * 32]):
        if more != steps:
            assert climbed(all_of[place], place, count, more) != root(all_of)
    assert climbed(all_of[place], count, count, steps) == ""


def test_an_inner_node_is_no_leaf() -> None:
    """Or a pair of leaves could be shown as one (RFC 6962)."""
    four = leaves(4)
    assert root([b"x" * 32, b"y" * 32]) != hashlib.sha256(b"x" * 32 + b"y" * 32).hexdigest()
    assert leaf("00", "a", []) != hashlib.sha256(b'["00","a",[]]').digest()
    assert len({root(four[:n]) for n in range(1, 5)}) == 4


def reply(value: float = 1.0, **data: object) -> Record:
    return Record({"weight": 3.0, "data": {}, "metrics": {}, **data}, {"a.x": np.full(4, value)})


def arrived(sent: Message, stream: int, receipts: bool, pack: Packer | None = None) -> Record:
    assembler, found = Assembler(receipts=receipts), None
    for frame in frames(sent, stream, chunk=1 << 12, pack=pack):
        found = assembler.feed(frame)
    assert isinstance(found, Message)
    return found.body


@pytest.mark.parametrize("packed", [False, True])
def test_both_ends_of_a_line_have_the_same_receipt(packed: bool) -> None:
    """Also where it was made while the chunks came in, which no pass over the arrays is needed for then."""
    arrays = {"a": np.arange(3000.0), "b": np.zeros((7, 5), np.float32), "c": np.arange(20_000)}
    for body in (reply(), Record(reply().data, arrays), Record({"weight": 1.0})):
        sent, pack = Message("reply", "1", "a", body), Packer(0.0) if packed else None
        bodies = [arrived(sent, stream, receipts, pack) for stream in (1, 2) for receipts in (True, False)]
        assert [receipt(found) for found in bodies] == [receipt(body)] * 4
        made = [found.arrays.receipt for found in bodies if isinstance(found.arrays, Buffered)]
        assert made == [receipt(body), "", "", ""]  # of what is no reply nobody needs one


def test_what_has_a_receipt_has_its_edition_without_being_read() -> None:
    class Unread(Memory):
        def read(self, offset: int, nbytes: int) -> memoryview:
            raise AssertionError("a pass over all of it")

    layout = Layout.of({"w": np.zeros(3)})
    made = [edition_of(Record({}, Buffered(layout, Unread(24), c * 64))) for c in "0af"]
    assert len(set(made)) == 3
    assert all(0 < edition < 1 << 63 for edition in made)


def test_a_receipt_is_of_all_that_is_in_a_record() -> None:
    base = reply()
    others = [
        reply(2.0),
        reply(more=1),
        Record(base.data, {"a.y": np.full(4, 1.0)}),
        Record(base.data, {"a.x": np.full((2, 2), 1.0)}),
        Record(base.data, {"a.x": np.full(4, 1.0).view(np.int64)}),
    ]
    assert len({receipt(one) for one in (base, *others)}) == 6


def add(to: Receipts, *said: Any) -> None:
    asyncio.run(to.add(*said))


def test_large_replies_are_hashed_beside_and_are_the_same_at_both_ends() -> None:
    large = Record({"weight": 1.0}, {"a.x": np.arange(LARGE // 8 + 1, dtype=np.float64)})

    async def body() -> dict[str, Any]:
        found = Receipts()
        found.begin()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.ensure_future(others())
        await found.add("big", 0, 0, "answer", large)
        beside.cancel()
        assert turns > 0  # nobody waited for it
        sent = hashed(large)
        assert not isinstance(sent, str)
        assert found.of(["big"])["sent"] == {"big": [[0, 0, "answer", await sent]]}
        return found.of(["big"])

    shown = proof(asyncio.run(body()), "big")
    assert shown is not None
    assert shown["sent"][0][3] == receipt(large)
    assert hashed(reply()) == receipt(reply())  # of a small one at once


def test_what_was_counted_is_committed_to_and_no_more() -> None:
    found = Receipts()
    found.begin()
    for node in ("c", "a", "b"):
        add(found, node, 0, 0, "answer", reply(float(ord(node))))
    kept = found.of(["a", "c"])  # b was left out
    assert [*kept["sent"]] == ["a", "c"]
    assert proof(kept, "b") is None
    shown = proof(kept, "c")
    assert shown is not None
    reached = climbed(leaf(shown["salt"], "c", shown["sent"]), shown["place"], shown["of"], shown["way"])
    assert commitment(kept) == {"root": reached, "of": 2}
    found.begin()
    assert found.of(["a"]) == {}


def test_a_proof_does_not_tell_what_others_sent() -> None:
    """A count of rows has few values: with the salt of a leaf one could try them all."""
    found = Receipts()
    found.begin()
    add(found, "a", 0, 0, "answer", reply(1.0))
    add(found, "b", 0, 0, "answer", reply(2.0))
    kept = found.of(["a", "b"])
    shown = proof(kept, "a")
    assert shown is not None
    (beside,) = shown["way"]
    guess = [[0, 0, "answer", receipt(reply(2.0))]]
    assert leaf(salted(kept["salt"], "b"), "b", guess).hex() == beside  # with the salt of the step, which stays there
    assert leaf(shown["salt"], "b", guess).hex() != beside
    assert kept["salt"] not in str(shown)


@pytest.mark.parametrize("nodes", [[], ["x"]])
def test_nothing_counted_is_nothing_committed(nodes: list[str]) -> None:
    assert Receipts().of(nodes) == {}
