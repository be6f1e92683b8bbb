"""Exact boosting, against kill -9 of real processes in the middle of a tree: the result is that of nobody killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from demo.federation import Federation

from .harness import ended, join, propose, rounds, steps_done, until, worker_of

BOOSTING = {
    "model_name": "xgboost",
    "model_options": {"max_depth": 4},
    "num_rounds": 25,
    "federated_strategy": "boosting",
    "min_available_nodes": 3,
    "min_completed": 2,
    "reconnect_timeout_s": 60.0,
}
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("killed") / "f") as federation:
        join(federation, 3)
        yield federation


@pytest.fixture(scope="module")
def undisturbed(three: Federation) -> str:
    done = ended(three, propose(three, **BOOSTING))
    assert done["state"] == "completed", done["reason"]
    return str(done["result"]["sha256"])


# while edges are settled; in the first trees; after a checkpoint
@pytest.mark.parametrize("step", [3, pytest.param(17, marks=pytest.mark.long), 55])
def test_a_coordinator_that_is_killed_in_a_tree_ends_with_the_same_bytes(
    three: Federation, undisturbed: str, step: int
) -> None:
    run = propose(three, **BOOSTING)
    until(lambda: steps_done(three.home, run) >= step, 100, 0.001)
    three.coordinator.kill()
    three.coordinator.start()
    done = ended(three, run)
    assert (done["state"], done["result"]["sha256"]) == ("completed", undisturbed), done["reason"]


def test_a_worker_that_is_killed_between_levels_is_sent_all_trees(three: Federation, undisturbed: str) -> None:
    """Where the run needs its node, the step is asked again; else the tree begins anew without it."""
    run = propose(three, **{**BOOSTING, "min_completed": 3})
    until(lambda: steps_done(three.home, run) >= 20, 100, 0.001)
    os.kill(worker_of(three.nodes[sorted(three.nodes)[1]].pid), signal.SIGKILL)
    done = ended(three, run)
    assert (done["state"], done["result"]["sha256"]) == ("completed", undisturbed), done["reason"]


def test_a_node_that_is_away_for_some_trees_takes_part_again(three: Federation) -> None:
    names = sorted(three.nodes)
    settings = {**BOOSTING, "num_rounds": 40, "min_available_nodes": 2, "reconnect_timeout_s": 1.0}
    run = propose(three, **settings)
    until(lambda: steps_done(three.home, run) >= 20, 100, 0.001)
    three.nodes[names[1]].kill()
    until(lambda: steps_done(three.home, run) >= 50, 100, 0.01)
    three.start_node(names[1], wait=False)
    done = ended(three, run)
    assert done["state"] == "completed", done["reason"]
    took = [set(step["participants"]) for step in rounds(three, run)]
    assert set(names) - {names[1]} in took
    assert took[-1] == set(names)
