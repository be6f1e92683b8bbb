"""What was consented to is what runs: attacks on it, on real processes, and what both audits say."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from demo.federation import Failed, Federation, hanse
from hanse.store.audit import AuditLog

from .harness import Json, audit, ended, join, propose, rounds, session, steps_done, until

LONG = {"num_rounds": 3000, "min_available_nodes": 3, "min_completed": 2, "max_failed_rounds": 1000}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("consent") / "f") as federation:
        join(federation, 3)
        yield federation


def coordinators(federation: Federation, action: str) -> list[Json]:
    log = AuditLog(federation.home / "coordinator" / "audit.jsonl")
    try:
        assert log.verify().ok
        return [e for e in log.entries() if e.action == action]
    finally:
        log.close()


def cancel(federation: Federation, run: str) -> None:
    with contextlib.suppress(Failed):
        federation.rest("POST", f"/api/training/sessions/{run}/cancel", {})


def test_another_hash_than_the_one_consented_to_is_refused_and_both_audits_say_so(three: Federation) -> None:
    """Somebody with the coordinator's disk changes what a run stands for, after the consents. All nodes refuse for
    good, so the run ends as one that was rejected."""
    run = propose(three, **{**LONG, "max_failed_rounds": 1})
    until(lambda: steps_done(three.home, run) >= 4)
    three.coordinator.kill()
    with contextlib.closing(sqlite3.connect(three.home / "coordinator" / "hanse.db")) as db, db:
        assert db.execute("UPDATE runs SET bundle_hash = ? WHERE id = ?", ("e" * 64, run)).rowcount == 1
    before = {name: len(audit(three, name)) for name in three.nodes}
    three.coordinator.start()
    done = ended(three, run)
    assert done["state"] == "rejected", done
    for name in three.nodes:
        said = [e for e in audit(three, name)[before[name] :] if e["action"] == "task.refused"]
        assert said, name
        assert said[0]["detail"]["code"] == "not_approved"
        assert said[0]["detail"]["bundle"] == "e" * 64
    until(lambda: len({e.detail.get("node") for e in coordinators(three, "task.refused") if e.subject == run}) == 3)


def test_an_approval_that_is_taken_back_in_the_middle(three: Federation) -> None:
    """From the next task on the node refuses; the others go on; both audits say so."""
    name = sorted(three.nodes)[0]
    run = propose(three, **LONG)
    until(lambda: steps_done(three.home, run) >= 5)
    hanse("node", "revoke", run, "--home", str(three.home / name))
    missed = until(lambda: [r for r in rounds(three, run) if name in r["failures"]])
    assert "revoked" in missed[0]["failures"][name]
    last = rounds(three, run)[-1]["step"]
    until(lambda: any(r["step"] > last + 2 and len(r["participants"]) == 2 for r in rounds(three, run)))
    cancel(three, run)
    answered = [e["action"] for e in audit(three, name) if e["subject"] == run]
    assert "task.answered" not in answered[answered.index("proposal.revoked") + 1 :]
    until(lambda: [e for e in coordinators(three, "task.refused") if e.subject == run])


def test_a_dataset_that_is_changed_after_the_consent(three: Federation) -> None:
    """The version that was approved is not there any more: refused, and the run goes on without this node."""
    name = sorted(three.nodes)[1]
    run = propose(three, **LONG)
    until(lambda: steps_done(three.home, run) >= 5)
    file, home = three.home / f"{name}.csv", str(three.home / name)
    file.write_text(file.read_text() + "0.1,0.2,0.3,1\n")
    hanse("node", "dataset", "refresh", "patients", "--home", home)
    missed = until(lambda: [r for r in rounds(three, run) if name in r["failures"]])
    assert "has changed since it was approved" in missed[0]["failures"][name]
    assert str(three.home) not in str(missed[0]["failures"])
    cancel(three, run)


def test_an_owner_decides_for_the_own_node_only(three: Federation) -> None:
    """By REST, with a valid token of another owner; and a scientist and an operator never."""
    a, b, _ = sorted(three.nodes)
    tokens = {"owner-a": three.account("owner-a", "data_owner", [a]), "sci": three.account("sci", "data_scientist")}
    run = propose(three, num_rounds=2, expected_client_ids=[a, b], min_available_nodes=2)
    found = session(three, run)
    for who, token in (*tokens.items(), ("operator", three.operator_token)):
        with pytest.raises(Failed, match=" 403 "):
            three.rest(
                "POST",
                f"/api/training/sessions/{run}/consent",
                {"client_id": b, "decision": "accept", "code_hash": found["code_hash"]},
                token,
            )
        assert who
    # nor may the owner decide here at all, where the node takes decisions only at the node
    with pytest.raises(Failed, match=" 409 "):
        three.rest(
            "POST",
            f"/api/training/sessions/{run}/consent",
            {"client_id": a, "decision": "reject", "code_hash": found["code_hash"]},
            tokens["owner-a"],
        )
    assert ended(three, run)["state"] == "completed"


def test_an_expired_proposal_cannot_be_approved_later(three: Federation) -> None:
    name = sorted(three.nodes)[0]
    home = str(three.home / name)
    hanse("node", "policy", "set", "standing", "ask", "--home", home)
    settings = {"num_rounds": 2, "expected_client_ids": [name]}
    run = propose(three, **settings, consent_timeout_s=1.0)
    assert ended(three, run)["state"] == "expired"
    with pytest.raises(Failed, match="expired"):
        hanse("node", "approve", run, "--home", home)
    # a consent for one run is none for another with the same content
    first, second = (propose(three, **settings) for _ in range(2))
    until(lambda: second in hanse("node", "proposals", "--home", home), every=0.2)
    assert session(three, first)["code_hash"] == session(three, second)["code_hash"]
    hanse("node", "approve", first, "--home", home)
    assert ended(three, first)["state"] == "completed"
    assert session(three, second)["state"] == "awaiting_consent"
