"""By resources (LEDGER F93): machines that have enough, as the nodes measured them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hanse.choice import Choice, Situation
from hanse.registry import settings
from hanse.selection.resources import choose

FACTS: dict[str, dict[str, Any]] = {
    "small": {"cpus": 2, "memory_mb": 2048, "gpu": False},
    "large": {"cpus": 64, "memory_mb": 262_144, "gpu": True},
    "medium": {"cpus": 8, "memory_mb": 16_384, "gpu": False},
    "boasting": {"declared": {"cpus": 128, "memory_mb": 10**6, "gpu": True}},
    "odd": {"cpus": "many", "memory_mb": True, "gpu": "yes"},
    "silent": {},
}


def ask(count: int, seed: int = 0, **wanted: Any) -> Choice:
    own = {name: setting.default for name, setting in settings("selection", "resources").items()}
    return choose(Situation(sorted(FACTS), count, np.random.default_rng(seed), FACTS, (), {**own, **wanted}))


def test_those_that_have_enough() -> None:
    assert list(ask(3).nodes) == ["large", "medium", "small"]
    assert list(ask(3, minimum_cpus=4).nodes) == ["large", "medium"]
    assert list(ask(3, minimum_memory_mb=10_000).nodes) == ["large", "medium"]
    assert list(ask(3, needs_gpu=True).nodes) == ["large"]
    assert ask(3, minimum_cpus=4).reasons == {
        "large": "64 processors, 262144 MB, a graphics card",
        "medium": "8 processors, 16384 MB",
    }


def test_what_was_only_said_or_is_unknown_is_not_there() -> None:
    for seed in range(20):
        assert not {"boasting", "odd", "silent"} & set(ask(2, seed).nodes)


def test_among_those_all_are_as_likely() -> None:
    counts = dict.fromkeys(("small", "medium", "large"), 0)
    for seed in range(600):
        for node in ask(1, seed).nodes:
            counts[node] += 1
    assert all(150 < found < 250 for found in counts.values()), counts


def test_nobody_has_enough() -> None:
    """The loop refuses an empty choice, with this reason."""
    assert list(ask(2, minimum_cpus=1000).nodes) == []
    assert ask(2, minimum_cpus=1000).reason == "0 at random of the 0 of 6 whose machines have enough"
