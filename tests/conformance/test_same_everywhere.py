"""A simulation is worth what it says about the federation: odd sites go through both, and nothing may differ."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from hanse.errors import HanseError
from hanse.experiment.federation import Federation
from hanse.messages import digest

from .both import Both, Case, Sites, both

_SEEDS = itertools.count()


def _sites(count: int = 3, rows: int = 60) -> Sites:
    """Unlike sites with a target in text, numbers, text, booleans, gaps, a duration and dates."""
    found: dict[str, pandas.DataFrame] = {}
    seed = next(_SEEDS)  # no two cases have a file in common: what one was told of it, the other would remember
    for number in range(count):
        rng = np.random.default_rng([number, seed])
        x = rng.normal(number / 4, 1, rows)
        frame = pandas.DataFrame({"x": x, "z": rng.normal(5, 2, rows).round(3)})
        frame["sex"] = rng.choice(["f", "m"], rows)
        frame["smoker"] = rng.random(rows) < 0.4
        frame["days"] = rng.exponential(300, rows).round().clip(1)
        frame["died"] = (rng.random(rows) < 0.6).astype(int)
        frame["seen"] = (pandas.Timestamp("2020-01-01") + pandas.to_timedelta(rng.integers(0, 900, rows), "D")).date
        frame["y"] = np.where(x + rng.normal(0, 1, rows) > 0, "yes", "no")
        frame.loc[:: 7 + number, "z"] = np.nan
        found[f"site{number:02d}"] = frame
    return found


def _changed(site: str, change: Callable[[pandas.DataFrame], pandas.DataFrame], count: int = 3) -> Case:
    """The usual sites, one of them changed."""
    sites = _sites(count)
    return Case({**sites, site: change(sites[site])})


def _labels(**other: str | int) -> Callable[[pandas.DataFrame], pandas.DataFrame]:
    return lambda frame: frame.assign(y=frame["y"].map(other))


def _first_missing(frame: pandas.DataFrame) -> pandas.DataFrame:
    frame.loc[:9, "y"] = None
    return frame


def _one_class(frame: pandas.DataFrame) -> pandas.DataFrame:
    frame.loc[:24, "y"] = "perhaps"
    return frame


CASES: dict[str, Case] = {
    "usual": Case(_sites()),
    "empty": _changed("site01", lambda frame: frame.iloc[:0]),
    "three-rows": _changed("site01", lambda frame: frame.iloc[:3]),
    "no-values": _changed("site01", lambda frame: frame.assign(z=np.nan, sex=None)),
    "text-for-numbers": _changed("site01", lambda frame: frame.assign(z="high")),
    "other-coding": _changed("site01", _labels(yes=1, no=0)),
    "other-coding-in-words": _changed("site01", _labels(yes="positive", no="negative")),
    "other-spelling": _changed("site01", _labels(yes="Yes", no="no")),
    "own-class": _changed("site01", _one_class),
    "lacks-a-column": _changed("site01", lambda frame: frame.drop(columns="z")),
    "booleans-as-numbers": _changed("site01", lambda frame: frame.assign(smoker=frame["smoker"].astype(int))),
    "rows-without-target": _changed("site01", _first_missing),
    "outer-spaces": _changed("site01", lambda frame: frame.rename(columns={"x": " x ", "sex": "sex "})),
    "outer-blanks": _changed("site01", _labels(yes=" yes ", no="no")),
    "lacks-the-target": _changed("site01", lambda frame: frame.drop(columns="y")),
    "other-units": _changed("site01", lambda frame: frame.assign(z=frame["z"] * 1000)),
    "missing-codes": _changed("site01", lambda frame: frame.assign(z=frame["z"].fillna(-999))),
    "alone": Case(_sites(1)),
}
OWNER = {
    "allow_federated_analytics": True,
    "minimum_count": 5,
    "minimum_samples": 1,
    "allow_node_statistics": False,
}


EVERY_DAY = ("usual", "empty", "three-rows", "no-values", "own-class", "outer-blanks", "alone")
ALL = [case if case in EVERY_DAY else pytest.param(case, marks=pytest.mark.long) for case in CASES]


@pytest.fixture(scope="module")
def federations(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Of the cases that are asked about: a file of each case at each site takes a node a while to get to know."""
    here = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params.get("case", "empty") for item in here if hasattr(item, "callspec")}
    with both(tmp_path_factory.mktemp("b"), {c: CASES[c] for c in CASES if c in asked | {"empty"}}, **OWNER) as found:
        yield found


def outcome(work: Callable[[], Any]) -> Any:
    """What comes of it: a value, or an error's class and text (the number of the run apart)."""
    try:
        return work()
    except HanseError as error:
        return type(error).__name__, re.sub(r"(simulation-\d+|run-[0-9a-z-]+)", "RUN", str(error))


def learned(federation: Federation, case: str, **settings: Any) -> Any:
    """Everything of a run that should not depend on where it ran."""
    chosen = {"model": "logistic_regression", "target": "y", "rounds": 2, "seed": 5, "sample_id_column": None}
    result = federation.experiment(tags=[case], **{**chosen, **settings}).run(progress=False)
    return {
        "digest": digest(result.record),
        "alignment": result.alignment,
        "warnings": result.warnings,
        "metrics": result.metrics,
        "steps": [dict(step.metrics) for step in result.rounds],
        "failures": [list(step.failures.items()) for step in result.rounds],
        "reason": result.reason,
    }


def analysed(federation: Federation, case: str, **settings: Any) -> Any:
    found = federation.experiment(tags=[case], target="y", sample_id_column=None, **settings).analyze()
    return {name: getattr(found, name) for name in ("features", "union", "intersection", "filled", "warnings")}


@pytest.mark.parametrize("case", [case for case in ALL if case != "empty"])
def test_what_is_learned(federations: Both, case: str) -> None:
    near, far = (outcome(functools.partial(learned, f, case)) for f in federations.of(case))
    assert near == far


def test_an_owner_whose_rules_say_no_is_asked(federations: Both) -> None:
    """What must differ: a simulation has no owners, so it goes on without a site whose rules say no, and says so."""
    near, far = federations.of("empty")
    found = learned(near, "empty")
    assert {node for step in found["failures"] for node, _ in step} == {"site01"}
    assert "minimum_samples" in found["failures"][0][0][1]
    error, text = outcome(functools.partial(learned, far, "empty", consent_timeout_s=3.0))  # nobody is here to be asked
    assert error == "RunFailed"
    assert "site01" in text


@pytest.mark.parametrize("case", ALL)
def test_what_the_sites_have_in_common(federations: Both, case: str) -> None:
    near, far = (outcome(functools.partial(analysed, f, case)) for f in federations.of(case))
    assert near == far


@pytest.mark.parametrize("case", ["lacks-a-column", "no-values"])
def test_with_every_column_that_any_has(federations: Both, case: str) -> None:
    near, far = (outcome(functools.partial(learned, f, case, feature_strategy="union")) for f in federations.of(case))
    assert near == far


@pytest.mark.long
@pytest.mark.parametrize("model", ["ridge", "sgd_classifier", "mlp_classifier", "random_forest", "xgboost"])
@pytest.mark.parametrize("case", ["own-class", "no-values"])
def test_every_way_to_learn(federations: Both, case: str, model: str) -> None:
    near, far = (
        outcome(functools.partial(learned, f, case, model=model, target="days" if model == "ridge" else "y"))
        for f in federations.of(case)
    )
    assert near == far


@pytest.mark.long
def test_twelve_sites(tmp_path: Path) -> None:
    with both(tmp_path, {"twelve": Case(_sites(12, 30))}, **OWNER) as found:
        near, far = (learned(federation, "twelve") for federation in found.of("twelve"))
        assert near == far


ASKED: dict[str, Callable[[Any], Any]] = {
    "overview": lambda a: a.overview(),
    "value_counts": lambda a: a.value_counts("sex"),
    "labels": lambda a: a.value_counts("y"),
    "crosstab": lambda a: a.crosstab("sex", "y"),
    "kaplan_meier": lambda a: a.kaplan_meier("days", "died"),
    "t_test": lambda a: a.t_test("x", "sex"),
    "mean": lambda a: a.mean(["x", "z"]),
    "std": lambda a: a.std(["z"]),
    "median": lambda a: a.median(["z"]),
    "histogram": lambda a: a.histogram("x"),
    "dates": lambda a: a.mean(["seen"]),
    "table_one": lambda a: a.table_one("y"),
}


# Each is asked twice. Of a site without values those that look at its columns, of one that is alone those of groups
SAID_EVERY_DAY = {
    "empty": tuple(ASKED),
    "no-values": ("overview", "value_counts", "median", "table_one"),
    "alone": ("overview", "crosstab", "kaplan_meier", "table_one"),
}


@pytest.mark.parametrize(
    ("case", "names"),
    [
        *SAID_EVERY_DAY.items(),
        *(pytest.param(case, tuple(ASKED), marks=pytest.mark.long) for case in CASES if case != "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "all" if len(value) == len(ASKED) else "some",
)
def test_what_statistics_say(federations: Both, case: str, names: tuple[str, ...]) -> None:
    """All of them by one person in one order, so that what was disclosed before is the same too."""
    analytics = [federation.analytics(tags=[case]) for federation in federations.of(case)]
    for name in names:
        near, far = (outcome(functools.partial(ASKED[name], a)) for a in analytics)
        assert _said(near) == _said(far), name


def _said(value: Any) -> Any:
    """As it is printed, and as JSON with every range and note; that it is simulated may differ."""
    printed = repr(value).replace("Simulated statistics", "Statistics")
    plain = value.to_json() if hasattr(value, "to_json") else value
    if isinstance(plain, dict):
        plain = {name: part for name, part in plain.items() if name not in ("simulated", "runs")}
    return printed, json.dumps(plain, default=str)
