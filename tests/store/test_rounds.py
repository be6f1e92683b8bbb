"""Records of steps and checkpoints: one commit, the last two kept, none of a run that has ended."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import event

from hanse.errors import ConfigError, Conflict, NotFound, RunFailed, Tampered
from hanse.messages import Record, digest
from hanse.store.store import Store

SMALL = Record({"round": 1}, {"w": np.arange(5.0)})
RECORD = {
    "step": 0,
    "label": "train",
    "round": 1,
    "started": "2026-01-01T00:00:00+00:00",
    "ended": "2026-01-01T00:00:02.5+00:00",
    "status": "ok",
    "seconds": 2.5,
    "participants": {"a": {"seconds": 1.5, "weight": 10.0, "metrics": {"loss": 0.5}, "asked": 0}},
    "failures": {"b": "lost its connection"},
    "metrics": {"loss": 0.5},
    "bytes_down": 40,
    "bytes_up": 40,
}


def big(seed: int) -> Record:
    return Record({"seed": seed}, {"w": np.random.default_rng(seed).random(60_000)})


def test_a_step_and_its_state(store: Store, running: str) -> None:
    assert store.rounds.latest_checkpoint(running) is None
    assert store.rounds.checkpoint(running, 0, SMALL, RECORD) == ()
    step, state = store.rounds.latest_checkpoint(running) or (None, Record())
    assert (step, state.data) == (0, {"round": 1})
    assert digest(state) == digest(SMALL)
    row = store.rounds.get(running, 0)
    assert row.record == RECORD
    assert (row.label, row.round, row.status, row.ended - row.started) == ("train", 1, "ok", 2.5)
    assert row.public()["ended"] == "2026-01-01T00:00:02.500000+00:00"
    assert store.blobs.sizes() == {}  # small states lie in the database
    run = store.runs.get(running)
    assert (run.step, run.round) == (0, 1)
    event = store.events.since(run=running)[-1]
    assert (event.kind, event.detail["failures"], event.detail["participants"]) == ("round", RECORD["failures"], ["a"])


def test_many_records_take_as_many_statements_as_one(store: Store, running: str) -> None:
    said: list[str] = []
    event.listen(store.database.engine, "before_cursor_execute", lambda c, cursor, text, *more: said.append(text))
    store.rounds.checkpoint(running, 0, None, RECORD)
    one, heard = len(said), []
    store.events.subscribe(heard.append)
    earlier = [(step, {**RECORD, "label": f"step {step}"}) for step in (1, 2, 2, 3)]
    earlier[2][1]["label"] = "again"
    store.rounds.checkpoint(running, 4, None, {**RECORD, "label": "last"}, earlier)
    assert len(said) == 2 * one + 1  # and one that asks for the numbers of the events
    labels = [r.label for r in store.rounds.list(running, after=0)]
    assert labels == ["step 1", "again", "step 3", "last"]
    assert heard == store.events.since(run=running)[-5:]
    assert [e.detail["label"] for e in heard] == ["step 1", "step 2", "again", "step 3", "last"]


def test_the_round_of_a_run_is_the_last_of_all_records_that_come_together(store: Store, running: str) -> None:
    """A run of twelve rounds had come to round 11 when it was completed, as what follows the last is of no round."""
    earlier = [(0, {**RECORD, "round": 11}), (1, {**RECORD, "round": 12}), (2, {**RECORD, "round": None})]
    store.rounds.checkpoint(running, 3, None, {**RECORD, "round": None}, earlier)
    assert store.runs.get(running).round == 12


def test_a_connection_that_wrote_is_the_next_that_is_used(store: Store, running: str) -> None:
    """Of SQLite it has the pages in memory that it wrote; another one reads them from the file again."""
    with store.database.read() as one, store.database.read() as other:
        assert one.connection.dbapi_connection is not other.connection.dbapi_connection
    used = set()
    for step in range(4):
        with store.database.read() as connection:
            used.add(id(connection.connection.dbapi_connection))
        store.rounds.checkpoint(running, step, SMALL, RECORD)
    assert len(used) == 1


def test_a_step_done_again_replaces_its_record(store: Store, running: str) -> None:
    store.rounds.checkpoint(running, 0, SMALL, RECORD)
    store.rounds.checkpoint(running, 1, SMALL, {**RECORD, "label": "evaluate", "round": None})
    store.rounds.checkpoint(running, 1, Record({"second": True}), {**RECORD, "label": "again"})
    assert [(r.step, r.label) for r in store.rounds.list(running)] == [(0, "train"), (1, "again")]
    assert [r.step for r in store.rounds.list(running, after=0)] == [1]
    assert [r.step for r in store.rounds.list(running, limit=1)] == [0]
    latest = store.rounds.latest_checkpoint(running)
    assert latest is not None
    assert (latest[0], latest[1].data) == (1, {"second": True})


def test_the_last_steps_are_read_first_and_the_others_not_at_all(store: Store, running: str) -> None:
    for step in range(25):
        store.rounds.checkpoint(running, step, None, {**RECORD, "round": step})
    assert [r.step for r in store.rounds.backwards(running)] == list(range(24, -1, -1))
    assert next(store.rounds.backwards(running)) == store.rounds.get(running, 24)
    for wanted in (19, 20):  # as many as are read at a time, and twice as many
        store.rounds.checkpoint(running, wanted, None, RECORD)
        assert next(r for r in store.rounds.backwards(running) if r.round == RECORD["round"]).step == wanted
    assert list(store.rounds.backwards("run-nobody")) == []


def test_a_step_leaves_the_state_that_it_is_given(store: Store, running: str) -> None:
    """Also one that failed: of a step that is left behind, what is asked next is of the state after it."""
    store.rounds.checkpoint(running, 0, SMALL, RECORD)
    store.rounds.checkpoint(running, 1, None, {**RECORD, "status": "failed"})
    store.rounds.checkpoint(running, 2, None, RECORD)
    assert store.rounds.checkpoints(running) == (0,)
    store.rounds.checkpoint(running, 3, SMALL, {**RECORD, "status": "failed"})
    assert store.rounds.checkpoints(running) == (0, 3)
    assert [r.status for r in store.rounds.list(running)] == ["ok", "failed", "ok", "failed"]


def test_the_last_two_states_stay(store: Store, running: str) -> None:
    gone = [store.rounds.checkpoint(running, i, big(i), {**RECORD, "round": i}) for i in range(4)]
    assert gone == [(), (), (digest(big(0)),), (digest(big(1)),)]
    assert store.rounds.checkpoints(running) == (2, 3)
    assert digest(store.rounds.load(running, 2)) == digest(big(2))


def test_a_run_that_has_ended_keeps_its_records_and_no_state(store: Store, running: str) -> None:
    kept = store.blobs.put(big(0))
    store.models.add(running, kept, round=0)
    for step, state in enumerate((kept, big(1))):
        store.rounds.checkpoint(running, step, state, RECORD)
    with pytest.raises(Conflict, match="is running"):
        store.rounds.forget(running)
    assert store.rounds.checkpoints(running) == (0, 1)
    store.runs.transition(running, "cancelled", "ada")
    assert store.rounds.forget(running) == (digest(big(1)),)  # the other is a model version too
    assert store.rounds.checkpoints(running) == ()
    assert store.rounds.latest_checkpoint(running) is None
    assert [r.step for r in store.rounds.list(running)] == [0, 1]
    assert store.rounds.forget(running) == ()
    with pytest.raises(Conflict, match="not known"):
        store.rounds.forget("run-x")


def test_a_sweep_does_what_a_killed_coordinator_did_not(store: Store, running: str) -> None:
    other = store.runs.create({}, proposer="ada")
    for seed, run in enumerate((running, other.id)):
        store.rounds.checkpoint(run, 0, big(seed), RECORD)
        store.rounds.checkpoint(run, 1, SMALL, RECORD)
    store.runs.transition(other.id, "cancelled", "ada")
    assert store.sweep(grace_s=0) == (digest(big(1)),)
    assert store.rounds.checkpoints(running) == (0, 1)
    assert store.rounds.checkpoints(other.id) == ()


def test_blobs_that_are_referred_to_are_never_named_for_deletion(store: Store, running: str) -> None:
    sha = store.blobs.put(big(0))
    store.models.add(running, sha, round=0)
    same = store.blobs.put(big(1))
    store.rounds.checkpoint(running, 0, sha, RECORD)
    for step in range(1, 6):
        assert store.rounds.checkpoint(running, step, same, RECORD) == ()
    orphan = store.blobs.put(big(9))
    assert store.sweep() == ()  # it is young
    assert store.sweep(grace_s=0) == (orphan,)
    assert set(store.blobs.sizes()) == {sha, same}


def test_a_damaged_state_is_not_used_and_the_one_before_is(
    store: Store, running: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.rounds.checkpoint(running, 0, big(0), RECORD)
    store.rounds.checkpoint(running, 1, big(1), RECORD)
    path = store.blobs.path(digest(big(1)))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(raw)
    with pytest.raises(Tampered):
        store.rounds.load(running, 1)
    step, state = store.rounds.latest_checkpoint(running) or (None, Record())
    assert (step, state.data) == (0, {"seed": 0})
    assert "checkpoint 1 of run" in caplog.text
    store.blobs.delete(digest(big(0)))
    with pytest.raises(RunFailed, match="no checkpoint of this run can be read"):
        store.rounds.latest_checkpoint(running)


def test_diverged_and_odd_values_do_not_stop_the_record(store: Store, running: str) -> None:
    record = {**RECORD, "metrics": {"loss": float("nan"), "auc": np.float32(0.5), "n": np.int64(3)}, "label": "t" * 99}
    store.rounds.checkpoint(running, 0, Record(), record)
    assert store.rounds.get(running, 0).record["metrics"] == {"loss": None, "auc": 0.5, "n": 3}
    store.rounds.checkpoint(running, 1, None, {"failures": {"b": "\0\ud800 bad text"}})
    assert store.rounds.get(running, 1).label == ""


def test_what_is_refused(store: Store, running: str) -> None:
    with pytest.raises(NotFound, match="no run"):
        store.rounds.checkpoint("run-x", 0, SMALL, RECORD)
    with pytest.raises(NotFound, match="put it before"):
        store.rounds.checkpoint(running, 0, "0" * 64, RECORD)
    for wrong in ({"status": "great"}, {"started": "yesterday"}, {"ended": []}):
        with pytest.raises(ConfigError):
            store.rounds.checkpoint(running, 0, SMALL, {**RECORD, **wrong})
    with pytest.raises(ConfigError, match="negative"):
        store.rounds.checkpoint(running, -1, SMALL, RECORD)
    with pytest.raises(NotFound):
        store.rounds.get(running, 0)
    with pytest.raises(NotFound):
        store.rounds.load(running, 0)
    assert store.rounds.list(running) == []
    store.runs.transition(running, "cancelled", "ada")
    with pytest.raises(Conflict, match="is cancelled"):
        store.rounds.checkpoint(running, 0, SMALL, RECORD)


def test_a_round_is_one_small_commit(store: Store, running: str) -> None:
    """Counted, not timed: what a step costs is one sync of the disk and some statements, however long the run is."""
    state, done = Record({}, {"w": np.zeros(1000)}), list[str]()
    event.listen(store.database.engine, "commit", lambda _: done.append("commit"))
    event.listen(store.database.engine, "before_cursor_execute", lambda *found: done.append(found[2].split()[0]))
    each = []
    for step in range(40):
        store.rounds.checkpoint(running, step, state, RECORD)
        each.append(tuple(done))
        done.clear()
    assert each[-1].count("commit") == 1
    assert len(each[-1]) <= 10, each[-1]
    assert len(set(each[5:])) == 1
