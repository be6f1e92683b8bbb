"""Exact boosting of data that nobody hoped for, and of many sites or one: one model that predicts what it measured."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from drive import Drive, shares
from test_boosting import OPTIONS, design, model, settings, table_of

import hanse
from hanse.learning.rows import Described
from hanse.registry import find
from hanse.table import Column, ColumnKind, Table

N = 240


def odd(name: str) -> Table:
    """A column of the name beside those that hold something."""
    table, rng = table_of("regression"), np.random.default_rng(1)
    values: dict[str, Any] = {
        "of one value": np.full(N, 7.25),
        "of one value or none": np.where(rng.random(N) < 0.5, 7.25, np.nan),
        "of nothing": np.full(N, np.nan),
        "of the largest numbers": rng.choice([1e308, -1e308, np.inf, -np.inf, 3.5e38, 1.0, 2.0], N),
        "of the smallest numbers": rng.choice([5e-324, -5e-324, 1e-45, -1e-45, 0.0, -0.0, 1e-38], N),
        "of very near numbers": 1.0 + rng.integers(0, 1000, N) * 1e-9,  # one number, as float32
        "of a number a row": np.arange(N) * 1e6,
    }
    return Table({**table.columns, name: Column(ColumnKind.NUMERIC, values[name])})


def ways(table: Table) -> dict[str, dict[str, Table]]:
    by_target = table.take(np.argsort(table["y"].values, kind="stable"))
    return {
        "pooled": shares(table, N),
        "apart": shares(by_target, 60, 30, 150),
        "26 sites": shares(table, *[10] * 24, 0, 0),
    }


def predicts_what_it_measured(drive: Drive, result: Any) -> bool:
    works = [site.memory["boosting"] for site in drive.sites.values()]
    adapter = find("models", "xgboost")
    return all(
        (adapter.predict(result, design(work)) == work.margins[:, 0].astype(float)).all() for work in works if work.rows
    )


@pytest.mark.parametrize(
    "name",
    [
        "of one value",
        "of one value or none",
        "of nothing",
        "of the largest numbers",
        "of the smallest numbers",
        "of very near numbers",
        "of a number a row",
    ],
)
def test_an_odd_column_changes_no_bit_between_ways_to_divide_the_rows(name: str) -> None:
    table, found = odd(name), {}
    for way, tables in ways(table).items():
        drive = Drive(tables, **settings("regression", num_rounds=2))
        found[way] = model(result := drive.run())
        assert not any(drive.failures), way
        assert predicts_what_it_measured(drive, result), way
    assert len(set(found.values())) == 1, found


def test_categories_that_a_site_has_alone_or_does_not_tell() -> None:
    """Those of fewer rows than a site's minimum are missing there; the trees send their rows as missing ones."""
    table = table_of("regression")
    towns = np.array([f"town {i % 5}" for i in range(N)], object)
    towns[:3], towns[200:203] = "hamlet", "only here"
    tables = shares(Table({**table.columns, "town": Table.of({"t": towns.tolist()})["t"]}), 100, 90, 50)
    owners = {"site-0": {"minimum_count": 5}}
    drive = Drive(tables, owners=owners, **settings("regression", num_rounds=3))
    result = drive.run()
    (column,) = (c for c in result.data["prepared"]["columns"] if c["name"] == "town")
    assert column["categories"] == ["only here", *(f"town {i}" for i in range(5))]
    assert predicts_what_it_measured(drive, result)
    X = find("models", "xgboost").predict(result, np.full((1, len(result.data["task"]["features"])), np.nan))
    assert np.isfinite(X).all()  # a row of which nothing is known


def test_a_sample_of_sites_grows_each_tree_and_all_are_measured() -> None:
    """Who was not asked for some trees is sent all of them; nobody's margins are another model's."""
    tables = shares(table_of("regression"), 60, 60, 60, 60)
    names = sorted(tables)
    drive = Drive(
        tables,
        draw=lambda step: [names[step % 4], names[(step + 1) % 4]],
        **settings("regression", num_rounds=5, fraction=0.5, evaluate_every=2),
    )
    result = drive.run()
    assert not any(drive.failures)
    assert result.data["round"] == 5
    rows = {entry["round"]: entry["n"] for entry in result.data["history"] if entry["round"] in (2, 4, 5)}
    assert len(set(rows.values())) == 1  # of all sites
    assert predicts_what_it_measured(drive, result)


def test_a_model_is_continued_at_sites_whose_bins_have_other_edges() -> None:
    """Its thresholds are no edges of the new bins, so its margins are those of bins of its own."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=N), "b": rng.normal(size=N), "c": rng.choice(list("uvw"), N)})
    frame["y"] = frame["a"] * 3 + (frame["c"] == "u") + rng.normal(size=N)
    given = {"target": "y", "rounds": 2, "model_options": OPTIONS, "test_fraction": 0.0}
    first = hanse.simulate({"s": frame[:80]}).experiment("xgboost", **given).run(progress=False)
    others = frame[80:]
    found = []
    for parts in ({"s": others}, {"s": others[:60], "t": others[60:]}):
        told = hanse.simulate(parts).experiment("xgboost", initial_model=first, **given).run(progress=False)
        found.append(model(told.record))
        assert len(told.record.arrays["model.size"]) == 4
    assert found[0] == found[1]
    X = told.predictor().design(others)
    y, before, after = (
        others["y"].to_numpy(),
        *(find("models", "xgboost").predict(r.record, X) for r in (first, told)),
    )
    assert ((after - y) ** 2).mean() < 0.8 * ((before - y) ** 2).mean()


@pytest.mark.parametrize(
    ("release", "warned"), [("3.0.5", False), ("3.1.0", True), ("3.2.0", True), ("3.3.0", True), ("3.4.0", False)]
)
def test_a_release_that_misreads_names_of_categories_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, release: str, warned: bool
) -> None:
    """findings/xgboost-category-names.sh; mended in 3.4.0."""
    table, towns = table_of("binary"), np.array(["Köln", "Bonn"], object)[np.arange(N) % 2]
    result = Drive({"s": Table({**table.columns, "town": Table.of({"t": towns.tolist()})["t"]})}, **settings("binary"))
    monkeypatch.setattr(xgboost, "__version__", release)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        find("models", "xgboost").native(result.run())
    assert ["misreads categories" in str(one.message) for one in said] == [True] * warned


def test_of_many_columns_not_all_are_looked_at_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """To grow two trees of 10,000 columns took minutes at each site, before the first of them."""
    looks, inner = 0, Described.numeric.fget  # type: ignore[attr-defined]

    def seen(column: Described) -> bool:
        nonlocal looks
        looks += 1
        return bool(inner(column))

    monkeypatch.setattr(Described, "numeric", property(seen))
    found, rng = dict[int, int](), np.random.default_rng(2)
    for columns in (20, 60):
        values: dict[str, Any] = {f"c{i}": rng.normal(size=60) for i in range(columns)}
        table = Table.of({**values, "y": rng.choice(["a", "b"], 60).tolist()})
        looks = 0
        Drive(shares(table, 30, 30), **settings("binary", num_rounds=1)).run()
        found[columns] = looks
    assert found[60] <= 4 * found[20]
