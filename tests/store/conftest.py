"""The same tests against SQLite and a real PostgreSQL (``tests/conftest.py`` starts it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hanse.store.consents import Consent
from hanse.store.store import Store


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
    return store.consents.decide(Consent(run.id, "a", "accept", "hash", "owner"), start=True).id
