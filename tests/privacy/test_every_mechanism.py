"""An attack on every mechanism there is: the folders say which, so that a new one cannot be left out.

A row (or a site's whole update) is put in and left out of a real run; what a node would tell without noise differs by
what was said that it may; and told with noise, 100,000 times, the best test finds no more than was promised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hanse
from hanse import algorithms, answers
from hanse.kinds import Combine, Contribution
from hanse.messages import Record
from hanse.privacy import guarantee
from hanse.privacy.clipping import length
from hanse.privacy.drawing import Draws, key_for
from hanse.privacy.empirical import least_epsilon
from hanse.privacy.guarantee import ROW, SITE, Guarantee
from hanse.privacy.release import released
from hanse.privacy.steps import Steps
from hanse.registry import names

SIZE, DELTA = 100_000, 1e-5
KEY = b"the key of these tests, no other"
ROWS = 60
ONE_STEP = {"rounds": 1, "model": "logistic_regression"}
BY_ROW: dict[str, dict[str, Any]] = {
    "noisy_gradients": {**ONE_STEP, "gathering": "secure"},
    "noisy_boosting": {**ONE_STEP, "model": "xgboost", "model_options": {"max_depth": 2}},
    "dp_sgd": {**ONE_STEP, "local_steps": 1, "sampling_rate": 1.0},
    "dp_ftrl": {**ONE_STEP, "parts": 1},
}
STATISTICS: dict[str, tuple[str, dict[str, Any]]] = {
    "count": ("", {}),
    "sum": ("x", {"range": [-3, 3]}),
    "mean": ("x", {"range": [-3, 3]}),
    "histogram": ("x", {"range": [-3, 3], "bins": 4}),
    "quantiles": ("x", {"range": [-3, 3], "bins": 4}),
    "labels": ("y", {"values": ["yes", "no"]}),
    "survival": ("t", {"range": [0, 9], "bins": 3, "event": "e"}),
}


def table(rows: int, seed: int) -> dict[str, Any]:
    """The last row is the one that is looked for: as far out as a row may be."""
    rng = np.random.default_rng(seed)
    x, t, e = rng.normal(size=rows), rng.uniform(1, 8, rows), (rng.random(rows) < 0.5).astype(float)
    y = np.where(x + rng.normal(size=rows) > 0, "yes", "no")
    x[-1], y[-1], t[-1], e[-1] = 3.0, "no", 2.0, 1.0
    return {"x": x, "y": y, "t": t, "e": e}


class Heard:
    """What a site would tell without noise: the first contribution that has numbers of rows in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.bound, self.promised, self.update = 0.0, None, False
        self._asked = monkeypatch

    def run(self, rows: int, ask: Callable[[Any], Any]) -> Heard:
        def contributions(contribution: Contribution, combine: Combine, promised: Guarantee, *rest: Any) -> Any:
            told = combine is not Combine.AGREE and contribution.sensitivity != 0.0 and not promised.stepwise
            if not self.arrays and told:
                self.arrays = {n: np.array(a, float) for n, a in contribution.record.arrays.items()}
                self.bound, self.promised = float(contribution.sensitivity or promised.clip), promised
                self.update = contribution.update
            return released(contribution, combine, promised, *rest)

        noised = Steps.noised

        def steps(own: Steps, arrays: Any, bound: float, rows: Any = None) -> Any:
            if not self.arrays:
                self.arrays, self.bound = {n: np.array(a, float) for n, a in arrays.items()}, bound
                self.promised = own._guarantee
            return noised(own, arrays, bound, rows)

        with self._asked.context() as patch:
            patch.setattr(answers.release, "released", contributions)
            patch.setattr(Steps, "noised", steps)
            mine = {name: values[:rows] for name, values in table(ROWS, 0).items()}
            ask(hanse.simulate({name: mine for name in "abcdefg"}))  # all alike, so whoever is heard first
        assert self.arrays
        return self


def attacked(promised: Guarantee, shift: float, bound: float) -> float:
    """The least epsilon that an attacker proves of releases of which the row changes one number by ``shift``."""
    told = []
    for x in (0.0, shift):
        secret = Draws(key_for(KEY, str(x).encode())).words(4).tobytes()
        contribution = Contribution(Record({}, {"x": np.full(SIZE, x)}), sensitivity=bound)
        found, _ = released(contribution, Combine.SUM, promised, lambda own, secret=secret: key_for(secret, own))
        told.append(found.record.arrays["x"])
    spread = told[0].std()
    return least_epsilon(*told, DELTA, np.linspace(-2 * spread, 4 * spread, 30), 0.999)


def plain(unit: str) -> Guarantee:
    """One release of a node by itself, of epsilon 1."""
    return guarantee.of(guarantee.settled({"epsilon": 1.0, "delta": DELTA}), unit, 1, 1)


def test_every_mechanism_is_here() -> None:
    assert {*BY_ROW, "noisy_statistics"} == {*algorithms.of_unit(ROW)}
    assert {*STATISTICS} == {*names("noised_statistics")}


def ask_model(name: str, settings: dict[str, Any]) -> Callable[[Any], Any]:
    more = {"privacy": {"epsilon": 1.0, "ranges": {"x": [-3, 3]}}, "features": ["x"], **settings}
    model = more.pop("model")
    return lambda federation: federation.experiment(model, target="y", federated_strategy=name, seed=1, **more).run(
        progress=False
    )


@pytest.mark.parametrize("name", sorted({*algorithms.of_unit(ROW)} - {"noisy_statistics"}))  # each of these is below
def test_one_row_of_a_real_run_is_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ask_model(name, BY_ROW[name])
    one, without = Heard(monkeypatch).run(ROWS, ask), Heard(monkeypatch).run(ROWS - 1, ask)
    _held(one, without)


@pytest.mark.parametrize("stat", sorted(names("noised_statistics")))
def test_one_row_of_a_real_question_is_hidden(stat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    column, options = STATISTICS[stat]

    def ask(federation: Any) -> Any:
        return federation.experiment().analytics.noisy({column: {stat: options}}, epsilon=1.0)

    _held(Heard(monkeypatch).run(ROWS, ask), Heard(monkeypatch).run(ROWS - 1, ask))


def _held(one: Heard, without: Heard) -> None:
    assert one.bound == without.bound
    apart = length({name: one.arrays[name] - without.arrays[name] for name in one.arrays})
    assert 0.2 * one.bound < apart <= one.bound * (1 + 1e-9)  # it is there, and no further than was said
    found = attacked(plain(ROW), apart, one.bound)
    assert found < 1.0
    assert found > 0.2 or apart < 0.6 * one.bound


@pytest.mark.parametrize("name", sorted(algorithms.of_unit(SITE)))
def test_a_whole_site_of_a_real_run_is_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a site tells is cut to ``clip`` before there is noise in it, however long it was: with a small one, that is
    the whole of it. A site that is not there tells nothing, which is 0."""
    settings = {**ONE_STEP, "features": ["x", "t"], "privacy": {"epsilon": 1.0, "clip": 1e-3, "ranges": {"*": [-9, 9]}}}
    if name in ("fedper", "fedrep"):
        settings["own_layers"] = ["coef"]
    if name == "adaptive_clipping":  # it finds its bound itself
        settings |= {"first_bound": 1e-3, "privacy": {"epsilon": 1.0, "ranges": {"*": [-9, 9]}}}
    heard = Heard(monkeypatch).run(ROWS, ask_model(name, settings))
    assert heard.promised is not None
    assert heard.update or heard.bound <= heard.promised.clip * (1 + 1e-9)
    told = min(length(heard.arrays), heard.promised.clip) if heard.update else length(heard.arrays)
    assert 0 < told <= heard.promised.clip * (1 + 1e-9)
    assert 0.2 < attacked(plain(SITE) if not heard.update else plain(ROW), told, heard.promised.clip) < 1.0
