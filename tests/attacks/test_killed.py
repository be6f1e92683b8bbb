"""kill -9, stopped processes and cut networks, against real processes that really train: what comes out is what comes
out where nobody is killed, also of a tree that was being grown."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.federation import Federation, hanse
from tests.waiting import PATIENCE

from .harness import (
    ENDED,
    Json,
    Pinch,
    audit,
    ended,
    events,
    join,
    kept,
    propose,
    rounds,
    session,
    steps_done,
    until,
    worker_of,
)

_SOON = 0.004  # a step takes longer, and each look at the database takes time from those that are to be killed
TRAINING = {"num_rounds": 30, "min_available_nodes": 3, "min_completed": 3, "reconnect_timeout_s": 30.0}
BOOSTING = {
    "model_name": "xgboost",
    "model_options": {"max_depth": 4},
    "num_rounds": 14,
    "federated_strategy": "boosting",
    "min_available_nodes": 3,
    "min_completed": 2,
    "reconnect_timeout_s": 60.0,
}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("killed") / "f") as federation:
        join(federation, 3)
        yield federation


@pytest.fixture(scope="module")
def boosted(three: Federation) -> str:
    done = ended(three, propose(three, **BOOSTING))
    assert done["state"] == "completed", done["reason"]
    return str(done["result"]["sha256"])


@pytest.fixture(scope="module")
def completed(three: Federation) -> Json:
    """The session of a run that nothing disturbed, after the coordinator was killed right after its end."""
    run = propose(three, **TRAINING)
    until(lambda: kept(three.home, "SELECT state FROM runs WHERE id = ?", run) in ENDED, _SOON)
    three.coordinator.kill()
    three.coordinator.start()
    return session(three, run)


@pytest.fixture(scope="module")
def undisturbed(completed: Json) -> str:
    assert completed["state"] == "completed", completed["reason"]
    return str(completed["result"]["sha256"])


def killed_at(federation: Federation, step: int, more: float) -> dict[str, object]:
    """Kills the coordinator when so many steps are recorded and a little time has passed; the session after."""
    run = propose(federation, **TRAINING)
    until(lambda: steps_done(federation.home, run) >= step, _SOON)
    time.sleep(more)
    federation.coordinator.kill()
    recorded = steps_done(federation.home, run)
    federation.coordinator.start()
    done: dict[str, object] = ended(federation, run)
    assert done["state"] == "completed", (step, more, recorded, done["reason"])
    assert [r["step"] for r in rounds(federation, run)] == list(range(len(rounds(federation, run))))
    return done


def killed(federation: Federation, expected: str, moments: int) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    chance = random.Random(seed)
    for _ in range(moments):
        step, more = chance.randrange(0, 31), chance.uniform(0, 0.03)
        done = killed_at(federation, step, more)
        assert done["result"]["sha256"] == expected, f"seed {seed}: killed {more:.4f} s after step {step}"  # type: ignore[index]


def test_the_coordinator_is_killed_at_two_moments(three: Federation, undisturbed: str) -> None:
    """A 30-round training goes on after the restart and ends with the same bytes as undisturbed."""
    killed(three, undisturbed, 2)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_coordinator_is_killed_at_ten_moments(three: Federation, undisturbed: str) -> None:
    killed(three, undisturbed, 10)


def test_the_coordinator_is_killed_right_after_the_end(three: Federation, completed: Json) -> None:
    """A run that was completed stays completed, and its model is there."""
    assert completed["state"] == "completed", completed["reason"]
    path = f"{three.url}/api/runs/{completed['session_id']}/model"
    request = urllib.request.Request(path, headers={"Authorization": f"Bearer {three.operator_token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as model:
        assert hashlib.sha256(model.read()).hexdigest() == completed["result"]["sha256"]
    for name in three.nodes:
        verdict = hanse("node", "audit", "--verify", "--home", str(three.home / name))
        assert "is whole" in verdict


@pytest.fixture
def asking(three: Federation) -> Iterator[dict[str, str]]:
    """The homes of nodes whose owners are asked about each proposal, for a while."""
    homes = {name: str(three.home / name) for name in sorted(three.nodes)}
    for home in homes.values():
        hanse("node", "policy", "set", "standing", "ask", "--home", home)
    yield homes
    for home in homes.values():
        hanse("node", "policy", "set", "standing", "accept-allowed", "--home", home)


def test_the_coordinator_is_killed_while_it_proposes_and_while_owners_consent(
    three: Federation, asking: dict[str, str]
) -> None:
    """Proposals reach every node and no decision is lost, whenever the coordinator dies in between."""
    names = list(asking)
    run = propose(three, **{**TRAINING, "num_rounds": 2})
    three.coordinator.kill()  # the proposal is on its way, at best
    three.coordinator.start()
    until(lambda: all(run in hanse("node", "proposals", "--home", h) for h in asking.values()), 0.2)
    assert session(three, run)["state"] == "awaiting_consent"
    hanse("node", "approve", run, "--home", asking[names[0]])
    three.coordinator.kill()  # the decision is on its way, at best
    hanse("node", "approve", run, "--home", asking[names[1]])  # told when it is back
    three.coordinator.start()
    until(lambda: session(three, run)["remaining"] == [names[2]], 0.1)
    given = session(three, run)["consents"]
    assert {n: c["via"] for n, c in given.items()} == dict.fromkeys(names[:2], "node")
    hanse("node", "approve", run, "--home", asking[names[2]])
    assert ended(three, run)["state"] == "completed"


# ---------------------------------------------------------------- in the middle of a tree of exact boosting


# while edges are settled; in the first trees; after a checkpoint
@pytest.mark.parametrize("step", [3, pytest.param(17, marks=pytest.mark.long), 55])
def test_a_coordinator_that_is_killed_in_a_tree_ends_with_the_same_bytes(
    three: Federation, boosted: str, step: int
) -> None:
    run = propose(three, **BOOSTING)
    until(lambda: steps_done(three.home, run) >= step, _SOON)
    three.coordinator.kill()
    three.coordinator.start()
    done = ended(three, run)
    assert (done["state"], done["result"]["sha256"]) == ("completed", boosted), done["reason"]


def test_a_worker_that_is_killed_between_levels_is_sent_all_trees(three: Federation, boosted: str) -> None:
    """Where the run needs its node, the step is asked again; else the tree begins anew without it."""
    run = propose(three, **{**BOOSTING, "min_completed": 3})
    until(lambda: steps_done(three.home, run) >= 20, _SOON)
    os.kill(worker_of(three.nodes[sorted(three.nodes)[1]].pid), signal.SIGKILL)
    done = ended(three, run)
    assert (done["state"], done["result"]["sha256"]) == ("completed", boosted), done["reason"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_whoever_is_killed_in_a_tree_of_secure_sums_it_ends_with_the_same_bytes(three: Federation) -> None:
    """What nodes had told of its levels was in the memory of their workers: the tree begins anew after these steps."""
    secure = {**BOOSTING, "gathering": "secure", "min_completed": 3}
    expected = ended(three, propose(three, **secure))["result"]["sha256"]
    seed = random.SystemRandom().randrange(1 << 30)
    chance = random.Random(seed)
    for who in ["worker", "node", "coordinator", "worker and coordinator"] * 2:
        step, name = chance.randrange(6, 50), chance.choice(sorted(three.nodes))
        run = propose(three, **secure)
        until(lambda run=run, step=step: steps_done(three.home, run) >= step, _SOON)  # type: ignore[misc]
        if "worker" in who:
            os.kill(worker_of(three.nodes[name].pid), signal.SIGKILL)
        if who == "node":
            three.nodes[name].kill()
            three.start_node(name)
        if "coordinator" in who:
            three.coordinator.kill()
            three.coordinator.start()
        done = ended(three, run)
        said = f"seed {seed}: {who} killed after step {step}: {done['reason']}"
        assert (done["state"], done["result"]["sha256"]) == ("completed", expected), said


def test_a_node_that_is_away_for_some_trees_takes_part_again(three: Federation) -> None:
    names = sorted(three.nodes)
    settings = {**BOOSTING, "num_rounds": 40, "min_available_nodes": 2, "reconnect_timeout_s": 1.0}
    run = propose(three, **settings)
    until(lambda: steps_done(three.home, run) >= 20, _SOON)
    three.nodes[names[1]].kill()
    until(lambda: any(set(step["participants"]) == {names[0], names[2]} for step in rounds(three, run)), 0.01)
    three.rest(
        "POST", f"/api/training/sessions/{run}/pause", {}
    )  # a node may take longer to start than the run has left
    three.start_node(names[1])
    three.rest("POST", f"/api/training/sessions/{run}/resume", {})
    done = ended(three, run)
    assert done["state"] == "completed", done["reason"]
    took = [set(step["participants"]) for step in rounds(three, run)]
    assert set(names) - {names[1]} in took
    assert took[-1] == set(names)


# ---------------------------------------------------------------- nodes


# more rounds than any machine does before the test is over and cancels the run
SLOW = {"num_rounds": 100_000, "local_epochs": 60, "min_available_nodes": 3, "min_completed": 2, "fraction": 1.0}


@pytest.mark.long
def test_a_node_is_killed_in_a_round_and_comes_back(tmp_path: Path) -> None:
    """The round ends by its deadline rule with the work of the others; the node takes part again."""
    with Federation(tmp_path / "f") as federation:
        names = join(federation, 4)
        victim = names[1]
        run = propose(federation, **{**SLOW, "reconnect_timeout_s": 1.5})
        until(lambda: steps_done(federation.home, run) >= 8)
        federation.nodes[victim].kill()
        missed = until(lambda: [r for r in rounds(federation, run) if victim in r["failures"]])
        assert "did not come back within 1.5 s" in missed[0]["failures"][victim]
        assert sorted(missed[0]["participants"]) == sorted(set(names) - {victim})
        federation.start_node(victim)
        step = rounds(federation, run)[-1]["step"]
        until(lambda: any(victim in r["participants"] for r in rounds(federation, run) if r["step"] > step))
        federation.rest("POST", f"/api/training/sessions/{run}/cancel", {})


@pytest.mark.long
def test_a_worker_is_killed_in_a_round(tmp_path: Path) -> None:
    """The node answers with an error, stays on line, and takes part in the next round."""
    with Federation(tmp_path / "f") as federation:
        names = join(federation, 3)
        run = propose(federation, **SLOW)
        until(lambda: steps_done(federation.home, run) >= 8)
        worker = worker_of(federation.nodes[names[0]].pid)
        before = len(audit(federation, names[0]))
        os.kill(worker, signal.SIGKILL)
        until(lambda: any(e["action"] == "worker.lost" for e in audit(federation, names[0])[before:]), 0.2)
        step = rounds(federation, run)[-1]["step"]
        until(lambda: any(names[0] in r["participants"] for r in rounds(federation, run) if r["step"] > step))
        assert worker_of(federation.nodes[names[0]].pid) != worker
        assert federation.nodes[names[0]].popen.poll() is None  # type: ignore[union-attr]
        federation.rest("POST", f"/api/training/sessions/{run}/cancel", {})


@pytest.mark.long
def test_a_silent_node_is_late_and_its_late_reply_is_refused(tmp_path: Path) -> None:
    """SIGSTOP: late by the rule. SIGCONT: what it still answers is refused and recorded; it takes part again."""
    with Federation(tmp_path / "f") as federation:
        names = join(federation, 3)
        victim = federation.nodes[names[2]]
        run = propose(federation, **{**SLOW, "round_timeout_s": 2.0, "reconnect_timeout_s": 20.0})
        until(lambda: steps_done(federation.home, run) >= 8)
        # the worker goes on computing: its answer is ready when the agent wakes up
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            missed = until(lambda: [r for r in rounds(federation, run) if names[2] in r["failures"]])
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        assert "no progress for 2 s" in missed[0]["failures"][names[2]]
        step = rounds(federation, run)[-1]["step"]
        until(lambda: any(names[2] in r["participants"] for r in rounds(federation, run) if r["step"] > step))
        refused = events(federation, "node.refused")
        assert all(e["detail"]["what"] in ("late", "second stream", "duplicate") for e in refused)
        federation.rest("POST", f"/api/training/sessions/{run}/cancel", {})


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_network_that_is_cut_without_a_word(tmp_path: Path) -> None:
    """No FIN, no RST: both sides notice, the round ends by its rule, the node dials again and takes part."""
    with Federation(tmp_path / "f") as federation:
        names = join(federation, 3, start=False)
        host, _, port = federation.grpc.partition(":")
        pinch = Pinch((host, int(port)))
        settings = federation.home / names[2] / "node.toml"
        settings.write_text(settings.read_text().replace(federation.grpc, pinch.address))
        try:
            for name in names:
                federation.start_node(name)
            run = propose(federation, **{**SLOW, "round_timeout_s": 4.0})
            until(lambda: steps_done(federation.home, run) >= 8)
            pinch.open.clear()
            missed = until(lambda: [r for r in rounds(federation, run) if names[2] in r["failures"]], 0.1)
            why = missed[0]["failures"][names[2]]
            assert "no progress for 4 s" in why or "did not come back within" in why
            until(lambda: not federation.rest("GET", f"/api/nodes/{names[2]}")["connected"], 0.1)
            pinch.open.set()
            step = rounds(federation, run)[-1]["step"]
            back = lambda: [r for r in rounds(federation, run) if r["step"] > step and names[2] in r["participants"]]  # noqa: E731
            until(back, 0.1)
            federation.rest("POST", f"/api/training/sessions/{run}/cancel", {})
        finally:
            pinch.close()
