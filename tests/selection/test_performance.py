"""By performance with exploration (LEDGER F92): the best, and nobody is forgotten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hanse
from hanse.choice import Choice, Past, Situation
from hanse.errors import ConfigError
from hanse.selection.performance import choose

NODES = [f"n{i}" for i in range(10)]
ACCURACY = {node: i / 10 for i, node in enumerate(NODES)}  # n9 is the best


def past(accuracy: dict[str, Any] = ACCURACY) -> list[Past]:
    return [Past(0, 1, "train", sorted(accuracy), {n: {"accuracy": a} for n, a in accuracy.items()}, {})]


def ask(
    seed: int = 0, count: int = 5, exploration: float = 0.2, metric: str = "accuracy", before: Any = None
) -> Choice:
    settings = {"exploration": exploration, "performance_metric": metric}
    known = past() if before is None else before
    return choose(Situation(NODES, count, np.random.default_rng(seed), {}, known, settings))


def test_the_best_are_asked_and_a_share_is_drawn_from_all_others() -> None:
    chosen = ask()
    assert len(chosen.nodes) == len(set(chosen.nodes)) == 5
    assert {"n6", "n7", "n8", "n9"} < set(chosen.nodes)
    assert chosen.reason == "4 with the best accuracy, 1 of the others at random"
    assert chosen.reasons["n9"] == "accuracy 0.9"
    assert list(chosen.reasons.values()).count("drawn from all the others") == 1
    assert ask() == ask()  # seeded


def test_nobody_is_forgotten() -> None:
    """Each of the six that are not the best is explored about equally often: k/(N - m + k) of the rounds."""
    counts = dict.fromkeys(NODES, 0)
    for seed in range(600):
        for node in ask(seed).nodes:
            counts[node] += 1
    assert all(counts[n] == 600 for n in NODES[6:])
    assert all(60 < counts[n] < 140 for n in NODES[:6]), counts


def test_without_exploration_it_is_the_documents_top_k() -> None:
    assert list(ask(exploration=0.0).nodes) == NODES[5:]
    assert set(ask(exploration=1.0).nodes) != set(NODES[5:])


def test_who_was_not_measured_yet_goes_first_and_what_is_no_number_is_unknown() -> None:
    """The document counts a missing metric as 0, so that who is new is never asked."""
    odd = {**ACCURACY, "n0": float("nan"), "n1": None, "n2": True}
    chosen = ask(exploration=0.0, count=4, before=past(odd))
    assert {"n0", "n1", "n2"} < set(chosen.nodes)
    assert chosen.reasons["n1"] == "its accuracy is not known yet"
    assert len(ask(before=[]).nodes) == 5


def test_a_loss_is_better_where_it_is_lower() -> None:
    losses = [Past(0, 1, "train", NODES, {n: {"loss": a} for n, a in ACCURACY.items()}, {})]
    assert list(ask(exploration=0.0, metric="loss", before=losses).nodes) == NODES[:5]


def test_a_run_selects_so_and_says_why() -> None:
    """Sites where nothing can be learned are asked less often, and still now and then."""
    rng = np.random.default_rng(1)
    sites: dict[str, Any] = {}
    for name in ("a", "b", "c", "d"):
        x = rng.normal(size=60)
        y = rng.random(60) < 0.5 if name in "cd" else x > 0
        sites[name] = {"x": x, "y": np.where(y, "ill", "well").tolist()}
    how: dict[str, Any] = {
        "model": "logistic_regression",
        "federated_strategy": "fedavg",
        "target": "y",
        "rounds": 20,
        "fraction": 0.5,
        "selection": "performance",
        "sample_id_column": None,
        "evaluate_every": 1,
    }
    with hanse.simulate(sites) as federation:
        result = federation.experiment(**how, exploration=0.5).run(progress=False)
        with pytest.raises(ConfigError, match="test_fraction is 0"):
            federation.experiment(**how, test_fraction=0).run(progress=False)
        with pytest.raises(ConfigError, match="fraction is 1"):
            federation.experiment(**{**how, "fraction": 1.0}).run(progress=False)
        with pytest.raises(ConfigError, match="exploration"):
            federation.experiment(**how, exploration=2).run(progress=False)
    trained = [step for step in result.rounds if step.label == "train"]
    times = {name: sum(name in step.asked for step in trained) for name in sites}
    assert min(times["a"], times["b"]) > max(times["c"], times["d"]) > 0
    assert all(step.chosen["reasons"] for step in trained)
