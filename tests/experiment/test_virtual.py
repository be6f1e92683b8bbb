"""Virtual sites: every row where it belongs, the skew that was asked for, and no table that nobody looks at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hanse
from hanse.answers import Touched
from hanse.errors import ConfigError, DataError
from hanse.experiment import simulated_run, simulation
from hanse.experiment.virtual import VirtualSites, virtual_sites
from hanse.messages import digest
from hanse.summary import labels_here
from hanse.table import Table

ROWS = 600


def data() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=ROWS)
    y = [f"c{v}" for v in np.digitize(x + rng.normal(size=ROWS), [-1, 1])]
    return {"number": np.arange(ROWS), "x": x, "y": y, "z": rng.normal(size=ROWS)}


def numbers(sites: VirtualSites) -> list[Any]:
    return [table["number"].values.astype(int) for table in sites.values()]


@given(
    count=st.integers(1, 40),
    by=st.sampled_from([None, "y", "x"]),
    alpha=st.sampled_from([0.05, 1.0, math.inf]),
    size_alpha=st.sampled_from([0.05, 1.0, math.inf]),
    seed=st.integers(0, 9),
)
def test_a_partition_has_every_row_once(count: int, by: str | None, alpha: float, size_alpha: float, seed: int) -> None:
    sites = virtual_sites(data(), count, by, alpha if by else math.inf, size_alpha, seed=seed)
    assert len(sites) == count
    assert sorted(np.concatenate(numbers(sites)).tolist()) == list(range(ROWS))


def test_sites_that_are_alike_have_equal_shares() -> None:
    for table in virtual_sites(data(), 6, by="y").values():
        assert abs(table.rows - 100) <= 3
        whole = np.bincount(Table.of(data())["y"].values, minlength=3)
        assert (np.abs(np.bincount(table["y"].values, minlength=3) - whole / 6) <= 1).all()


def _spread(sites: VirtualSites, column: str) -> float:
    """Mean distance of the sites' class shares from those of all."""
    tables = [table for table in sites.values() if table.rows]
    shares = [np.bincount(t[column].values, minlength=3) / t.rows for t in tables]
    whole = np.bincount(Table.of(data())[column].values, minlength=3) / ROWS
    return float(np.mean([np.abs(s - whole).sum() for s in shares]))


@pytest.mark.parametrize("rows_each", [None, 40])
def test_the_smaller_alpha_the_more_labels_differ(rows_each: int | None) -> None:
    found = [_spread(virtual_sites(data(), 12, "y", alpha, rows_each=rows_each), "y") for alpha in (0.05, 1.0, 1e6)]
    assert found[0] > 1.5 * found[1] > 1.5 * found[2]


def test_features_and_sizes_differ_too() -> None:
    means = [table["x"].values.mean() for table in virtual_sites(data(), 8, "x", 0.05).values() if table.rows]
    alike = [table["x"].values.mean() for table in virtual_sites(data(), 8, "x").values()]
    assert np.std(means) > 5 * np.std(alike)
    sizes = [len(rows) for rows in numbers(virtual_sites(data(), 8, size_alpha=0.2))]
    assert max(sizes) > 2 * ROWS / 8
    assert sum(sizes) == ROWS


def test_draws_are_of_the_size_that_was_asked_for_and_the_same_each_time() -> None:
    sites = virtual_sites(data(), 1000, "y", 0.5, rows_each=20, seed=3)
    found = numbers(sites)
    assert all(len(rows) == 20 == len(set(rows.tolist())) for rows in found[:50])
    assert all(
        (a == b).all()
        for a, b in zip(found[:50], numbers(virtual_sites(data(), 50, "y", 0.5, rows_each=20, seed=3)), strict=True)
    )
    assert not all((a == b).all() for a, b in zip(found[:50], found[50:100], strict=True))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 2, "by": "y", "alpha": 0.0}, "alpha is 0"),
        ({"count": 2, "by": "y", "alpha": math.nan}, "alpha is nan"),
        ({"count": 2, "alpha": 1.0}, "names no column"),
        ({"count": 2, "size_alpha": -1.0}, "size_alpha is -1"),
        ({"count": 2, "rows_each": 0}, "rows_each is 0"),
    ],
)
def test_what_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        virtual_sites(data(), **given)
    with pytest.raises(DataError, match="no column 'no'"):
        virtual_sites(data(), 2, "no", 1.0)
    with pytest.raises(ConfigError, match="no rows"):
        virtual_sites({"x": []}, 2)


class Counting(VirtualSites):
    """Counts the tables that are made, and those that are alive."""

    alive = most = made = 0

    def __getitem__(self, name: str) -> Table:
        import weakref

        found = super().__getitem__(name)
        values = found["x"].values
        Counting.made += 1
        Counting.alive += 1
        Counting.most = max(Counting.most, Counting.alive)
        weakref.finalize(values, self._gone)
        return found

    @staticmethod
    def _gone() -> None:
        Counting.alive -= 1


@pytest.fixture
def counted() -> type[Counting]:
    Counting.alive = Counting.most = Counting.made = 0
    return Counting


def test_a_run_over_many_sites_holds_few_tables_and_gives_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, counted: type[Counting]
) -> None:
    monkeypatch.setattr(simulated_run, "AWAKE", 8)
    made = virtual_sites({k: v for k, v in data().items() if k != "number"}, 200, "y", 0.5, rows_each=20)
    lazy = counted(made._table, 200, made._rows)
    settings: dict[str, Any] = {"model": "sgd_classifier", "target": "y", "sample_id_column": None}
    settings |= {"rounds": 3, "fraction": 0.05, "federated_strategy": "scaffold"}
    records = []
    for sites in (lazy, dict(made)):
        with hanse.simulate(sites, workers=2) as federation:
            result = federation.experiment(**settings).run(progress=False)
            records.append(digest(result.record))
            assert not result.failures
    assert records[0] == records[1]
    assert counted.most < 30


def test_what_a_proposal_says_of_a_site_is_looked_up_once(counted: type[Counting]) -> None:
    """Five tables of each site were made for every proposal: for its rows, its version, its columns and its labels."""
    made = virtual_sites(data(), 20, "y", 0.5)
    with hanse.simulate(counted(made._table, 20, made._rows)) as federation:
        experiment = federation.experiment(model="sgd_classifier", target="y", sample_id_column="number", rounds=1)
        first = experiment.preview()
        assert counted.made <= 2 * 20
        asked = counted.made
        assert experiment.preview() == first
        assert experiment.analyze().sites
        assert counted.made == asked


def test_labels_of_a_proposal_are_asked_for_once_for_sites_that_have_as_many_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A query for each site took most of the time of a proposal over thousands of sites; what is told is the same."""
    asked: list[str] = []

    def noted(table: Table, target: str, least: int) -> list[str]:
        asked.append(target)
        return labels_here(table, target, least)

    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(size=400), "y": rng.choice(["a", "b"], 400).tolist(), "grade": rng.integers(0, 3, 400)}
    made = virtual_sites(rows, 30, "y", 0.5, rows_each=8)
    monkeypatch.setattr(simulation, "labels_here", noted)
    for target in ("y", "grade", "x", "absent"):
        known: dict[Any, list[str]] = {}
        for least in (1, 3):
            known.clear()
            for table in made.values():
                assert simulation._labels(table, target, least, known) == labels_here(table, target, least)
    assert asked.count("y") <= 2 * 9  # of 8 rows 0 to 8 are of one label
    assert asked.count("x") == asked.count("absent") == 2 * 30


def test_what_a_run_touches_is_found_out_once_for_all_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each site looked it up in each step, among all algorithms that are there."""
    looked: list[str] = []
    monkeypatch.setattr(Touched, "of", lambda config, real=Touched.of: looked.append(config.model_name) or real(config))
    sites = virtual_sites({k: v for k, v in data().items() if k != "number"}, 30, "y", 0.5)
    with hanse.simulate(sites) as federation:
        federation.experiment(model="sgd_classifier", target="y", sample_id_column=None, rounds=2).run(progress=False)
    assert looked == ["sgd_classifier"]
