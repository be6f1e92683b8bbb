"""Tests marked ``databases`` run twice: on SQLite, and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import federation


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("databases"):
        metafunc.fixturenames.append("database")
        both = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("database", both, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the federations of this test keep their state."""
    if request.param == "postgres":
        make: Callable[[], str] = request.getfixturevalue("postgres_server")
        urls: dict[Path, str] = {}  # a coordinator that is started again finds the database it had

        def of(home: Path) -> str:
            if home not in urls:
                urls[home] = make()
            return urls[home]

        monkeypatch.setattr(federation, "database", of)
    return str(request.param)
