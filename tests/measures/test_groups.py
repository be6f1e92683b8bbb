"""Metrics by group: those of the pooled held-out rows, and none of few rows, whatever the split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

import hanse
from hanse import algorithms, features
from hanse.errors import ConfigError
from hanse.experiment.results import Result
from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.messages import Json, Record, digest
from hanse.registry import find
from hanse.table import Table

GROUPS: dict[str, list[float]] = {"sex": [], "smokes": [], "age": [50, 65]}
RUN: dict[str, Any] = {
    "model": "logistic_regression",
    "target": "disease",
    "features": ["age", "pressure"],
    "rounds": 2,
    "sample_id_column": None,
    "measures": ["groups"],
    "group_by": GROUPS,
}


def patients(seed: int, rows: int) -> dict[str, Any]:
    """``sex`` and ``smokes`` are no features; some of either are not known."""
    rng = np.random.default_rng(seed)
    age, pressure = rng.normal(58, 12, rows), rng.normal(130, 15, rows)
    ill = age / 12 + pressure / 15 + rng.normal(0, 2, rows) > 13.5
    sex = rng.choice(np.array(["f", "m", None], object), rows, p=[0.5, 0.4, 0.1])
    smokes = rng.choice(np.array([True, False, None], object), rows, p=[0.3, 0.6, 0.1])
    return {
        "age": age,
        "pressure": pressure,
        "sex": sex.tolist(),
        "smokes": smokes.tolist(),
        "disease": np.where(ill, "yes", "no").tolist(),
    }


def sites() -> dict[str, Any]:
    return {"ulm": patients(1, 400), "bonn": patients(2, 300), "kiel": patients(3, 61)}


def learn(tables: Mapping[str, Any], minimum: int = 1, wire: str = "exact", **settings: Any) -> Result:
    with hanse.simulate(tables, wire=wire, policy={"minimum_cell": minimum}) as federation:
        return federation.experiment(**{**RUN, **settings}).run(progress=False)


def held_out(result: Result, tables: Mapping[str, Any]) -> Table:
    """The rows of all sites that were held out."""
    parts = []
    prepared, config = preparation.unpack(result.record), result.config
    kept, kinds = result.alignment["features"], result.alignment["kinds"]
    for node, rows in tables.items():
        table = Table.of(rows)
        own = Site(node, features.apply(table, kept, kinds, besides=config.besides), config.to_json())
        found = preparation.targets(own, prepared)
        parts.append(table.take(found.at(found.test)))
    return Table({name: type(parts[0][name]).joined([part[name] for part in parts]) for name in parts[0].names})


def test_why_learning_ended_is_said_though_it_is_measured_after() -> None:
    """It was the number of rounds: of an exact fit not that it converged, of trees not which round was the best."""
    unmeasured = {name: value for name, value in RUN.items() if name not in ("measures", "group_by", "rounds")}
    plain = hanse.simulate(sites()).experiment(**unmeasured, rounds=20).run(progress=False)
    measured = learn(sites(), rounds=20)
    assert plain.reason.startswith("converged after ")
    assert measured.reason == plain.reason


def test_what_is_told_of_no_group_is_named() -> None:
    few = {name: {k: v[:120] for k, v in rows.items()} for name, rows in sites().items()}
    told = learn(few, minimum=10).groups
    silent = set(GROUPS) - {row["column"] for row in told}
    assert silent
    assert f"no site tells a group of {', '.join(sorted(silent))}" in told.notes[-1]
    assert "minimum_cell" in learn(sites(), minimum=10).groups.notes[-1]


def test_they_are_those_of_the_pooled_held_out_rows() -> None:
    result = learn(sites())
    pooled, told = held_out(result, sites()), {(row["column"], row["group"]): row for row in result.groups}
    age, sex, smokes = pooled["age"].values, pooled["sex"].labels(), pooled["smokes"].values
    masks = {
        ("age", "below 50"): age < 50,
        ("age", "50 to below 65"): (age >= 50) & (age < 65),
        ("age", "65 and more"): age >= 65,
        ("sex", "f"): np.array([s == "f" for s in sex]),
        ("sex", "m"): np.array([s == "m" for s in sex]),
        ("smokes", "false"): smokes == 0,
        ("smokes", "true"): smokes == 1,
    }
    assert list(told) == list(masks)
    predictor = result.predictor()
    y = np.array(pooled["disease"].labels())
    for group, mask in masks.items():
        part, row = pooled.take(np.flatnonzero(mask)), told[group]
        p = predictor.predict_proba(part)[:, 1]
        assert (row["rows"], row["sites"]) == (mask.sum(), 3)
        assert row["loss"] == pytest.approx(log_loss(y[mask], p, labels=["no", "yes"]), rel=1e-9)
        assert row["accuracy"] == pytest.approx(accuracy_score(y[mask], predictor.predict(part)))
        assert row["auc"] == pytest.approx(roc_auc_score(y[mask], p), abs=2e-3)  # to the width of a bin
        assert abs(row["auc"] - roc_auc_score(y[mask], p)) <= row["auc_error"] + 1e-12
    assert repr(result.groups).split()[:7] == ["column", "group", "rows", "sites", "accuracy", "auc", "loss"]
    assert "Metrics by group" in result._repr_html_()


def test_the_model_is_the_one_without_them() -> None:
    plain = _without(sites())
    measured = learn(sites()).record
    assert "measured" not in plain.data
    assert digest(Record({}, plain.arrays)) == digest(Record({}, measured.arrays))


def _without(tables: Mapping[str, Any]) -> Record:
    with hanse.simulate(tables) as federation:
        given = {k: v for k, v in RUN.items() if k not in ("measures", "group_by")}
        return federation.experiment(**given).run(progress=False).record


def test_secure_sums_give_the_same() -> None:
    plain, secure = learn(sites()), learn(sites(), gathering="secure", gathering_fallback="")
    for one, other in zip(plain.groups, secure.groups, strict=True):
        assert one["group"] == other["group"]
        assert (one["rows"], one["sites"], one["accuracy"]) == (other["rows"], other["sites"], other["accuracy"])
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)


@pytest.mark.parametrize("minimum", [5, 10])
def test_no_site_tells_of_few_rows_of_a_group_or_of_its_rest(minimum: int) -> None:
    """Of each column: the groups that are told, and what is left of the site, have none or enough of each class."""
    told = 0
    for seed in range(12):
        tables = {"ulm": patients(seed, 60 + 40 * seed), "bonn": patients(100 + seed, 300)}
        result = learn(tables, 1, "references")
        for node, rows in tables.items():
            groups, left = _sent(result, node, rows, minimum)
            told += len(groups)
            for counts in [*groups.values(), *left.values()]:
                assert all(n == 0 or n >= minimum for n in counts), (seed, node, groups, left)
            assert all(sum(counts) >= minimum for counts in groups.values())
    assert told > 50


def _sent(
    result: Result, node: str, rows: Any, minimum: int
) -> tuple[dict[tuple[str, str], list[int]], dict[str, list[int]]]:
    """Rows by class of each group that a site tells, as its contribution has them, and of each column what is left."""
    config, learned = result.config, Record({**result.record.data}, result.record.arrays)
    kept, kinds = result.alignment["features"], result.alignment["kinds"]
    table = features.apply(Table.of(rows), kept, kinds, besides=config.besides)
    site = Site(node, table, config.to_json(), owner={"minimum_cell": minimum}, beside=Table.of(rows))
    say, measure = find("measures", "groups").MEASURE.inner.inquiries
    labels: Mapping[str, Json] = say.answer(site, learned, Record()).record.data["labels"]
    groups = [(name, label) for name, those in labels.items() for label in those]
    asked = [*map(list, groups), ["sex", "m"], ["sex", "f"], ["age", "65 and more"], ["disease", "yes"]]
    sums = measure.answer(site, learned, Record({"groups": asked})).sums
    by_class = np.stack([sums["negatives"].sum((1, 2)), sums["positives"].sum((1, 2))], 1).astype(int)
    assert not by_class[len(groups) :][[tuple(g) not in groups for g in asked[len(groups) :]]].any()
    found = {group: by_class[i].tolist() for i, group in enumerate(groups)}
    own = preparation.targets(site, preparation.unpack(learned))
    whole = np.bincount(own.y[own.test], minlength=2)
    left = {}
    for name in {column for column, _ in groups}:
        told = [np.array(found[g]) for g in groups if g[0] == name]
        left[name] = (whole - np.sum(told, axis=0)).tolist()
    return found, left


def test_a_group_that_no_site_may_tell_is_not_there() -> None:
    tables = sites()
    for rows in tables.values():
        rows["sex"] = ["f"] * (len(rows["sex"]) - 3) + ["d"] * 3
    found = learn(tables, 10).groups
    assert "d" not in [row["group"] for row in found if row["column"] == "sex"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"group_by": {}}, "group_by names no column"),
        ({"group_by": {"sax": []}}, "'sax', which is a column of no dataset"),
        ({"group_by": {"age": []}}, "'age' is numeric and needs its cuts"),
        ({"group_by": {"sex": [1]}}, "'sex' is categorical and takes none"),
        ({"group_by": {"age": [65, 50]}}, "expected an object of column to a list of ascending numbers"),
        ({"group_by": {"disease": []}}, "names the target 'disease'"),
        ({"test_fraction": 0.0}, "test_fraction is 0"),
        ({"measures": ["groups", "groups"]}, "expected a list of distinct names"),
        ({"measures": ["group"]}, "there is no 'group' in measures"),
        ({"measures": []}, "group_by is a setting of groups, which this run does not use"),
        (
            {"federated_strategy": "ditto", "model": "sgd_classifier"},
            "ditto leaves each site a model of its own, and there is no one to measure",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_at_the_proposal(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said), hanse.simulate(sites()) as federation:
        federation.experiment(**{**RUN, **settings}).propose()


def test_a_private_run_measures_nothing_exactly() -> None:
    given = {"privacy": {"mode": "local", "epsilon": 1.0}, "model_name": "sgd_classifier", "measures": ["groups"]}
    with pytest.raises(ConfigError, match="not differentially private"):
        algorithms.settled(algorithms.RunConfig.parse({**given, "group_by": GROUPS, "target_column": "disease"}))


def test_numbers_have_their_metrics_by_group() -> None:
    tables = sites()
    found = learn(tables, model="linear_regression", target="pressure", features=["age"], group_by={"sex": []})
    pooled = held_out(found, tables)
    for row in found.groups:
        part = pooled.take(np.flatnonzero([s == row["group"] for s in pooled["sex"].labels()]))
        off = part["pressure"].values - found.predictor().predict(part)
        assert row["rmse"] == pytest.approx(np.sqrt(np.square(off).mean()))


def test_weighted_rows_count_by_their_weight_in_groups_too() -> None:
    """As in the metrics of all rows."""
    tables = {name: {**rows, "w": rng_weights(name, len(rows["age"]))} for name, rows in sites().items()}
    run = {"model": "xgboost", "weight_column": "w", "group_by": {"sex": []}, "measures": ["groups", "cross_site"]}
    result = learn(tables, **run)
    pooled = held_out(result, tables)
    weight, sex = pooled["w"].values, pooled["sex"].labels()
    right = np.array(result.predictor().predict(pooled)) == np.array(pooled["disease"].labels())
    assert result.groups
    for row in result.groups:
        of = np.array([label == row["group"] for label in sex])
        assert row["rows"] == of.sum()
        assert row["accuracy"] == pytest.approx(np.average(right[of], weights=weight[of]), rel=1e-6)
        assert row["accuracy"] != pytest.approx(right[of].mean(), abs=1e-4)
    cells = result.record.data["measured"]["cross_site"]["cells"]
    for name, table in tables.items():
        rows = held_out(result, {name: table})
        right = np.array(result.predictor().predict(rows)) == np.array(rows["disease"].labels())
        (cell,) = [c for c in cells if (c["model"], c["site"]) == ("all sites", name)]
        assert cell["rows"] == rows.rows
        assert cell["accuracy"] == pytest.approx(np.average(right, weights=rows["w"].values), rel=1e-6)
        assert cell["accuracy"] != pytest.approx(right.mean(), abs=1e-4)


def rng_weights(name: str, rows: int) -> Any:
    return np.random.default_rng(len(name)).uniform(0.1, 9, rows)


def test_cuts_that_lie_close_together_make_groups_of_their_own() -> None:
    """To six digits these are one."""
    rows = np.random.default_rng(0).permutation(np.repeat([20240101.0, 20240110.0, 20240118.0, 20240125.0], 50))
    table = {"day": rows, "y": np.where(np.arange(200) % 2, "a", "b").tolist(), "x": np.arange(200.0)}
    cuts = {"day": [20240105, 20240115, 20240120]}
    result = learn({"ulm": table, "bonn": table}, target="y", features=["x"], group_by=cuts)
    assert [row["group"] for row in result.groups] == [
        "below 20240105",
        "20240105 to below 20240115",
        "20240115 to below 20240120",
        "20240120 and more",
    ]
