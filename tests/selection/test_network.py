"""By the network: lines that are good enough, as the coordinator measured them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hanse.choice import Choice, Past, Situation
from hanse.registry import settings
from hanse.selection.network import choose

LINES: dict[str, dict[str, Any]] = {
    "fast": {"up_mbit_s": 900.0, "down_mbit_s": 900.0, "latency_ms": 2.0, "packet_loss": 0.0},
    "slow_up": {"up_mbit_s": 3.0, "down_mbit_s": 900.0, "latency_ms": 2.0, "packet_loss": 0.0},
    "slower_up": {"up_mbit_s": 2.0, "down_mbit_s": 900.0, "latency_ms": 2.0, "packet_loss": 0.0},
    "far": {"up_mbit_s": 500.0, "down_mbit_s": 500.0, "latency_ms": 700.0, "packet_loss": 0.0},
    "lossy": {"up_mbit_s": 500.0, "down_mbit_s": 500.0, "latency_ms": 5.0, "packet_loss": 0.2},
}
NODES = [*LINES, "new"]


def ask(count: int, seed: int = 0, past: Any = None, **wanted: Any) -> Choice:
    own = {name: setting.default for name, setting in settings("selection", "network").items()}
    before = [Past(0, 1, "train", list(LINES), {}, {}, LINES)] if past is None else past
    return choose(Situation(sorted(NODES), count, np.random.default_rng(seed), {}, before, {**own, **wanted}))


def test_only_good_lines_are_drawn_from_and_all_of_them_alike() -> None:
    wanted = {"minimum_mbit_s": 10.0, "maximum_latency_ms": 100.0}
    drawn = {node for seed in range(30) for node in ask(1, seed, **wanted).nodes}
    assert drawn == {"fast", "new"}  # who was never measured may have a good line
    every = {node for seed in range(60) for node in ask(1, seed, maximum_loss=1.0, maximum_latency_ms=1e6).nodes}
    assert every == set(NODES)


def test_where_too_few_are_good_the_fastest_others_fill_the_places() -> None:
    said = ask(4, minimum_mbit_s=10.0, maximum_latency_ms=100.0)
    assert sorted(said.nodes) == ["far", "fast", "lossy", "new"]
    assert said.reason == "2 at random of the 2 of 6 whose lines are good enough, and the 2 fastest of the others"
    assert said.reasons["far"] == "up 500 Mbit/s, down 500 Mbit/s, round trip 700 ms, loss 0"
    assert said.reasons["new"] == "its line was not measured yet"


def test_what_was_measured_last_counts_and_what_nodes_say_does_not() -> None:
    later = Past(1, 2, "train", ["fast"], {"slow_up": {"up_mbit_s": 9e9}}, {}, {"fast": {"up_mbit_s": 1.0}})
    past = [Past(0, 1, "train", list(LINES), {}, {}, LINES), later]
    drawn = {node for seed in range(30) for node in ask(1, seed, past, minimum_mbit_s=10.0).nodes}
    assert drawn == {"far", "new"}


def test_a_line_stands_in_a_record_apart_from_metrics() -> None:
    part = {"metrics": {"up_mbit_s": 9e9}, "seconds": 1.0, "weight": 2.0, "line": {"up_mbit_s": 5.0}}
    past = Past.of({"step": 0, "round": 1, "label": "train", "asked": ["a"], "participants": {"a": part}})
    assert past.lines == {"a": {"up_mbit_s": 5.0}}
    assert past.answered["a"]["up_mbit_s"] == 9e9
