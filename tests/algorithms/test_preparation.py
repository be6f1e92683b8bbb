"""Preparation equals the same preparation of the pooled rows, for every split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drive import Drive, prepare, same, shares, toy
from hypothesis import given
from hypothesis import strategies as st

from hanse.algorithms._preparation import ALGORITHM
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError, WireError
from hanse.kinds import Site
from hanse.learning import rows as preparation
from hanse.messages import Record
from hanse.table import Column, ColumnKind, Table
from tests.examples import examples


def hard(n: int, seed: int = 0) -> Table:
    """All kinds of columns, gaps, an empty column, a constant one, large offsets."""
    rng = np.random.default_rng(seed)
    large = 1e9 + rng.normal(0, 1e-2, n)
    gaps = rng.normal(0, 1, n)
    gaps[::3] = np.nan
    infinite = rng.normal(0, 1, n)
    infinite[::7] = np.inf
    boolean = (rng.random(n) < 0.3).astype(float)
    boolean[::5] = np.nan
    return Table(
        {
            "large": Column.numeric(large),
            "gaps": Column.numeric(gaps),
            "none": Column.numeric(np.full(n, np.nan)),
            "constant": Column.numeric(np.full(n, 0.1)),
            "infinite": Column.numeric(infinite),
            "boolean": Column(ColumnKind.BOOLEAN, boolean),
            "date": Column(ColumnKind.DATE, rng.integers(0, 2e4, n) * 1.0),
            "text": Column.categorical([None if i % 11 == 0 else "abc"[i % 3] for i in range(n)]),
            "y": Column.categorical([None if i % 13 == 0 else "np"[int(i % 4 == 0)] for i in range(n)]),
        }
    )


def central(table: Table, test_fraction: float = 0.0) -> np.ndarray[Any, Any]:
    """The design matrix of pooled rows, written down independently."""
    table = table.take(np.flatnonzero(~table["y"].missing))
    parts = []
    for name, column in table.columns.items():
        if name == "y":
            continue
        if column.kind is ColumnKind.CATEGORICAL:
            parts += [[float(label == c) for label in column.labels()] for c in sorted(set(column.labels()) - {None})]
            continue
        values = np.where(np.isinf(column.values), np.nan, column.values)
        gone = np.isnan(values)
        mean = np.nanmean(values) if not gone.all() else 0.0
        std = np.nanstd(values) if not gone.all() else 0.0
        filled = np.where(gone, mean, values)
        if column.kind is not ColumnKind.BOOLEAN:
            filled = (filled - mean) / (std if std > 1e-12 * max(1, abs(mean)) else 1.0)
        parts.append(filled)
        if gone.any():
            parts.append(gone.astype(float))
    return np.column_stack(parts)


@pytest.mark.parametrize("sizes", [(200,), (100, 100), (1, 199), (0, 150, 50), (13, 1, 0, 86, 100)])
def test_the_design_matrix_is_that_of_the_pooled_rows(sizes: tuple[int, ...]) -> None:
    table = hard(200)
    prepared = prepare(shares(table, *sizes), test_fraction=0.0)
    kept, _ = preparation.target(table, prepared)
    X = preparation.design(table.take(kept), prepared)
    assert X.shape == (len(kept), len(prepared.data["task"]["features"]))
    large = prepared.data["task"]["features"].index("large")
    expected = central(table)
    np.testing.assert_allclose(np.delete(X, large, 1), np.delete(expected, large, 1), atol=1e-10)
    # 1e9 + a hundredth: the numbers themselves have only 1e-7 / 1e-2 of precision left
    np.testing.assert_allclose(X[:, large], expected[:, large], atol=1e-4)


@given(cuts=st.lists(st.integers(0, 120), min_size=0, max_size=4))
@examples(10)
def test_every_split_gives_the_same_preparation(cuts: list[int]) -> None:
    table = hard(120)
    edges = [0, *sorted(cuts), 120]
    split = prepare(shares(table, *np.diff(edges)), test_fraction=0.0)
    whole = prepare(shares(table, 120), test_fraction=0.0)
    assert split.data == whole.data
    assert split.data["class_counts"] == [83, 27]
    assert split.data["dropped"] == 10
    np.testing.assert_allclose(split.arrays["mean"], whole.arrays["mean"], rtol=1e-12)
    np.testing.assert_allclose(np.delete(split.arrays["scale"], 0), np.delete(whole.arrays["scale"], 0), rtol=1e-10)


@given(
    answering=st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=3, max_size=9),
    offset=st.sampled_from([0.0, 1.0, 1e9]),
    fraction=st.sampled_from([0.0, 0.25]),
)
@examples(25)
def test_whoever_answers_which_exchange_all_numbers_are_those_of_the_same_rows(
    answering: list[set[int]], offset: float, fraction: float
) -> None:
    """Never a mean of some sites with the scale or the counts of others."""
    whole = hard(160)
    shifted = whole["gaps"].values + offset * np.repeat([0.0, 1.0, 2.0, 3.0], 40)
    whole = Table({**whole.columns, "gaps": Column.numeric(shifted), "large": whole["gaps"]})
    tables = shares(whole, 40, 40, 40, 40)
    here = {f"site-{i}" for i in set.intersection(*answering)}

    def there(node: str, step: int) -> bool:
        return int(node[-1]) in answering[step] if step < len(answering) else node in here

    if not here:
        return
    drive = Drive(tables, there=there, model_name="sgd_classifier", num_rounds=1, test_fraction=fraction)
    drive.algorithm.stages = drive.algorithm.stages[:1]  # type: ignore[attr-defined]
    prepared = drive.run()
    last = sorted(drive.contributions[-1])
    counted = Drive({n: tables[n] for n in last}, model_name="sgd_classifier", num_rounds=1, test_fraction=fraction)
    counted.algorithm.stages = counted.algorithm.stages[:1]  # type: ignore[attr-defined]
    alone = counted.run()
    for name in ("rows", "held_out", "dropped", "class_counts"):
        assert prepared.data[name] == alone.data[name], name
    np.testing.assert_allclose(prepared.arrays["mean"], alone.arrays["mean"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(prepared.arrays["scale"], alone.arrays["scale"], rtol=1e-8)


def test_means_are_those_of_training_rows_only() -> None:
    drive = Drive(shares(toy(200), 120, 80), model_name="sgd_classifier", num_rounds=1, test_fraction=0.3)
    prepared = preparation.unpack(drive.run())
    values = []
    for site in drive.sites.values():
        kept, y = preparation.target(site.table, prepared)
        train, test = preparation.split(y, site.rng("split"), 0.3)
        assert set(train).isdisjoint(test)
        assert len(train) + len(test) == len(y)
        values.append(site.table["a"].values[kept[train]])
    assert prepared.arrays["mean"][0] == pytest.approx(np.concatenate(values).mean(), rel=1e-12)
    assert prepared.data["rows"] + prepared.data["held_out"] == 200


def test_raw_keeps_nan_and_every_value_as_it_is() -> None:
    table = hard(60)
    drive = Drive(shares(table, 30, 30), model_name="xgboost_bagging", num_rounds=1)
    prepared = preparation.unpack(drive.run())
    assert drive.labels.count("prepare") == 3  # the last one compares units
    assert (prepared.arrays["scale"] == 1).all()
    X = preparation.design(table, prepared)
    names = prepared.data["task"]["features"]
    assert not any("is missing" in n for n in names)
    assert np.isnan(X[:, names.index("gaps")]).sum() == 20
    assert np.isnan(X[0, names.index("text=a")])
    unknown = Table({**table.columns, "text": Column.categorical(["zzz"] * 60)})
    assert (preparation.design(unknown, prepared)[:, names.index("text=a")] == 0).all()
    standardised = prepare(shares(table, 30, 30), model_name="sgd_classifier")
    assert (preparation.design(unknown, standardised)[:, -3:] == 0).all()
    coded = Record({**prepared.data, "needs": "coded"}, prepared.arrays)
    at = [column["name"] for column in coded.data["columns"]].index("text")
    codes = preparation.design(table, coded)[:, at]
    categories, text = coded.data["columns"][at]["categories"], table["text"]
    assert np.isnan(codes[text.values < 0]).all()
    known = text.values >= 0
    assert [categories[int(c)] for c in codes[known]] == [text.categories[v] for v in text.values[known]]
    assert np.isnan(preparation.design(unknown, coded)[:, at]).all()


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        ([0, 1, 1, 0], "binary", ["0", "1"]),
        ([True, False, True, False], "binary", ["0", "1"]),
        (["b", "a", "c", "a"], "multiclass", ["a", "b", "c"]),
        ([2, 10, 1, 1], "multiclass", ["1", "2", "10"]),
        (["2", "10", "1", None], "multiclass", ["1", "2", "10"]),
        ([0.5, 1.5, 0.5, 1.5], "regression", []),
        (list(range(40)), "regression", []),
    ],
)
def test_the_task_follows_from_the_labels(values: list[Any], kind: str, classes: list[str]) -> None:
    n = len(values)
    table = Table.of({"x": np.arange(n, dtype=float), "y": values})
    prepared = prepare(
        shares(table, n // 2, n - n // 2),
        test_fraction=0.0,
        model_name="mlp_regressor" if kind == "regression" else "sgd_classifier",
    )
    assert (prepared.data["task"]["kind"], prepared.data["task"]["classes"]) == (kind, classes)


@pytest.mark.parametrize(
    ("values", "wanted", "says"),
    [
        (["a", "b", "c", "a"], "binary", "3 classes.*use multiclass"),
        (["a", "b", "a", "a"], "multiclass", "2 classes.*use binary"),
        (["a", "b", "a", "a"], "regression", "is text"),
        (["a", "a", "a", "a"], "auto", "1 classes"),
        ([None, None, None, None], "auto", "no site has a row"),
    ],
)
def test_a_task_type_that_contradicts_the_labels_is_refused(values: list[Any], wanted: str, says: str) -> None:
    table = Table.of({"x": [1.0, 2.0, 3.0, 4.0], "y": values})
    model = "mlp_regressor" if wanted == "regression" else "sgd_classifier"
    with pytest.raises(ConfigError, match=says):
        prepare(shares(table, 2, 2), task_type=wanted, model_name=model)


def test_regression_never_sends_labels() -> None:
    table = Table.of({"x": np.arange(6.0), "y": [1, 2, 3, 4, 5, 6]})
    drive = Drive(shares(table, 3, 3), model_name="linear_regression", task_type="regression", num_rounds=1)
    drive.run()
    assert drive.contributions[0]["site-0"].data["data"]["target"]["labels"] == []


def test_what_is_rare_does_not_leave_its_site() -> None:
    table = Table.of({"x": np.arange(12.0), "t": ["a"] * 5 + ["rare"] + ["b"] * 6, "y": ["n", "p"] * 6})
    config = {"site-0": {"minimum_count": 3}, "site-1": {"minimum_count": 3}}
    drive = Drive(shares(table, 6, 6), model_name="sgd_classifier", num_rounds=1, owners=config)
    result = drive.run()
    assert result.data["task"]["features"] == ["x", "t=a", "t=b"]
    assert "rare" not in str([r.data for r in drive.contributions[0].values()])
    labels = Table.of({"x": np.arange(12.0), "y": ["n", "p"] * 5 + ["n", "secret"]})
    drive = Drive(shares(labels, 6, 6), model_name="sgd_classifier", num_rounds=1, owners=config)
    result = drive.run()
    assert result.data["task"]["classes"] == ["n", "p"]
    assert result.data["prepared"]["dropped"] == 0  # one row: kept back


def test_a_column_of_which_no_label_may_be_told_is_named() -> None:
    """A column that numbers patients vanished from a regression table without a word."""
    table = Table.of({"x": np.arange(12.0), "id": [f"p{i}" for i in range(12)], "y": ["n", "p"] * 6})
    owners = {"site-0": {"minimum_count": 3}, "site-1": {"minimum_count": 3}}
    result = prepare(shares(table, 6, 6), owners=owners)
    (said,) = result.data["warnings"]
    assert said.startswith("nothing is learned from 'id': no site may tell a label of it")


@pytest.mark.parametrize("minimum", [1, 5])
def test_rows_of_which_a_site_may_not_tell_what_they_hold_are_named(minimum: int) -> None:
    """A fit that is exact took what was missing for the mean, and rare labels for none, and said that it equals that of
    the pooled rows."""
    rng = np.random.default_rng(0)
    rows: dict[str, Any] = {"x": rng.normal(size=120), "z": rng.normal(size=120)}
    rows |= {"t": rng.choice(["a", "b"], 120), "y": rng.choice(["n", "p"], 120)}
    rows["x"][[1, 2, 41, 42]] = np.nan
    rows["t"] = ["rare" if i in (3, 43) else label for i, label in enumerate(rows["t"])]
    rows["y"] = ["maybe" if i in (4, 5) else label for i, label in enumerate(rows["y"])]
    owners = {f"site-{i}": {"minimum_count": minimum} for i in range(3)}
    tables = shares(Table.of(rows), 40, 40, 40)
    said = prepare(tables, model_name="logistic_regression", test_fraction=0.0, owners=owners).data.get("warnings", [])
    if minimum == 1:
        assert not [one for one in said if "minimum_count" in one]
        return
    untold = "has labels that no site tells (each stands in fewer rows than owners ask for, minimum_count)"
    assert said == [
        f"'t' at site-0, site-1 {untold}: rows with them count as rows of none of the labels",
        f"'y' at site-0 {untold}: nothing is learned from rows with them",
        "'x' is missing in some rows, at no site in as many as owners ask for (minimum_count): there it counts as its "
        "mean",
    ]
    trees = prepare(tables, model_name="random_forest", test_fraction=0.0, owners=owners).data["warnings"]
    assert trees == said[:2]  # they see what is missing


def test_a_feature_that_sites_code_by_other_words_is_named() -> None:
    """The pooled fit of it is exact and means nothing: each coding is a category of its own."""
    numbers = {"x": np.arange(40.0), "y": ["n", "p"] * 20}
    ways = {"a": ["f", "m", "m", "f"], "b": ["m", "f", "f", "m"], "c": ["female", "male", "male", "female"]}
    tables = {site: Table.of({**numbers, "sex": own * 10}) for site, own in ways.items()}
    (said,) = prepare(tables).data["warnings"]
    assert said.startswith("'sex' is coded in 2 ways: f, m at a, b; female, male at c; recode it at one side")


def test_class_counts_below_the_minimum_stay_at_their_site() -> None:
    """Though another site names the class; and no total gives them away."""
    y = ["n"] * 40 + ["p"] * 2 + ["n"] * 20 + ["p"] * 20
    table = Table.of({"x": np.arange(82.0), "y": y})
    tables = {"few": table.take(np.arange(42)), "many": table.take(np.arange(42, 82))}
    owner = {"few": {"minimum_count": 5}, "many": {"minimum_count": 5}}
    drive = Drive(tables, model_name="xgboost_bagging", num_rounds=1, test_fraction=0.0, owners=owner)
    result = drive.run()
    assert drive.contributions[1]["few"].arrays["a.classes"].tolist() == [0, 0]
    assert drive.contributions[1]["many"].arrays["a.classes"].tolist() == [20, 20]
    assert result.data["prepared"]["class_counts"] == [20, 20]
    assert result.data["base"] == 0.5
    for body in drive.contributions[1].values():
        assert not any(0 < v < 5 for v in body.arrays["a.classes"])


@pytest.mark.parametrize("model", ["xgboost", "random_forest", "logistic_regression"])
def test_it_learns_though_no_site_tells_its_class_counts(model: str) -> None:
    table = Table.of({"x": [*np.arange(60.0), *np.arange(30.0, 90.0)], "y": ["n"] * 60 + ["p"] * 60})
    table = table.take(np.arange(120).reshape(2, 60).T.reshape(-1))
    owner = {f"site-{i}": {"minimum_count": 18} for i in range(3)}  # 20 of each class, 15 of them to train
    drive = Drive(shares(table, 40, 40, 40), model_name=model, num_rounds=3, owners=owner)
    result = drive.run()
    assert result.data["prepared"]["class_counts"] == [0, 0]
    assert result.data["history"][-1]["loss"] < 1


def test_a_site_with_fewer_usable_rows_than_its_minimum_refuses() -> None:
    """A coordinator that names one class after the other gets no count of them."""
    table = Table.of({"x": np.arange(60.0), "y": ["n", "p"] * 28 + ["rare"] * 2 + [None] * 2})
    config = RunConfig.parse({"model_name": "sgd_classifier", "target_column": "y", "sample_id_column": None})
    site = Site("a", table, config.to_json(), owner={"minimum_count": 5})
    drive = Drive({"a": table}, model_name="sgd_classifier", num_rounds=1)
    drive.run()
    ask = drive.algorithm.ask(drive.states[0])
    asked = ask.record.data["of"]
    one = {**asked, "agreed": {**asked["agreed"], "task": {**asked["agreed"]["task"], "classes": ["rare", "other"]}}}
    with pytest.raises(DataError, match="fewer rows with a usable target"):
        ALGORITHM.answer(site, Record(one, ask.record.arrays))
    with pytest.raises(WireError, match="columns.0.kind of Question is text"):
        columns = [{**c, "kind": "words"} for c in asked["agreed"]["columns"]]
        ALGORITHM.answer(site, Record({**asked, "agreed": {**asked["agreed"], "columns": columns}}, ask.record.arrays))


def test_split_is_stratified_stable_and_leaves_a_row_to_train() -> None:
    y = np.array([0] * 90 + [1] * 10)
    train, test = preparation.split(y, Site("a", Table(), {"seed": 3}).rng("split"), 0.2)
    again = preparation.split(y, Site("a", Table(), {"seed": 3}).rng("split"), 0.2)
    other = preparation.split(y, Site("b", Table(), {"seed": 3}).rng("split"), 0.2)
    assert (np.array_equal(train, again[0]), np.array_equal(train, other[0])) == (True, False)
    assert (len(test), int(y[test].sum())) == (20, 2)
    for n in range(4):
        train, test = preparation.split(np.zeros(n, int), np.random.default_rng(0), 0.9)
        assert len(train) + len(test) == n
        assert len(train) > 0 or n == 0
    assert len(preparation.split(np.arange(8.0), np.random.default_rng(0), 0.0)[1]) == 0


def test_reports_that_are_garbage_or_odd_are_left_out() -> None:
    def spoil(node: str, label: str, body: Record) -> Record:
        if label != "prepare" or node in ("site-1", "site-3") or "target" not in body.data["data"]:
            return body
        data = dict(body.data["data"])
        data["columns"] = data["columns"][1:] if node == "site-0" else [{"name": 3}]
        return Record({**body.data, "data": data}, body.arrays)

    drive = Drive(shares(toy(120), 30, 30, 30, 30), spoil=spoil, model_name="sgd_classifier", num_rounds=1)
    drive.run()
    assert set(drive.failures[0]) == {"site-0", "site-2"}
    assert "not usable" in drive.failures[0]["site-2"]
    assert "other names" in drive.failures[0]["site-0"]


def test_images_pass_through() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 5, 3), dtype=np.uint8)
    table = Table.of({"scan": pixels, "y": ["a", "b"] * 4})
    prepared = prepare(shares(table, 4, 4), model_name="torch_module")
    X = preparation.design(table, prepared)
    assert (X.dtype, X.shape, float(X.max())) == (np.float32, (8, 4, 5, 3), float(np.float32(pixels.max() / 255)))
    with pytest.raises(ConfigError, match="mixed"):
        prepare(shares(Table({**table.columns, "x": Column.numeric(np.arange(8.0))}), 4, 4), model_name="torch_module")
    smaller = Table.of({"scan": pixels[:, :2], "y": ["a", "b"] * 4})
    with pytest.raises(DataError, match="shape"):
        preparation.design(smaller, prepared)


def test_a_wrong_column_says_so() -> None:
    table = toy(40)
    prepared = prepare(shares(table, 20, 20))
    with pytest.raises(DataError, match="'a' is categorical here"):
        preparation.design(Table({**table.columns, "a": Column.categorical(["x"] * 40)}), prepared)
    with pytest.raises(DataError, match="no column 'b'"):
        preparation.design(table.drop(["b"]), prepared)
    many = Table.of({"id": [f"p{i}" for i in range(1100)], "y": ["a", "b"] * 550})
    with pytest.raises(ConfigError, match="identifier"):
        prepare(shares(many, 1100))


def test_order_of_arrival_does_not_matter() -> None:
    tables = shares(hard(100), 20, 50, 30)
    drives = [Drive(tables, model_name="sgd_classifier", num_rounds=1) for _ in range(2)]
    assert same(drives[0].run(), drives[1].run(reverse=True))


def test_numbers_beyond_float32_are_missing_to_trees_and_stay_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the rows that are looked at together they are among."""
    monkeypatch.setattr(preparation, "_ROWS", 2)
    x = np.array([1.0, 2.0, 1e39, np.nan, -np.inf, 3.0, -1e39])
    table = Table.of({"x": x.copy(), "z": np.arange(7.0), "y": np.arange(7) % 2})
    prepared = prepare({"a": table}, model_name="xgboost")
    found = np.concatenate(list(preparation.design_columns(table, prepared)), axis=1)
    np.testing.assert_array_equal(found[:, 0], [1, 2, np.nan, np.nan, np.nan, 3, np.nan])
    np.testing.assert_array_equal(found[:, 1], np.arange(7))
    np.testing.assert_array_equal(table["x"].values, x)
