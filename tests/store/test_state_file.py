"""The state as a file: complete, without secrets, strictly read, and never a step back."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.errors import ConfigError
from hanse.messages import Record
from hanse.store.consents import Consent
from hanse.store.nodes import CertificateOnFile
from hanse.store.store import Store
from hanse.store.studies import StudyBounds


def fill(store: Store) -> dict[str, str]:
    store.accounts.create_account("clinic", "data_owner", ["a"])
    store.nodes.register("a", CertificateOnFile("01", "aa"), capabilities={"cores": 2})
    store.nodes.describe("a", summary={"num_samples": 3}, datasets=[{"name": "d"}])
    ids = {}
    for name, way in (("pending", []), ("running", ["running"]), ("done", ["running", "completed"])):
        run = store.runs.create({"name": name}, proposer="ada", nodes=["a"])
        ids[name] = run.id
        if way:
            store.runs.propose(run.id, "h", {"code": "x"}, actor="ada")
            store.consents.decide(Consent(run.id, "a", "accept", "h", "clinic"), start=False)
        for state in way:
            store.runs.transition(run.id, state, "ada")
            if state == "running":
                store.rounds.checkpoint(run.id, 0, Record(), {"label": "train", "round": 1, "metrics": {"loss": 0.5}})
                store.models.add(run.id, store.blobs.put(Record({"n": name}, {"w": np.ones(2)})), round=1)
    return ids


def test_a_certificate_that_was_issued_and_not_shown_yet_counts_on_the_other_machine(
    store: Store, tmp_path: Path
) -> None:
    """A node keeps its next certificate alone, and shows it when it connects again: to whoever is there then."""
    fill(store)
    store.nodes.promise("a", CertificateOnFile("02", "bb"), actor="a")
    path = store.state_file.save(tmp_path / "federated_state.json")
    with other(tmp_path) as there:
        there.state_file.load(path, "op")
        assert there.nodes.get("a").fingerprint == "aa"
        assert there.nodes.authenticate("bb") is not None
        assert there.nodes.authenticate("aa") is None
    with Store(None, tmp_path / "third", fsync=False) as there:
        there.nodes.register("b", CertificateOnFile("02", "bb"))
        with pytest.raises(ConfigError, match="belongs to another node"):
            there.state_file.load(path, "op")


def other(tmp_path: Path) -> Store:
    return Store(None, tmp_path / "other", fsync=False)


def test_everything_arrives_on_another_machine(store: Store, tmp_path: Path) -> None:
    ids = fill(store)
    path = store.state_file.save(tmp_path / "federated_state.json")
    assert path.stat().st_mode & 0o077 == 0
    with other(tmp_path) as there:
        result = there.state_file.load(path, "op")
        assert set(result.added) == {"a", *ids.values()}
        assert there.nodes.get("a").summary == {"num_samples": 3}
        assert there.nodes.authenticate("aa") is not None
        done = there.runs.get(ids["done"])
        assert (done.state, done.config, there.runs.bundle(done.id)) == ("completed", {"name": "done"}, {"code": "x"})
        assert [r.record["metrics"] for r in there.rounds.list(done.id)] == [{"loss": 0.5}]
        assert there.models.list(done.id)[0].round == 1
        assert there.consents.list(done.id)[0].decision == "accept"
        stopped = there.runs.get(ids["running"])
        assert (stopped.state, "when its state was exported" in stopped.reason) == ("failed", True)
        assert there.runs.get(ids["pending"]).state == "pending"
        again = there.state_file.load(path, "op")
        assert (again.added, again.updated) == ((), ())


def test_studies_arrive_with_their_people_that_are_known_and_their_bounds(store: Store, tmp_path: Path) -> None:
    for who in ("ada", "bob"):
        store.accounts.create_account(who, "data_scientist")
    bounds = StudyBounds(ends=4_000_000_000.0, most_epsilon=3.0, most_delta=1e-5)
    made = store.studies.make("heart", "why", ["ada", "bob"], ["a", "b"], bounds, actor="op")
    store.studies.make("free", actor="op")
    state = store.state_file.export_state()
    with other(tmp_path) as there:
        there.accounts.create_account("ada", "data_scientist")
        assert set(there.state_file.import_state(state, "op").added) == {"heart", "free"}
        found = there.studies.get("heart")
        assert found.public() == {**made.public(), "people": ["ada"]}
        assert there.studies.get("free").most_epsilon is None
        there.studies.change("heart", nodes=["c"], actor="op")
        assert set(there.state_file.import_state(state, "op").skipped) == {"heart", "free"}
        assert there.studies.get("heart").nodes == ("c",)


@pytest.mark.parametrize(
    ("epsilon", "delta", "said"),
    [
        (0, 1e-5, "most_epsilon"),
        (2e6, 1e-5, "most_epsilon"),
        (True, 1e-5, "most_epsilon"),
        (3, 5.0, "most_delta"),
        (None, 1e-5, "give both"),
    ],
)
def test_a_study_comes_in_with_bounds_that_its_operator_could_give(
    store: Store, tmp_path: Path, epsilon: float | None, delta: float, said: str
) -> None:
    store.studies.make("heart", bounds=StudyBounds(most_epsilon=3.0), actor="op")
    state = store.state_file.export_state()
    state["studies"][0] |= {"most_epsilon": epsilon, "most_delta": delta}
    with other(tmp_path) as there, pytest.raises(ConfigError, match=f"study 'heart'.*{said}|a study.*{said}"):
        there.state_file.import_state(state, "op")


def test_an_epsilon_alone_is_a_bound_in_a_file_too(store: Store, tmp_path: Path) -> None:
    made = store.studies.make("heart", bounds=StudyBounds(most_epsilon=3.0), actor="op")
    state = store.state_file.export_state()
    state["studies"][0]["most_delta"] = None
    with other(tmp_path) as there:
        there.state_file.import_state(state, "op")
        assert there.studies.get("heart").most_delta == made.most_delta == 1e-4


def test_there_are_no_secrets_in_it(store: Store) -> None:
    _, token = store.accounts.create_account("ada", "operator")
    _, secret = store.nodes.join_tokens.create("op")
    fill(store)
    exported = json.dumps(store.state_file.export_state())
    from hanse.store import tokens

    for hidden in (token, secret, tokens.digest(token), tokens.digest(secret), "hanse_", "token"):
        assert hidden not in exported


def test_importing_into_the_same_store_changes_nothing(store: Store) -> None:
    fill(store)
    before = store.state_file.export_state()
    result = store.state_file.import_state(before, "op")
    assert (result.added, result.updated) == ((), ())
    after = store.state_file.export_state()
    assert {**after, "saved_at": ""} == {**before, "saved_at": ""}


def test_newer_rows_are_not_overwritten_and_older_ones_are(store: Store, tmp_path: Path) -> None:
    ids = fill(store)
    old = store.state_file.export_state()
    store.nodes.revoke("a", actor="op")
    store.runs.transition(ids["pending"], "cancelled", "ada")
    store.state_file.import_state(old, "op")
    assert store.nodes.get("a").status == "revoked"
    assert store.runs.get(ids["pending"]).state == "cancelled"
    with other(tmp_path) as there:
        there.state_file.import_state(old, "op")
        result = there.state_file.import_state(store.state_file.export_state(), "op")
        assert set(result.updated) == {"a", ids["pending"]}
        assert there.nodes.get("a").status == "revoked"
        assert there.runs.get(ids["pending"]).state == "cancelled"


def test_a_file_cannot_let_a_revoked_node_in_again(store: Store) -> None:
    fill(store)
    store.nodes.revoke("a", actor="op")
    state = store.state_file.export_state()
    state["clients"]["a"].update(status="enrolled", updated="2099-01-01T00:00:00+00:00", address="new")
    store.state_file.import_state(state, "op")
    node = store.nodes.get("a")
    assert (node.status, node.address) == ("revoked", "new")


def test_history_can_be_bounded(store: Store) -> None:
    for i in range(4):
        run = store.runs.create({"i": i}, proposer="ada")
        store.runs.transition(run.id, "cancelled", "ada")
    kept = store.state_file.export_state(history=2)["completed_sessions"]
    assert [s["config"]["i"] for s in kept] == [2, 3]


def _wrong(state: dict[str, Any]) -> list[Any]:
    """Many ways to be wrong, each with everything else right."""

    def changed(*path: Any, to: Any) -> Any:
        copied = copy.deepcopy(state)
        place = copied
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to
        return copied

    done = ("completed_sessions", 0)
    return [
        None,
        [],
        "x",
        {},
        {**state, "extra": 1},
        {**state, "schema_version": 2},
        {**state, "schema_version": True},
        {**state, "active_sessions": {}},
        {**state, "clients": []},
        {**state, "saved_at": "now"},
        changed("clients", "../x", to=state["clients"]["a"]),
        changed("clients", "a", "status", to="admin"),
        changed("clients", "a", "summary", to=[]),
        changed("clients", "a", "registered_at", to="2026-01-01T00:00:00"),
        changed("clients", "a", "address", to="\0"),
        changed("clients", "a", "address", to="\ud800"),
        changed("clients", "a", "serial", to="1" * 500),
        changed("clients", "a", "token", to="x"),
        changed("clients", "a", "next_fingerprint", to="bb"),
        changed("clients", "a", "next_serial", to=""),
        changed(*done, "state", to="running"),
        changed(*done, "state", to="nonsense"),
        changed(*done, "session_id", to="a b"),
        changed(*done, "seed", to=2**70),
        changed(*done, "seed", to=True),
        changed(*done, "nodes", to=["/"]),
        changed(*done, "result", to="xyz"),
        changed(*done, "step", to=2**40),
        changed(*done, "rounds", 0, "status", to="great"),
        changed(*done, "rounds", 0, "step", to=-1),
        changed(*done, "models", 0, "sha", to="x"),
        changed(*done, "consents", 0, "decision", to="maybe"),
        changed(*done, "consents", to=state["completed_sessions"][0]["consents"] * 2),
        {**state, "completed_sessions": state["completed_sessions"] * 2},
    ]


def test_what_is_wrong_is_refused_as_a_whole(store: Store, tmp_path: Path) -> None:
    fill(store)
    with other(tmp_path) as there:
        for wrong in _wrong(store.state_file.export_state()):
            with pytest.raises(ConfigError):
                there.state_file.import_state(wrong, "op")
            assert there.nodes.list() == there.runs.list() == []
            assert there.events.last() == 0


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b'{"schema_version": 1, "schema_version": 1}', b"[" * 100_000, b"NaN"]
)
def test_garbage_files(store: Store, tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    with pytest.raises(ConfigError):
        store.state_file.load(path, "op")
    with pytest.raises(ConfigError, match="cannot be read"):
        store.state_file.load(tmp_path / "missing.json", "op")


def test_a_certificate_of_another_node_is_refused(store: Store) -> None:
    fill(store)
    state = store.state_file.export_state()
    state["clients"] = {"b": state["clients"]["a"]}
    with pytest.raises(ConfigError, match="belongs to another node"):
        store.state_file.import_state(state, "op")


def test_a_failed_save_leaves_the_old_file(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.state_file.save(tmp_path / "federated_state.json")
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.state_file.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".fed")] == []
