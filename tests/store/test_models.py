"""Model versions and what changed between two."""

from __future__ import annotations

import numpy as np
import pytest

from hanse.errors import NotFound
from hanse.messages import Record
from hanse.store.models import Difference, difference
from hanse.store.states import RunState
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


def test_versions_that_were_measured_on_other_sites_are_not_compared(store: Store, running: str) -> None:
    for place, sites in enumerate(
        (None, {"answered": 1, "of": 2, "which": "x"}, {"answered": 1, "of": 2, "which": "x"})
    ):
        told = {"loss": 1.0 - place / 4, "accuracy": 0.5} | ({"sites": sites} if sites else {})
        store.models.add(running, put(store, 1), round=place, metrics=told)
    every, some, same = store.models.list(running)
    assert difference(every, some) == Difference(None, None, 0, 1)
    assert difference(some, same) == Difference(0.0, 0.25, 0, 1)


def test_what_is_missing(store: Store, running: str) -> None:
    sha = put(store, 1)
    for call in (
        lambda: store.models.get(running, 1),
        lambda: store.models.add(running, "0" * 64),
        lambda: store.models.add("run-x", sha),
    ):
        with pytest.raises(NotFound):
            call()


def kept(store: Store, run: str, losses: list[float | None]) -> None:
    """A version a round, measured afterwards as runs do."""
    for round, loss in enumerate(losses):
        store.models.add(run, put(store, round + 1), round=round)
        if loss is not None:
            store.models.measured(run, round, {"loss": loss, "accuracy": 1 - loss})


def test_a_version_says_how_good_it_was_once_that_is_known(store: Store, running: str) -> None:
    """F108, F113: the model of a round is measured in the step after it."""
    kept(store, running, [0.7, 0.4, 0.5, None])
    first, second, third, last = store.models.list(running)
    assert difference(first, second) == Difference(pytest.approx(0.3), pytest.approx(0.3), 8, 1)  # type: ignore[arg-type]
    assert difference(third, last).loss_diff is None
    assert store.models.best(running) == second
    store.models.measured(running, 3, {"loss": 0.1, "sites": {"answered": 1, "of": 3}})
    assert store.models.best(running) == store.models.get(running, 4)  # no other was measured on these sites


def test_the_best_and_the_last_stay(store: Store, running: str) -> None:
    """F116: and what was not measured yet; blobs that nothing refers to are told."""
    kept(store, running, [0.7, 0.4, 0.5, None, 0.6])
    shas = {v.version: v.sha for v in store.models.list(running)}
    store.models.add(store.runs.create({}, proposer="ada").id, shas[1])
    assert set(store.models.thin(running)) == {shas[3]}  # the first is another run's too
    assert [v.version for v in store.models.list(running)] == [2, 4, 5]
    assert store.models.thin(running) == ()
    assert store.models.add(running, put(store, 9), round=5).version == 6


def test_old_runs_are_thinned_when_the_store_is_swept(store: Store, running: str) -> None:
    kept(store, running, [0.7, 0.4, 0.5])
    store.sweep(0.0, models_s=0.0)
    assert len(store.models.list(running)) == 3  # it has not ended
    store.runs.transition(running, RunState.COMPLETED, "coordinator", "done")
    store.sweep(0.0, models_s=3600.0)
    assert len(store.models.list(running)) == 3
    gone = store.models.get(running, 1).sha
    store.sweep(0.0, models_s=-1.0)
    assert [v.version for v in store.models.list(running)] == [2, 3]
    assert not store.blobs.has(gone)
