"""Model versions and what changed between two."""

from __future__ import annotations

import numpy as np
import pytest

from hanse.errors import NotFound
from hanse.messages import Record
from hanse.store.models import Difference, difference
from hanse.store.store import Store


def put(store: Store, n: int) -> str:
    return store.blobs.put(Record({}, {"w": np.full(n, 1.0)}))


def test_versions_count_from_one_in_each_run(store: Store, running: str) -> None:
    assert store.models.latest(running) is None
    first = store.models.add(running, put(store, 100), round=1, metrics={"loss": 0.7, "accuracy": 0.5})
    second = store.models.add(running, put(store, 200), round=3, metrics={"loss": 0.4, "accuracy": 0.75})
    assert (first.version, second.version, store.models.latest(running)) == (1, 2, second)
    assert store.models.add(running, second.sha, round=3) == second  # the same again is no new version
    other = store.runs.create({}, proposer="ada")
    assert store.models.add(other.id, first.sha).version == 1
    assert store.models.add(other.id, first.sha).version == 1
    assert store.models.list(running) == [first, second]
    assert store.models.get(running, 2) == second
    assert second.public()["sha"] == second.sha
    assert difference(first, second) == Difference(0.25, pytest.approx(0.3), 800, 2)  # type: ignore[arg-type]
    assert difference(second, first).loss_diff == pytest.approx(-0.3)


def test_absent_metrics_are_null(store: Store, running: str) -> None:
    store.models.add(running, put(store, 1), metrics={"loss": float("nan"), "accuracy": "high"})
    store.models.add(running, put(store, 2), round=2, metrics={"loss": 1.0})
    assert difference(*store.models.list(running)) == Difference(None, None, 8, None)


def test_what_is_missing(store: Store, running: str) -> None:
    sha = put(store, 1)
    for call in (
        lambda: store.models.get(running, 1),
        lambda: store.models.add(running, "0" * 64),
        lambda: store.models.add("run-x", sha),
    ):
        with pytest.raises(NotFound):
            call()
