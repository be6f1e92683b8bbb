"""Persons with many rows: minimum counts, clipping and noise count persons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse import noised, subjects
from hanse.algorithms.noisy_gradients import clipped_gradient
from hanse.answers import Answerer, ReadTask
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.convex import Convex, logistic
from hanse.errors import DataError
from hanse.messages import Json, Record
from hanse.table import Column, ColumnKind, Table
from tests.examples import examples

ITEMS: list[Json] = [
    {"stat": "count", "column": ""},
    {"stat": "count", "column": "x"},
    {"stat": "sum", "column": "x", "range": [-2, 5]},
    {"stat": "mean", "column": "x", "range": [-2, 5]},
    {"stat": "histogram", "column": "x", "range": [-2, 5], "bins": 7},
    {"stat": "labels", "column": "g", "values": ["a", "b"]},
]
VALUE = st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")))


def seen(rows: list[Any], which: list[Json]) -> np.ndarray:
    who, x, g = ([row[k] for row in rows] for k in range(3))
    question, columns = noised.entries(which), {"x": Column.numeric(x), "g": Column.categorical(g)}
    of = subjects.of_batches(lambda: [Table({"who": Column.categorical(who)})], "who")
    return noised.vector(question, [e.observe(columns, len(rows), of) for e in question])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("pqrs"), VALUE, st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=14)
)
def test_one_person_with_all_rows_changes_an_answer_by_at_most_what_a_row_may(rows: list[Any]) -> None:
    rest = [row for row in rows if row[0] != rows[0][0]]
    for which in (ITEMS, *([entry] for entry in ITEMS)):
        one = seen(rows, which)
        other = seen(rest, which) if rest else np.zeros_like(one)
        assert np.linalg.norm(one - other) <= noised.sensitivity(noised.entries(which)) * (1 + 1e-12)


def test_counts_are_of_persons() -> None:
    rows = [("p", 1.0, "a")] * 9 + [("q", 2.0, "b")] + [("r", 3.0, "a"), ("r", 4.0, "b")]
    counts, given_, _, mean, *_ = np.split(seen(rows, ITEMS) / 1.0, [1, 2, 3, 5])
    assert counts[0] == pytest.approx(3)
    assert given_[0] == pytest.approx(3)
    assert mean[0] * 2**0.5 == pytest.approx(3)  # v / Δ
    assert seen(rows, ITEMS)[-3:].tolist() == pytest.approx([1.5, 1.5, 0])  # labels a, b and others


@examples(20)
@given(st.integers(0, 10**6), st.floats(1e-3, 10), st.integers(1, 20))
def test_one_person_changes_a_clipped_gradient_by_at_most_the_bound(seed: int, bound: float, own: int) -> None:
    rng, convex = np.random.default_rng(seed), Convex(logistic, 1, 4)
    X, y, theta = rng.normal(size=(30, 4)) * 10, rng.integers(0, 2, 30), rng.normal(size=(1, 5)) * 10
    who = Column.numeric([0.0] * own + [float(k) for k in rng.integers(1, 6, 30 - own)])
    of = subjects.of_batches(lambda: [Table({"who": who})], "who")
    with_them = clipped_gradient(convex, theta, X, y, bound, of)
    without = clipped_gradient(convex, theta, X[own:], y[own:], bound, of[own:])
    assert np.linalg.norm(with_them - without) <= bound * (1 + 1e-9)
    assert np.linalg.norm(with_them) > 0  # so the bound is not met by saying nothing


@settings(deadline=None)
@given(st.lists(st.sampled_from("pqrst"), min_size=1, max_size=40), st.integers(1, 39))
def test_shares_of_each_person_add_up_to_one_however_rows_come_in_batches(who: list[str], cut: int) -> None:
    def batches() -> list[Table]:
        parts = [part for part in (who[:cut], who[cut:]) if part]
        return [Table({"who": Column.categorical(part)}) for part in parts]

    of = subjects.of_batches(batches, "who")
    for person in set(who):
        assert sum(share for share, name in zip(of, who, strict=True) if name == person) == pytest.approx(1)


def test_rows_of_nobody_and_pictures_are_refused() -> None:
    for column in (Column.categorical(["a", None]), Column.numeric([1.0, float("nan")])):
        with pytest.raises(DataError, match="1 rows have no value in the subject column"):
            subjects.tally([column])
    with pytest.raises(DataError, match="images name no person"):
        subjects.tally([Column(ColumnKind.IMAGE, np.zeros((1, 2, 2, 1), np.uint8))])


def asked(strategy: str, **config: Any) -> Any:
    """The site of a node whose persons have up to six rows."""
    table = Table({"x": Column.numeric(range(12)), "who": Column.categorical(list("aaaaaabbbccd"))})
    given_ = {"federated_strategy": strategy, "target_column": "", "num_rounds": 1, "features": ["x"], **config}
    bundle = freeze(
        RunConfig.parse(given_),
        {"features": ["x"], "kinds": {"x": "numeric"}},
        {"alpha": {"name": "v", "version": "1", "most_rows": 12}},
    )
    owner: dict[str, Json] = {"minimum_cell": 10, "minimum_count": 5, "secure_aggregation_nodes": 3}
    answerer = Answerer("alpha", lambda bundle: table, owner, subject=lambda bundle: ("who", 6))
    task = {"run": "r", "step": 0, "exchange": 0, "op": "answer", "combine": "sum", "ask": {}}
    return answerer.asked(ReadTask.of(Record(task)), bundle.content).site


def test_minimum_counts_are_of_so_many_rows_that_they_are_of_as_many_persons() -> None:
    site = asked("statistics", model_options={"items": [["mean", ["x"], {}, []]]})
    assert dict(site.owner) == {"minimum_cell": 60, "minimum_count": 30, "secure_aggregation_nodes": 3}
    assert site.shares is None  # nothing is noised


def test_a_noised_run_gets_what_each_row_counts_for() -> None:
    site = asked(
        "noisy_statistics", privacy={"epsilon": 1.0}, model_options={"items": ITEMS[:1]}, sample_id_column=None
    )
    assert site.shares.tolist() == pytest.approx([1 / 6] * 6 + [1 / 3] * 3 + [1 / 2] * 2 + [1])
