"""Runs: the whole table of transitions, and consent to one hash."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import event, func, inspect, select

from hanse.errors import ConfigError, Conflict, HanseError, IllegalTransition, NotAllowed, NotFound
from hanse.store.consents import Consent
from hanse.store.database import now
from hanse.store.schema import codes, runs
from hanse.store.states import ACTIVE, TERMINAL, TRANSITIONS, RunState, check
from hanse.store.store import Store

ALLOWED = {
    ("pending", "awaiting_consent"),
    ("pending", "failed"),
    ("pending", "cancelled"),
    ("awaiting_consent", "running"),
    ("awaiting_consent", "rejected"),
    ("awaiting_consent", "expired"),
    ("awaiting_consent", "cancelled"),
    ("running", "paused"),
    ("running", "stopping"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("paused", "running"),
    ("paused", "stopping"),
    ("paused", "failed"),
    ("paused", "cancelled"),
    ("stopping", "completed"),
    ("stopping", "failed"),
    ("stopping", "cancelled"),
    ("running", "rejected"),
    ("paused", "rejected"),
    ("stopping", "rejected"),
    ("failed", "awaiting_consent"),
    ("failed", "cancelled"),
}
WAY = {
    "pending": [],
    "awaiting_consent": ["awaiting_consent"],
    "running": ["awaiting_consent", "running"],
    "paused": ["awaiting_consent", "running", "paused"],
    "stopping": ["awaiting_consent", "running", "stopping"],
    "completed": ["awaiting_consent", "running", "completed"],
    "rejected": ["awaiting_consent", "rejected"],
    "expired": ["awaiting_consent", "expired"],
    "cancelled": ["cancelled"],
    "failed": ["failed"],
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunState, RunState)))
def test_the_table(before: RunState, after: RunState) -> None:
    if (before, after) in ALLOWED:
        check("run-1", before, after)
        return
    with pytest.raises(IllegalTransition, match=f"is {before} and cannot become {after}"):
        check("run-1", before, after)


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(RunState) == ACTIVE | TERMINAL
    assert set(RunState(s) for s in ("completed", "rejected", "expired", "cancelled", "failed")) == TERMINAL


def test_every_transition_in_the_database(store: Store) -> None:
    for before, after in itertools.product(RunState, RunState):
        run = store.runs.create({}, proposer="ada")
        for state in WAY[before]:
            store.runs.transition(run.id, state, "ada")
        count = len(store.events.since(run=run.id))
        if (before, after) in ALLOWED:
            moved = store.runs.transition(run.id, after, "ada", "because")
            assert (moved.state, moved.reason) == (after, "because")
            assert (moved.ended is not None) == (after in TERMINAL)
            last = store.events.since(run=run.id)[-1]
            assert (last.kind, last.actor) == ("run.state", "ada")
            assert last.detail == {"from": before, "to": after, "reason": "because"}
        else:
            with pytest.raises(IllegalTransition):
                store.runs.transition(run.id, after, "ada")
            assert store.runs.get(run.id).state == before
            assert len(store.events.since(run=run.id)) == count


def test_a_run_from_proposal_to_result(store: Store) -> None:
    run = store.runs.create({"rounds": 2}, proposer="ada", nodes=["b", "a", "b"], seed=2**62)
    assert run.id.startswith("run-")
    assert (run.nodes, run.seed, run.state) == (("a", "b"), 2**62, "pending")
    bundle = {"code": {"x": "print('é')"}, "n": [1, 2.5, None]}
    run = store.runs.propose(run.id, "h", bundle, actor="ada", expires=now() + 60)
    assert store.runs.bundle(run.id) == bundle
    said = Consent(run.id, "a", "accept", "h", "o1", via="node", reason="fine")
    assert store.consents.decide(said, start=True).state == "awaiting_consent"
    assert store.consents.tally(run.id).remaining == ("b",)
    with pytest.raises(Conflict, match="b did not accept"):
        store.consents.start(run.id, "ada")
    said = Consent(run.id, "b", "accept", "h", "o2")
    assert store.consents.decide(said, start=False).state == "awaiting_consent"
    run = store.consents.start(run.id, "ada")
    assert run.started is not None
    started = run.started
    store.runs.transition(run.id, "paused", "ada")
    with pytest.raises(Conflict, match="paused"):
        store.consents.start(run.id, "ada")
    assert store.runs.transition(run.id, "running", "ada").started == started
    done = store.runs.transition(run.id, "completed", "hanse", "2 rounds", result="c" * 64)
    assert (done.result, done.ended is not None) == ("c" * 64, True)
    assert done.public()["state"] == "completed"
    assert store.consents.settle(run.id, "hanse", start=True).state == "completed"


def proposed(store: Store, nodes: tuple[str, ...] = ("a", "b"), expires: float | None = None) -> str:
    run = store.runs.create({}, proposer="ada", nodes=nodes)
    return store.runs.propose(run.id, "h", {}, actor="ada", expires=expires).id


def test_code_that_runs_have_in_common_is_kept_once(store: Store, tmp_path: Path) -> None:
    code = {f"module_{k}": secrets.token_hex(2000) for k in range(20)}
    kept = {}
    for number in range(12):
        run = store.runs.create({"name": f"run {number}"}, proposer="ada", nodes=["bonn"])
        own = {**code, "module_3": "x = 4"} if number == 7 else code
        kept[run.id] = {"config": {"rounds": number}, "code": own, "hanse": "1.2.3"}
        store.runs.propose(run.id, f"hash {number}", kept[run.id], actor="ada")
    assert {run: store.runs.bundle(run) for run in kept} == kept
    with store.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(codes)).scalar_one() == 2
        held = connection.execute(select(runs.c.bundle)).scalars()
        assert all("code" not in bundle for bundle in held)
    path = store.state_file.save(tmp_path / "state.json")
    with Store(f"sqlite:///{tmp_path / 'there.db'}", tmp_path / "there") as there:
        there.state_file.load(path, actor="ada")
        assert {run: there.runs.bundle(run) for run in kept} == kept


def test_of_many_decisions_each_is_one_commit_and_few_look_at_all(store: Store) -> None:
    names = tuple(f"n{number:02}" for number in range(64))
    run = proposed(store, names)
    commits, looks = [0], [0]

    def committed(_: object) -> None:
        commits[0] += 1

    def executed(_: object, cursor: object, statement: str, parameters: object, *more: object) -> None:
        looks[0] += "FROM consents" in statement and "consents.node =" not in statement

    event.listen(store.database.engine, "commit", committed)
    event.listen(store.database.engine, "before_cursor_execute", executed)
    for number, node in enumerate(names):
        said = store.consents.decide(Consent(run, node, "accept", "h", "o", via="node"), start=True)
        assert said.state == ("running" if number == 63 else "awaiting_consent")
    assert commits == [64]
    assert looks[0] < 30  # 5 to be expected
    kinds = [one.kind for one in store.events.since(run=run) if one.kind in ("consent", "run.state")]
    assert kinds == ["run.state", *["consent"] * 64, "run.state"]


def test_a_decision_and_what_it_concludes_are_one(store: Store, url: str, tmp_path: Path) -> None:
    run = proposed(store, ("a", "b", "c"))
    for node in "ab":
        store.consents.decide(Consent(run, node, "accept", "h", "o"), start=True)
    with Store(
        url, tmp_path / "other", fsync=False
    ) as other:  # another process takes what was said back, of which this one has not heard
        other.consents.decide(Consent(run, "a", "reject", "h", "o"), start=True)
    assert store.runs.get(run).state == "rejected"
    with pytest.raises(Conflict):
        store.consents.decide(Consent(run, "c", "accept", "h", "o"), start=True)
    late = proposed(store, ("a", "b"), expires=now() + 0.2)
    store.consents.decide(Consent(late, "a", "accept", "h", "o"), start=True)
    while now() < (store.runs.get(late).expires or 0):
        time.sleep(0.01)
    assert store.consents.decide(Consent(late, "a", "accept", "h", "o"), start=True).state == "expired"


def test_the_runs_of_a_study_are_found_by_an_index(store: Store) -> None:
    for number, study in enumerate(("heart", None, "lung", "heart")):
        store.runs.create({"study": study, "number": number}, proposer="ada", nodes=["a"])
    assert [run.config["number"] for run in store.runs.of_study("heart")] == [0, 3]
    indexes = inspect(store.database.engine).get_indexes("runs")
    assert ["study"] in [one["column_names"] for one in indexes]


def test_one_rejection_rejects(store: Store) -> None:
    run = proposed(store)
    store.consents.decide(Consent(run, "a", "accept", "h", "o"), start=True)
    settled = store.consents.decide(Consent(run, "b", "reject", "h", "o", reason="no"), start=True)
    assert (settled.state, settled.reason) == ("rejected", "rejected by b: no")


def test_no_answer_in_time_expires(store: Store) -> None:
    run = proposed(store, expires=now() - 1)
    settled = store.consents.decide(Consent(run, "a", "accept", "h", "o"), start=True)
    assert (settled.state, settled.reason) == ("expired", "no answer in time from b")


def test_minds_may_change_until_the_run_starts(store: Store) -> None:
    run = proposed(store)

    def say(node: str, decision: str, reason: str = "", start: bool = False) -> str:
        return store.consents.decide(Consent(run, node, decision, "h", "o", reason=reason), start=start).state

    say("a", "accept", "at first sight")
    first, count = store.consents.list(run), store.events.last()
    assert say("a", "accept", "again") == "awaiting_consent"
    assert (store.consents.list(run), store.events.last()) == (first, count)  # the same again is nothing new
    assert say("b", "accept", start=True) == "running"
    assert say("b", "accept") == "running"
    with pytest.raises(Conflict, match="is running"):
        say("b", "reject")
    assert [c.decision for c in store.consents.list(run)] == ["accept", "accept"]
    run = proposed(store)
    say("a", "accept")
    count = store.events.last()
    assert say("a", "reject", "read it again") == "rejected"
    assert store.events.since(count)[0].detail["before"] == "accept"
    with pytest.raises(Conflict, match="is rejected"):
        say("a", "accept")


def test_consent_that_is_refused(store: Store) -> None:
    run = proposed(store)
    pending = store.runs.create({}, proposer="ada", nodes=["a"])
    cases = [
        (Consent(run, "a", "accept", "other", "o"), Conflict),
        (Consent(run, "a", "accept", "", "o"), Conflict),
        (Consent(run, "z", "accept", "h", "o"), NotAllowed),
        (Consent(run, "\0", "accept", "h", "o"), NotAllowed),
        (Consent(run, "a", "maybe", "h", "o"), ConfigError),
        (Consent(run, "a", "accept", "h", "o", via="post"), ConfigError),
        (Consent("run-x", "a", "accept", "h", "o"), NotFound),
        (Consent(pending.id, "a", "accept", "", "o"), Conflict),
    ]
    for said, error in cases:
        with pytest.raises(error):
            store.consents.decide(said, start=True)
    assert store.consents.list(run) == []


def test_of_many_transitions_at_once_one_wins(store: Store) -> None:
    run = proposed(store, ("a",))
    store.consents.decide(Consent(run, "a", "accept", "h", "o"), start=False)
    results: list[str] = []
    barrier = threading.Barrier(6)

    def work(to: str) -> None:
        barrier.wait()
        try:
            results.append(str(store.runs.transition(run, to, "t").state))
        except IllegalTransition:
            results.append("lost")

    threads = [threading.Thread(target=work, args=(to,)) for to in ("cancelled", "rejected", "expired") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("lost") == 5
    assert [e.detail["to"] for e in store.events.since(run=run) if e.kind == "run.state"][1:] == [
        str(store.runs.get(run).state)
    ]


def test_listing(store: Store) -> None:
    first = store.runs.create({"n": 1}, proposer="ada", run_id="run-a")
    second = store.runs.create({"n": 2}, proposer="bob")
    store.runs.transition(second.id, "cancelled", "bob")
    assert [r.id for r in store.runs.list()] == [second.id, first.id]
    assert [r.id for r in store.runs.list(["pending"])] == ["run-a"]
    assert [r.id for r in store.runs.list(limit=1, offset=1)] == ["run-a"]
    assert (store.runs.count(), store.runs.count(ACTIVE)) == (2, 1)


def test_what_is_refused(store: Store) -> None:
    run = store.runs.create({}, proposer="ada", run_id="run-a")
    with pytest.raises(Conflict, match="already"):
        store.runs.create({}, proposer="ada", run_id="run-a")
    with pytest.raises(Conflict, match="no nodes"):
        store.runs.propose(run.id, "h", {}, actor="ada")
    with pytest.raises(Conflict, match="no bundle"):
        store.runs.propose(run.id, "", {}, actor="ada", nodes=["a"])
    for call in (
        lambda: store.runs.create({}, proposer="ada", run_id="../x"),
        lambda: store.runs.create({}, proposer="ada", nodes=["a/b"]),
        lambda: store.runs.create({"x": object()}, proposer="ada"),
        lambda: store.runs.transition(run.id, "training", "ada"),
        lambda: store.runs.list(["nonsense"]),
    ):
        with pytest.raises(ConfigError):
            call()
    for missing in ("run-x", "", "\0", "x" * 10_000):
        for call in (store.runs.get, store.runs.bundle, store.consents.tally):
            with pytest.raises(HanseError) as caught:
                call(missing)
            assert isinstance(caught.value, NotFound)
    store.runs.transition(run.id, "cancelled", "a\0" + "x" * 500, "why\0\ud800" * 2000)
    assert len(store.runs.get(run.id).reason) == 2000
