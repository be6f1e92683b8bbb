"""Sites that do not mean the same: said before training, by the simulation and by a federation alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hanse
from hanse.algorithms._oddities import coded, recoded, unlike
from hanse.errors import ConfigError


def site(seed: int, n: int = 60, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    frame: dict[str, Any] = {
        "height": rng.normal(1.72, 0.09, n),
        "weight": rng.normal(75, 12, n),
        "temperature": rng.normal(37.0, 0.4, n),
        "sex": rng.choice(["f", "m"], n).tolist(),
        "disease": rng.choice(["no", "yes"], n).tolist(),
    }
    return frame | {name: change(frame[name]) for name, change in changes.items()}


def run(model: str = "logistic_regression", **sites: Any) -> Any:
    federation = hanse.simulate(sites)
    return federation.experiment(model, target="disease", rounds=1).run(progress=False)


def test_sites_that_agree_are_not_bothered() -> None:
    assert run(a=site(1), b=site(2), c=site(3)).warnings == []


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("height", lambda v: v * 100),
        ("weight", lambda v: v * 2.2),
        ("temperature", lambda v: v * 1.8 + 32),
    ],
)
@pytest.mark.parametrize("model", ["logistic_regression", "xgboost", "random_forest"])
def test_another_unit_is_named_with_its_site(column: str, change: Any, model: str) -> None:
    """Trees were made of sites of several units without a word."""
    said = run(model, a=site(1), b=site(2), c=site(3, **{column: change})).warnings
    lies = " lies far from its values at the other sites"
    assert any(
        w.startswith(f"{column!r} at ") and w.partition(lies)[0].endswith((" c", ", c")) for w in said if lies in w
    )


@pytest.mark.parametrize("first", [lambda x: x == "m", lambda x: float(x == "m")])
@pytest.mark.parametrize("model", ["logistic_regression", "xgboost"])
def test_other_codes_of_two_values_are_named(first: Any, model: str) -> None:
    """0 and 1 at two sites, 1 and 2 at the third: a coefficient of 2.2 was 1.1, and nothing said so."""
    here, there = ({"sex": lambda v, k=k: [first(x) + k for x in v] if k else [first(x) for x in v]} for k in (0, 1))
    alike = run(model, a=site(1, **here), b=site(2, **here), c=site(3, **here))
    assert alike.warnings == []
    said = run(model, a=site(1, **here), b=site(2, **here), c=site(3, **there)).warnings
    assert any(
        w.startswith("'sex' at ") and "c has two values there, and its mean at the other sites" in w for w in said
    )


def test_two_values_of_a_site_are_those_of_others_too() -> None:
    """A site that sees one of two values, or two of four, is as others are, where these have them about as often."""
    two, four = np.array([0.0, 1.0] * 30), np.array([0.0, 1.0, 2.0, 3.0] * 15)
    for here, there in ((two, np.ones(60)), (two, two), (np.ones(60), two), (four, two), (two[:8], two + 1)):
        whole = np.concatenate([here, there])
        assert recoded(["x"], here[:, None], np.array([len(whole)]), np.array([whole.mean()]), 5) == []


def test_codes_for_missing_values_are_named() -> None:
    def code(values: Any) -> Any:
        values[::5] = -9.0
        return values

    said = run(a=site(1), b=site(2, weight=code)).warnings
    assert "'weight' at b seems to hold a code for missing values; leave those cells empty" in said


@pytest.mark.parametrize("odd", ["Yes", "YES"])
def test_another_spelling_of_the_target_is_named(odd: str) -> None:
    sites = {"a": site(1), "b": site(2, disease=lambda v: [odd if x == "yes" else x for x in v])}
    assert any("'yes' at a differ in case" in w for w in run(**sites).warnings)


def test_another_spelling_of_a_feature_is_named() -> None:
    said = run(a=site(1), b=site(2, sex=lambda v: [x.upper() for x in v])).warnings
    assert any("'sex'" in w and "'F' at b and 'f' at a" in w for w in said)


def test_a_target_whose_labels_no_two_sites_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="no two sites share a label of 'disease'"):
        run(a=site(1), b=site(2, disease=lambda v: [int(x == "yes") for x in v]))


def test_a_third_coding_among_three_is_named() -> None:
    said = run(a=site(1), b=site(2), c=site(3, disease=lambda v: [int(x == "yes") for x in v])).warnings
    assert any("coded in 2 ways: 0, 1 at c; no, yes at a, b" in w for w in said)


def test_few_values_say_nothing() -> None:
    few = np.array([[1.0], [2.0], [-9.0], [-9.0], [-9.0]])
    assert coded(["x"], few, 5) == []
    assert unlike(["x"], few, np.array([100.0]), np.array([1e6]), 6) == []


def test_honest_differences_are_quiet() -> None:
    """Over many random federations of sites that differ a little, nothing is said."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, others = int(rng.integers(20, 300)), int(rng.integers(20, 3000))
        centre, spread = rng.normal(0, 100), rng.exponential(20) + 1e-3
        here = rng.normal(centre + rng.normal(0, 0.5) * spread, spread, (n, 1))
        there = rng.normal(centre, spread, others)
        mean = (here.sum() + there.sum()) / (n + others)
        assert unlike(["x"], here, np.array([float(n + others)]), np.array([mean]), 5) == []


@pytest.mark.parametrize("model", ["xgboost_bagging", "random_forest"])
def test_trees_of_sites_of_one_class_are_not_joined_without_a_word(model: str) -> None:
    """Joined trees of sites that each hold one class tell nothing apart; the fit over all sites does."""
    rng = np.random.default_rng(0)
    sites = {
        name: {"x": rng.normal(shift, 1, 80), "disease": [label] * 80}
        for name, shift, label in (("ill", 2.0, "yes"), ("well", -2.0, "no"))
    }
    with hanse.simulate(sites) as federation:
        joined = federation.experiment(model, target="disease", rounds=3, sample_id_column=None).run(progress=False)
        for name in ("logistic_regression", "xgboost"):
            fitted = federation.experiment(name, target="disease", rounds=3, sample_id_column=None)
            assert fitted.run(progress=False).metrics["auc"] >= 0.95
    assert joined.metrics["auc"] == 0.5
    (said,) = joined.warnings
    assert said.startswith("the trees of ill, well do not split")


def test_a_site_of_one_class_is_named_whenever_its_first_trees_come() -> None:
    """Of forests that grow few trees a round it had none in the first one, which alone was looked at."""
    rng = np.random.default_rng(0)
    labels = {"large": ["yes", "no"] * 100, "ill": ["yes"] * 60, "well": ["no"] * 50}
    sites = {name: {"x": rng.normal(size=len(own)), "disease": own} for name, own in labels.items()}
    run = hanse.simulate(sites).experiment(
        "random_forest", target="disease", rounds=12, sample_id_column=None, model_options={"n_estimators": 12}
    )
    result = run.run(progress=False)
    assert [w for w in result.warnings if "do not split" in w][-1].startswith("the trees of ill, well do not split")
