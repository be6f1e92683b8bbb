"""Opening a database, and transactions that are whole or nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from hanse.errors import ConfigError, Conflict
from hanse.store import migrations
from hanse.store.database import Database, is_name, to_json, words
from hanse.store.store import Store
from tests.waiting import PATIENCE


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:", "oracle+what://x"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError):
        Database(url)


@pytest.mark.postgres
def test_an_unreachable_server_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="cannot be opened") as caught:
        Database("postgres://hanse:sesame@127.0.0.1:1/none")
    assert "sesame" not in caught.value.message


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(ConfigError, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path / 'x.db'}")


def test_opening_twice_keeps_all(url: str, tmp_path: Path) -> None:
    with Store(url, tmp_path) as store:
        run = store.runs.create({"x": 1}, proposer="ada")
    with Store(url, tmp_path) as first, Store(url, tmp_path) as second:
        assert first.runs.get(run.id) == second.runs.get(run.id) == run


_OPENED_BY_FOUR = """
import os, sys
from hanse.store.database import Database
ends, go = os.pipe()
for _ in range(4):  # processes forked of one that has loaded everything
    if not os.fork():
        os.close(go)
        os.read(ends, 1)  # until all are there: the last end of the pipe is closed
        Database(sys.argv[1]).close()
        os._exit(0)
os.close(go)
print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(4)])
"""


def test_many_may_open_an_empty_database_at_once(url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", _OPENED_BY_FOUR, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "[0, 0, 0, 0]\n", done.stderr


def test_sqlite_is_set_for_durability(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with database.read() as connection:
        pragmas = {
            p: connection.execute(text(f"PRAGMA {p}")).scalar()
            for p in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}


def test_a_transaction_is_whole_or_nothing_and_tells_after_the_commit(store: Store) -> None:
    told: list[str] = []
    store.events.subscribe(lambda event: told.append(event.kind))
    with pytest.raises(ZeroDivisionError), store.database.write() as tx:
        store.events.record(tx, "never")
        raise ZeroDivisionError
    with store.database.write() as tx:
        store.events.record(tx, "once")
        assert told == []
    assert told == ["once"]
    assert [e.kind for e in store.events.since()] == ["once"]


def test_a_nested_transaction_is_an_error_and_not_a_deadlock(store: Store) -> None:
    with pytest.raises(RuntimeError, match="within"), store.database.write():
        store.events.append("x")
    store.events.append("fine again")


def test_many_threads_write_and_read(store: Store) -> None:
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for i in range(15):
                store.events.append("tick", actor=f"t{n}", detail={"i": i})
                store.events.since(limit=5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = store.events.since()
    assert len(found) == 90
    for n in range(6):
        assert [e.detail["i"] for e in found if e.actor == f"t{n}"] == list(range(15))


def test_values() -> None:
    assert to_json({"a": float("nan"), "b": [np.float64("inf"), np.int64(3)], "c": np.ones(2)}) == (
        '{"a":null,"b":[null,3],"c":[1.0,1.0]}'
    )
    with pytest.raises(ConfigError, match="not JSON"):
        to_json({"a": object()})
    assert words("a\0b\ud800" + "x" * 9, 5) == "a\ufffdb?x"
    assert is_name("Hospital_1.a-b")
    for wrong in ("", "-a", "a b", "a/b", "a" * 65, "a\n", "é", None, 3):
        assert not is_name(wrong)


def test_one_coordinator_drives_a_database_and_others_may_look(url: str, tmp_path: Path) -> None:
    with Store(url, tmp_path / "a", alone=True) as first:
        with pytest.raises(Conflict, match="another coordinator is running on this database"):
            Store(url, tmp_path / "b", alone=True)
        with Store(url, tmp_path / "a") as beside:
            beside.accounts.create_account("ada", "data_scientist")
        assert first.database.claim is not None
        assert first.database.claim.held()
    Store(url, tmp_path / "b", alone=True).close()


@pytest.mark.postgres
def test_a_claim_that_the_server_forgot_is_made_again_or_lost(
    postgres_server: Callable[[], str], tmp_path: Path
) -> None:
    import psycopg

    url = postgres_server()
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with Store(url, tmp_path / "a", alone=True) as first:
        assert first.database.claim is not None
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(end)
        assert first.database.claim.held()
        with pytest.raises(Conflict):
            Store(url, tmp_path / "b", alone=True)
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(end)
            with Store(url, tmp_path / "b", alone=True):
                assert not first.database.claim.held()


def test_a_schema_is_not_changed_under_a_coordinator(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(url, tmp_path / "a", alone=True) as first:
        monkeypatch.setattr(migrations, "newest", lambda: 99)
        with pytest.raises(Conflict, match="a coordinator of an older release is running on this database"):
            Database(url)
        monkeypatch.undo()
        assert not first.runs.list()
