"""Strategies that hold against sites that lie, attacked: three liars of fifteen sites, by seven kinds of lie."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from drive import shares, toy
from scipy.stats import norm
from test_strategies import driven, flat

import hanse
from hanse.errors import ConfigError, Unusable
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Combine
from hanse.messages import Buffered, Layout, Memory, Record
from hanse.prediction import Predictor
from hanse.registry import find
from hanse.table import Table
from tests.combinations import every_other

SITES, ROWS, ROUNDS = 15, 60, 4
LIARS = ("site-7", "site-8", "site-9")  # the last by name, so that they know what the others say
SIMPLE: dict[str, Any] = {
    "sign flips": lambda a: -5 * a,
    "scaling": lambda a: 1000 * a,
    "NaN": lambda a: np.full_like(a, np.nan),
    "infinity": lambda a: np.full_like(a, np.inf),
    "largest": lambda a: np.full_like(a, 1e300),
}
ATTACKS = [*SIMPLE, "label flips", "a little is enough"]
ROBUST: dict[str, dict[str, Any]] = {
    "median": {},
    "trimmed_mean": {"trimmed_share": 0.2},
    "norm_bound": {},
    "krum": {"byzantine_sites": 3},
    "multi-krum": {"byzantine_sites": 3, "krum_kept": 12},
    "bulyan": {"byzantine_sites": 3},
    "geometric_median": {},
}


class Lie:
    """What the liars send in place of their contribution."""

    def __init__(self, attack: str) -> None:
        self.attack, self.heard = attack, []  # type: tuple[str, list[Record]]

    def __call__(self, node: str, label: str, body: Record) -> Record:
        if label != "train":
            return body
        if node not in LIARS:
            self.heard = self.heard[-(SITES - len(LIARS)) + 1 :] + [body]
            return body
        lie = {n: self._of(n, a) if n[:2] == "a." else a for n, a in body.arrays.items()}
        return Record(body.data, lie)

    def _of(self, name: str, array: Any) -> Any:
        if self.attack in SIMPLE:
            return SIMPLE[self.attack](array)
        if self.attack == "label flips":
            return array  # it is in its rows
        # Baruch et al. 2019, algorithm 3: as far from the mean as enough honest sites are, so that the lie has company
        honest = np.stack([record.arrays[name] for record in self.heard])
        company = SITES // 2 + 1 - len(LIARS)
        z = norm.ppf((len(honest) - company) / len(honest))
        return honest.mean(axis=0) - z * honest.std(axis=0)


def sites(flipped: bool) -> dict[str, Table]:
    tables = shares(toy(SITES * ROWS, seed=3), *[ROWS] * SITES)
    for node in LIARS if flipped else ():
        columns = {name: tables[node][name] for name in tables[node].names if name != "y"}
        other = {"ill": "well", "well": "ill"}
        lied = Table.of({"y": [other[label] for label in tables[node]["y"].labels()]})
        tables[node] = Table({**columns, **lied.columns})
    return tables


@functools.cache
def loss(case: str, attack: str | None) -> float:
    """Of the model of a run, on rows that nobody has."""
    strategy = "krum" if case == "multi-krum" else case
    drive = driven(strategy, sites(attack == "label flips"), num_rounds=ROUNDS, **ROBUST.get(case, {}))
    drive.spoil = Lie(attack) if attack else None
    return float(Predictor(drive.run()).evaluate(toy(2000, seed=4))["loss"])


@pytest.mark.parametrize(("attack", "case"), every_other(ATTACKS, ROBUST))
def test_three_lying_sites_of_fifteen_change_little(case: str, attack: str) -> None:
    assert loss(case, attack) < 1.1 * loss("fedavg", None)


@pytest.mark.parametrize("attack", ["sign flips", "scaling", "label flips"])
def test_the_attacks_do_break_an_average(attack: str) -> None:
    assert loss("fedavg", attack) > 1.2 * loss("fedavg", None)


def test_a_weight_does_not_count_where_sites_count_once() -> None:
    def heavy(node: str, label: str, body: Record) -> Record:
        return Record({**body.data, "weight": 1e9} if label == "train" and node == "site-0" else body.data, body.arrays)

    tables = shares(toy(200), 50, 50, 50, 50)
    for strategy in ("median", "trimmed_mean"):
        plain, lied = driven(strategy, tables), driven(strategy, tables)
        lied.spoil = heavy
        np.testing.assert_array_equal(flat(plain.run(), False), flat(lied.run(), False))


def test_robust_strategies_read_spooled_contributions_block_by_block() -> None:
    """Of twenty changes of 8 MB no more than a block each is in memory at a time."""
    size, sites, whole = 1_000_000, 20, [0]

    class Counted(Memory):
        def read(self, offset: int, nbytes: int) -> memoryview:
            whole[0] += nbytes > 1 << 20
            return super().read(offset, nbytes)

    found = []
    for number in range(sites):
        record = Record({}, {"a.change.w": np.full(size, float(number))})
        memory = Counted(size * 8)
        memory.write(0, record.arrays["a.change.w"].view(np.uint8).data)
        found.append((Answer(f"n{number}", 1.0, {}, {}, 0), Record({}, Buffered(Layout.of(record.arrays), memory))))
    gathered = Contributions(tuple(found), {}, Combine.EACH)
    chosen = {"trimmed_share": 0.2, "byzantine_sites": 2, "krum_kept": 20}
    chosen |= {"weiszfeld_steps": 3, "weiszfeld_smoothing": 1e-6}
    for name in ("median", "trimmed_mean", "krum", "geometric_median"):
        whole[0] = 0
        inner: Any = find("algorithms", name).ALGORITHM.inner
        together = inner.aggregation.together(gathered, chosen)
        np.testing.assert_allclose(together["change.w"], 9.5, rtol=1e-6)
        assert whole[0] <= 2  # of the first, for its shape


@pytest.mark.parametrize(("strategy", "least"), [("krum", 5), ("bulyan", 7)])
def test_fewer_sites_than_the_promise_needs_fail_the_round(strategy: str, least: int) -> None:
    inner: Any = find("algorithms", strategy).ALGORITHM.inner
    chosen = {"byzantine_sites": 1, "krum_kept": 1}
    for count in (least - 1, least):
        found = tuple((Answer(f"n{i}", 1.0, {}, {}, 0), Record({}, {"a.x": np.ones(2) * i})) for i in range(count))
        gathered = Contributions(found, {}, Combine.EACH)
        if count == least:
            assert inner.aggregation.together(gathered, chosen)["x"].shape == (2,)
            continue
        with pytest.raises(Unusable, match=f"needs {least} sites") as said:
            inner.aggregation.together(gathered, chosen)
        assert list(said.value.nodes) == [f"n{i}" for i in range(count)]
        lost = Contributions(found, {"n9": "array 'x' holds NaN"}, Combine.EACH)  # the liar, so that none is left
        assert inner.aggregation.together(lost, chosen)["x"].shape == (2,)


def test_the_geometric_median_is_where_the_sum_of_distances_is_least() -> None:
    inner: Any = find("algorithms", "geometric_median").ALGORITHM.inner
    rng = np.random.default_rng(5)
    points, weights = rng.normal(size=(6, 4)), rng.integers(1, 9, 6).astype(float)
    found = tuple((Answer(f"n{i}", w, {}, {}, 0), Record({}, {"a.x": points[i]})) for i, w in enumerate(weights))
    chosen = {"weiszfeld_steps": 1000, "weiszfeld_smoothing": 1e-9}
    v = inner.aggregation.together(Contributions(found, {}, Combine.EACH), chosen)["x"]
    pull = (weights / np.linalg.norm(points - v, axis=1)) @ (points - v)  # the gradient
    assert np.abs(pull).max() < 1e-6


@pytest.mark.parametrize("far", [1e8, 1e200, 1.7e308])
def test_lies_of_few_rows_move_the_geometric_median_by_their_direction_alone(far: float) -> None:
    """Also where most sites lie, or a half, so that the median of each coordinate that counts sites once is theirs."""
    inner: Any = find("algorithms", "geometric_median").ALGORITHM.inner
    said = {"n0": (98.0, np.array([1.0, 2.0])), "n1": (1.0, np.array([far, -far])), "n2": (1.0, np.array([far, far]))}
    found = tuple((Answer(n, w, {}, {}, 0), Record({}, {"a.x": x})) for n, (w, x) in said.items())
    chosen = {"weiszfeld_steps": 100, "weiszfeld_smoothing": 1e-6}
    v = inner.aggregation.together(Contributions(found, {}, Combine.EACH), chosen)["x"]
    np.testing.assert_allclose(v, [1.0, 2.0], atol=1e-6)


def test_multi_krum_averages_no_more_sites_than_cannot_lie() -> None:
    inner: Any = find("algorithms", "krum").ALGORITHM.inner
    places = [0.0, 1.0, 1.1, 1.3, 50.0]
    found = tuple((Answer(f"n{i}", 1.0, {}, {}, 0), Record({}, {"a.x": np.array([p])})) for i, p in enumerate(places))
    together = inner.aggregation.together(
        Contributions(found, {}, Combine.EACH), {"byzantine_sites": 1, "krum_kept": 100}
    )
    np.testing.assert_allclose(together["x"], [0.85], rtol=1e-15)


def test_krum_takes_the_site_in_the_thick_of_the_others() -> None:
    inner: Any = find("algorithms", "krum").ALGORITHM.inner
    places = [0.0, 1.0, 1.1, 1.3, 50.0]
    found = tuple((Answer(f"n{i}", 1.0, {}, {}, 0), Record({}, {"a.x": np.array([p])})) for i, p in enumerate(places))
    gathered = Contributions(found, {}, Combine.EACH)
    for kept, expected in ((1, 1.1), (3, (1.0 + 1.1 + 1.3) / 3), (4, (0.0 + 1.0 + 1.1 + 1.3) / 4)):
        together = inner.aggregation.together(gathered, {"byzantine_sites": 1, "krum_kept": kept})
        np.testing.assert_allclose(together["x"], [expected], rtol=1e-15)


@pytest.mark.parametrize(("rule", "needs"), [("krum", 5), ("bulyan", 7)])
def test_a_run_of_too_few_sites_is_refused_before_an_owner_is_asked(rule: str, needs: int) -> None:
    """Each round of it failed, when all had agreed to it."""
    sites = {f"s{i}": {"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]} for i in range(needs)}
    about = {"model": "sgd_classifier", "target": "y", "federated_strategy": rule, "rounds": 1}
    about |= {"sample_id_column": None, "test_fraction": 0.0}
    hanse.simulate(sites).experiment(**about).run(progress=False)
    sites.pop("s0")
    with pytest.raises(ConfigError, match=f"byzantine_sites = 1 needs {needs} sites, and there are {needs - 1}"):
        hanse.simulate(sites).experiment(**about).propose()
