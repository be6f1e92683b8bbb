"""A sum of few numbers has the bits that it has where it is made of blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import pytest

from hanse.gather import Reply
from hanse.gathering import plain
from hanse.kinds import Ask, Combine
from hanse.messages import Record


def mean(dtype: str, size: int, nodes: int) -> dict[str, Any]:
    rng = np.random.default_rng(size + nodes)
    replies = []
    for node in range(nodes):
        a = (rng.normal(size=size) * 10.0 ** rng.integers(-3, 4, size)).astype(dtype)
        data = {"weight": float(rng.integers(1, 90) if node % 3 else 1), "data": {}, "metrics": {"loss": 0.5}}
        replies.append(Reply(f"node-{node:02d}", 0, Record(data, {"a.w": a, "s.n": a[:1].astype(np.float64)})))

    async def exchange(asks: Mapping[str, Record], op: str = "answer", need: int | None = None) -> AsyncIterator[Reply]:
        for reply in replies:
            yield reply

    gathered = asyncio.run(plain.Plain().collect(Ask(Record(), Combine.SUM, "train"), {}, exchange))
    return {**gathered.mean(), **gathered.sums()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("size", [1, 2, 3, 17, 300])
@pytest.mark.parametrize("nodes", [1, 2, 9, 50])
def test_few_numbers_are_added_in_the_order_of_nodes(
    dtype: str, size: int, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = mean(dtype, size, nodes)
    monkeypatch.setattr(plain, "_SMALL", 0)
    blocks = mean(dtype, size, nodes)
    assert few.keys() == blocks.keys()
    for name, array in blocks.items():
        assert few[name].dtype == array.dtype
        assert few[name].tobytes() == array.tobytes()
