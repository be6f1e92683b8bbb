"""federated_state.json beside the database (LEDGER M73 to M77)."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hanse.coordinator import state_mirror
from hanse.coordinator.service import Coordinator
from hanse.coordinator.state_mirror import FILE, StateMirror, take_up
from hanse.errors import ConfigError, Conflict
from hanse.store import Store
from hanse.store.consents import Consent
from hanse.store.nodes import CertificateOnFile
from hanse.store.states import RunState
from hanse.transports.local import LocalTransport
from tests.waiting import eventually


def fill(store: Store, end: RunState = RunState.COMPLETED) -> str:
    """A node and a session that has ended, with code and a step."""
    store.nodes.register("ulm", CertificateOnFile("serial", "print"))
    run = store.runs.create({"num_rounds": 1}, proposer="ada", nodes=["ulm"])
    store.runs.propose(run.id, "h" * 64, {"code": "long"}, actor="ada")
    store.consents.decide(Consent(run.id, "ulm", "accept", "h" * 64, "otto", via="node"), start=False)
    store.consents.settle(run.id, "otto", start=True)
    store.rounds.checkpoint(run.id, 0, None, {"step": 0, "label": "train", "round": 1, "started": 1.0, "ended": 2.0})
    store.runs.transition(run.id, end, "coordinator", "done")
    return run.id


async def until(path: Path, seen: Any) -> dict[str, Any]:
    def there() -> Any:
        return path.exists() and seen(found := json.loads(path.read_text())) and found

    return await eventually(there)  # type: ignore[no-any-return]


def test_it_follows_what_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole after each change, readable by its owner alone, without code, steps or tokens."""
    monkeypatch.setattr(state_mirror, "_LEAST_S", 0.01)

    async def body() -> None:
        with Store(None, tmp_path, fsync=False) as store:
            _, token = store.accounts.create_account("otto", "data_owner", ["ulm"])
            mirror = StateMirror(store, tmp_path)
            mirror.start()
            await until(tmp_path / FILE, lambda state: state["clients"] == {})
            run = await asyncio.to_thread(fill, store)
            state = await until(tmp_path / FILE, lambda state: state["completed_sessions"])
            assert set(state["clients"]) == {"ulm"}
            (session,) = state["completed_sessions"]
            assert (session["session_id"], session["bundle"], session["rounds"]) == (run, {}, [])
            assert session["consents"][0]["decision"] == "accept"
            assert token not in json.dumps(state)
            assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o600
            next_one = CertificateOnFile("02", "next print")
            await asyncio.to_thread(lambda: store.nodes.promise("ulm", next_one, actor="ulm"))
            await until(tmp_path / FILE, lambda state: state["clients"]["ulm"]["next_fingerprint"] == "next print")
            await asyncio.to_thread(store.nodes.authenticate, "next print")
            await until(tmp_path / FILE, lambda state: state["clients"]["ulm"]["fingerprint"] == "next print")
            await asyncio.to_thread(store.nodes.revoke, "ulm", actor="op", reason="")
            await mirror.stop()  # which writes what came last
            assert json.loads((tmp_path / FILE).read_text())["clients"]["ulm"]["status"] == "revoked"

    asyncio.run(body())


def test_a_coordinator_without_a_database_takes_it_up(tmp_path: Path) -> None:
    """Registry and history are there again, on another machine; a database that has something stays as it is."""
    old, new = tmp_path / "old", tmp_path / "new"
    with Store(None, old, fsync=False) as store:
        run = fill(store)
        store.state_file.save(old / FILE, brief=True)
        assert take_up(store, old) is None
    new.mkdir()
    (new / FILE).write_bytes((old / FILE).read_bytes())
    with Store(None, new, fsync=False) as store:
        found = take_up(store, new)
        assert found is not None
        assert set(found.added) == {"ulm", run}
        assert store.nodes.get("ulm").id == "ulm"
        assert str(store.runs.get(run).state) == "completed"
        assert take_up(store, new) is None
        assert store.runs.bundle(run) == {}


def test_a_run_whose_code_is_not_in_the_file_is_proposed_again_and_not_resumed(tmp_path: Path) -> None:
    """Its owners would be asked about a hash, and shown nothing."""
    with Store(None, tmp_path / "old", fsync=False) as store:
        run = fill(store, RunState.FAILED)
        store.state_file.save(tmp_path / FILE, brief=True)
    with Store(None, tmp_path / "new", fsync=False) as store:
        take_up(store, tmp_path)
        coordinator = Coordinator(store)
        coordinator.attach(LocalTransport({}))
        with pytest.raises(Conflict, match="propose it again"):
            asyncio.run(coordinator.runs.resume(run, "ada"))
        assert str(store.runs.get(run).state) == "failed"


def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"schema_version": 1, "cli')
    with Store(None, tmp_path, fsync=False) as store, pytest.raises(ConfigError, match="state file"):
        take_up(store, tmp_path)
    assert (tmp_path / FILE).read_text() == '{"schema_version": 1, "cli'


def test_what_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The database is what counts."""

    async def body() -> None:
        with Store(None, tmp_path / "db", fsync=False) as store:
            mirror = StateMirror(store, tmp_path / "not there")
            mirror.start()
            await asyncio.to_thread(fill, store)
            await mirror.stop()

    asyncio.run(body())
    assert "could not be written" in caplog.text
