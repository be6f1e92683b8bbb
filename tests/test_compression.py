"""Chunks that are compressed on their way: nothing is lost, and nothing is believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hanse.errors import Tampered, WireError
from hanse.messages import Assembler, Message, Packer, Record, frames
from hanse.messages.compression import unpacked
from hanse.messages.framing import rest
from tests.examples import examples

CHUNK = 16 << 10


def rounded(seed: int, *shapes: tuple[str, int]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {f"a{k}": np.round(rng.normal(size=n), 1).astype(dtype) for k, (dtype, n) in enumerate(shapes)}


@examples(20)
@given(
    seed=st.integers(0, 999),
    shapes=st.lists(st.tuples(st.sampled_from(["f8", "f4", "f2", "i2", "u1"]), st.integers(0, 30_000)), max_size=4),
    noise=st.booleans(),
    start=st.integers(0, 5),
)
def test_whatever_is_packed_arrives_as_it_was_from_wherever_it_goes_on(
    seed: int, shapes: list[tuple[str, int]], noise: bool, start: int
) -> None:
    arrays = rounded(seed, *shapes)
    if noise:
        arrays["noise"] = np.frombuffer(np.random.default_rng(seed).bytes(40_000), "u1")
    message = Message("reply", "m", "a", Record({}, arrays))
    assembler, plain = Assembler(), Assembler()
    *_, found = [assembler.feed(frame) for frame in frames(message, 1, CHUNK, 7, Packer(0.3))]
    *_, expected = [plain.feed(frame) for frame in frames(message, 1, CHUNK, 7)]
    for name, array in arrays.items():
        assert np.array_equal(found.body.arrays[name], array)  # type: ignore[union-attr]
        assert np.array_equal(expected.body.arrays[name], array)  # type: ignore[union-attr]
    assert assembler.mark == plain.mark  # so a message that comes again otherwise is known
    if start * CHUNK < message.body.nbytes:  # half came as it is, the rest comes packed
        halves: dict[Any, Any] = {}
        first = Assembler(halves=halves)
        for _, frame in zip(range(start + 1), frames(message, 1, CHUNK, 7), strict=False):
            first.feed(frame)
        halves.update(first.halves())
        second = Assembler(halves=halves)
        last = second.feed(next(iter(frames(message, 3, CHUNK, 7))))
        assert second.filled(3) == start * CHUNK
        for frame in rest(message, 3, CHUNK, start * CHUNK, Packer(0.01)):
            last = second.feed(frame)
        assert all(np.array_equal(last.body.arrays[n], a) for n, a in arrays.items())  # type: ignore[union-attr]


def test_what_gains_nothing_goes_as_it_is_and_costs_a_try_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    from hanse.messages import compression

    tried = []
    real = compression._packed
    monkeypatch.setattr(compression, "_packed", lambda planes, raw: tried.append(planes) or real(planes, raw))
    body = np.frombuffer(np.random.default_rng(1).bytes(128 * CHUNK), "f4")
    message = Message("reply", "m", "a", Record({}, {"w": body}))
    assert list(frames(message, 1, CHUNK, 7, Packer(0.3))) == list(frames(message, 1, CHUNK, 7))
    assert len(tried) <= 2 * (128 // 64 + 1)


def test_the_bytes_on_the_way_are_counted() -> None:
    message = Message("reply", "m", "a", Record({}, rounded(2, ("f4", 50_000))))
    assembler = Assembler()
    made = list(frames(message, 1, CHUNK, 7, Packer(0.3)))
    for frame in made:
        assembler.feed(frame)
    assert assembler.came <= sum(map(len, made[1:])) < 0.4 * message.body.nbytes


def of(raw: bytes, **more: Any) -> bytes:
    return zstandard.ZstdCompressor(**more).compress(raw)


@pytest.mark.parametrize(
    ("planes", "body", "said"),
    [
        (3, of(b"x" * 100), "in 3 planes"),
        (1, b"", "cannot be read"),
        (1, b"nothing of the kind", "cannot be read"),
        (1, of(b"x" * 100)[:-3], "cannot be read"),
        (1, of(b"x" * 101), "says that it has 101 bytes; expected 1 to 100"),
        (4, of(b"\0" * (1 << 26)), "says that it has 67108864 bytes"),
        (1, of(b"x" * 50, write_content_size=False), "says that it has"),
        (1, of(b""), "says that it has"),
    ],
)
def test_a_chunk_that_would_be_more_than_there_is_room_for_is_refused_before_it_is(
    planes: int, body: bytes, said: str
) -> None:
    with pytest.raises(WireError, match=said):
        unpacked(planes, body, 100)


def test_a_packed_chunk_is_checked_as_any_other() -> None:
    message = Message("reply", "m", "a", Record({}, rounded(3, ("f4", 9000))))
    begun, packed, *_ = frames(message, 1, CHUNK, 7, Packer(0.3))
    assert packed[0] == 4
    for broken, error in (
        (packed[:13] + bytes([packed[13] ^ 1]) + packed[14:], Tampered),
        (packed[:5] + b"\1" + packed[6:], WireError),
        (packed[:21], WireError),
    ):
        assembler = Assembler()
        assembler.feed(begun)
        with pytest.raises(error):
            assembler.feed(broken)
