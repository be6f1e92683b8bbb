"""Large whole numbers travel in fewer bytes, and are the same to whoever adds them up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.errors import Unusable
from hanse.gather import Party, Reply
from hanse.gathering._narrow import LEAST, _Widened, widened
from hanse.gathering.plain import Contributions, Plain, came
from hanse.kinds import Ask, Combine, Contribution, Gathered
from hanse.messages import Array, Buffered, Json, Layout, Record, Spool, dump, load, payload

N = LEAST + 5
RANGES = {  # the smallest and the largest number, and how many bytes each takes
    "int32": (-(1 << 31), (1 << 31) - 1, 4),
    "above int32": (-(1 << 31), 1 << 31, 5),
    "below int32": (-(1 << 31) - 1, 0, 5),
    "40 bits": (-(1 << 39), (1 << 39) - 1, 5),
    "above 40 bits": (0, 1 << 39, 6),
    "48 bits": (-(1 << 47), (1 << 47) - 1, 6),
    "above 48 bits": (-1, 1 << 47, 8),
    "all": (-(1 << 63), (1 << 63) - 1, 8),
    "zeros": (0, 0, 4),
}


def numbers(name: str) -> Array:
    least, most, _ = RANGES[name]
    found = np.random.default_rng(0).integers(least, most, N, np.int64, endpoint=True)
    found[:6] = least, most, 0, max(least, -1), min(most, 1), max(least, -(1 << 20))
    return found


def reply(arrays: Mapping[str, Array], combine: Combine | None = Combine.SUM) -> Record:
    contribution = Contribution(Record({"said": 1}, arrays), 1.0, {}, {}, combine)
    return Plain().reply("answer", Record(), lambda ask: contribution, Party("a"))


def spooled(record: Record, folder: Path) -> Record:
    """As it lies at a coordinator that has no memory for it."""
    layout = Layout.of(record.arrays)
    buffer, offset = Spool(layout.nbytes, folder), 0
    for piece in payload(record):
        buffer.write(offset, piece)
        offset += len(piece)
    return Record(record.data, Buffered(layout, buffer))


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("where", ["memory", "wire", "file"])
def test_a_sum_is_that_of_the_numbers_as_they_were(name: str, where: str, tmp_path: Path) -> None:
    arrays = {"n": numbers(name).reshape(1, N), "real": np.ones(N), "few": np.arange(3)}
    sent = reply(arrays)
    assert sent.nbytes == N * RANGES[name][2] + 8 * N + 24
    took = {"memory": lambda: sent, "wire": lambda: load(dump(sent)), "file": lambda: spooled(sent, tmp_path)}[where]()
    answer, whole = came("a", 0, took)
    assert (answer.data, whole.data) == ({"said": 1}, {})  # once: the answer has it
    assert whole.nbytes == 8 * (2 * N + 3)
    assert set(whole.arrays) == {"a.n", "a.real", "a.few"}
    assert np.array_equal(whole.arrays["a.n"], arrays["n"])
    asked: Any = {"a.": {"n": ("int64", (1, N)), "real": ("float64", (N,)), "few": ("int64", (3,))}}
    found = Contributions((came("a", 0, took), came("b", 0, took)), {}, Combine.SUM, asked).sum()
    with np.errstate(over="ignore"):
        assert np.array_equal(found["n"], arrays["n"] + arrays["n"])
    assert found["n"].dtype == np.int64
    assert np.array_equal(found["real"], 2 * arrays["real"])
    assert np.array_equal(found["few"], 2 * arrays["few"])


def test_what_is_checked_and_added_up_is_made_whole_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the check sees what each node sent, whoever came before it; where one is wrong, nothing is added up."""
    made: list[str] = []
    block = _Widened.block

    def looked(self: _Widened, name: str, start: int, stop: int) -> Array:
        made.append(name)
        return block(self, name, start, stop)

    monkeypatch.setattr(_Widened, "block", looked)
    wide = [numbers("40 bits") + k for k in range(3)]
    sent = [load(dump(reply({"n": w.reshape(1, N), "few": np.arange(3)}))) for w in wide]
    seen: list[Array] = []

    def fault(arrays: Mapping[str, Array]) -> str:
        seen.append(np.array(arrays["n"]))
        return "it is the last" if len(bad) and np.array_equal(arrays["n"], wide[2].reshape(1, N)) else ""

    asked: Any = {"a.": {"n": ("int64", (1, N)), "few": ("int64", (3,))}}
    bad: list[bool] = []
    whole = tuple(came(node, 0, body) for node, body in zip("abc", sent, strict=True))
    found = Contributions(whole, {}, Combine.SUM, asked, fault=fault)
    assert np.array_equal(found.sum()["n"][0], wide[0] + wide[1] + wide[2])
    assert made.count("a.n") == 3
    assert [np.array_equal(s[0], w) for s, w in zip(seen, wide, strict=True)] == [True] * 3
    assert np.array_equal(found.sum()["few"], 3 * np.arange(3))  # what was found sound is not looked at again
    assert len(seen) == 3
    bad.append(True)
    with pytest.raises(Unusable) as said:
        Contributions(whole, {}, Combine.SUM, asked, fault=fault).sum()
    assert said.value.nodes == {"c": "it is the last"}
    alone = Contributions(whole[:1], {}, Combine.SUM, asked, fault=fault).sum()["n"]
    alone += 1  # it is nobody's but the sum's
    assert np.array_equal(whole[0][1].arrays["a.n"][0], wide[0])


def test_what_is_not_added_up_or_is_small_or_is_no_int64_travels_as_it_is() -> None:
    arrays = {"n": numbers("int32"), "other": numbers("int32").astype(np.int32)}
    assert {n: a.dtype for n, a in reply(arrays, Combine.EACH).arrays.items()} == {
        "a.n": np.int64,
        "a.other": np.int32,
    }
    small = reply({"n": np.arange(LEAST - 1)})
    assert small.arrays["a.n"].dtype == np.int64
    assert widened(small) is small
    assert reply(arrays).arrays["a.other"].dtype == np.int32


GOOD = reply({"n": numbers("40 bits")})
LOW, ABOVE = GOOD.arrays["a.n"], GOOD.arrays["n.a.n"]


@pytest.mark.parametrize(
    ("said", "arrays"),
    [
        ("a.n", {}),
        ([1], {}),
        (["a.other"], {}),
        (["a.n", "a.other"], {}),
        (["a.n"], {"n.a.n": ABOVE[:-1]}),
        (["a.n"], {"n.a.n": ABOVE.astype(np.float32)}),
        (["a.n"], {"n.a.n": ABOVE.astype(np.int64)}),
        (["a.n"], {"a.n": LOW.astype(np.int64)}),
        (["a.n"], {"a.n": LOW.astype(np.float32)}),
        (["n.a.n"], {}),
    ],
)
def test_parts_that_do_not_fit_leave_a_node_out(said: Json, arrays: dict[str, Array]) -> None:
    bad = Record({**GOOD.data, "narrow": said}, {**GOOD.arrays, **arrays})

    async def exchange(asks: Mapping[str, Record], op: str = "answer", need: int | None = None) -> AsyncIterator[Reply]:
        for node, body in (("bad", bad), ("good", GOOD)):
            yield Reply(node, 0, load(dump(body)))

    async def collected() -> Gathered:
        ask = Ask(Record(), Combine.SUM, "train", arrays={"n": ("int64", (N,))})
        return await Plain().collect(ask, {"bad": Record(), "good": Record()}, exchange)

    gathered = asyncio.run(collected())
    assert [answer.node for answer in gathered.answers] == ["good"]
    assert "its reply is not a contribution" in gathered.failures["bad"]
    assert np.array_equal(gathered.sum()["n"], numbers("40 bits"))
