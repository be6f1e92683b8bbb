"""Every statistic of sites that hold little or nothing: a value, None, or a sentence; never an error of the program."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hanse
from hanse.errors import ConfigError, HanseError
from hanse.queries import statistic
from hanse.registry import names
from tests.combinations import every_other

ARGUMENTS: dict[str, dict[str, Any]] = {
    "histogram": {"bins": 5},
    "quantile": {"q": [0.1, 0.5, 0.9]},
    **{name: {"group": "g"} for name in ("t_test", "smd", "mann_whitney", "logrank")},
}
COLUMNS = {"kaplan_meier": ["t", "e"], "logrank": ["t", "e"], "crosstab": ["g", "h"]}
CRASH = re.compile(r"\b[A-Z]\w*Error\b")


def site(rows: int, **other: Any) -> dict[str, Any]:
    rng = np.random.default_rng(rows)
    found: dict[str, Any] = {
        "x": rng.normal(50, 10, rows),
        "y": rng.normal(0, 1, rows),
        "t": rng.exponential(500, rows),
        "e": (rng.random(rows) < 0.7) * 1.0,
        "g": list(rng.choice(["a", "b"], rows)),
        "h": list(rng.choice(["c", "d"], rows)),
    }
    return found | {name: [value] * rows for name, value in other.items()}


NOTHING = dict.fromkeys(("x", "y", "t", "e", "g", "h"))
SITES = {
    "one label, few rows": [site(6, g="a")] * 3,
    "one label": [site(60, g="a")] * 2,
    "labels of their own": [site(12, g=label) for label in "abc"],
    "a row": [site(1)] * 3,
    "no rows but at one": [site(0), site(0), site(80)],
    "all missing": [site(60, **NOTHING), site(40, **NOTHING)],
    "all missing at one": [site(60, **NOTHING), site(80), site(70)],
    "constant": [site(60, x=3.0, t=3.0, e=1.0, h="c")] * 2,
    "no events": [site(60, e=0.0)] * 2,
    "all kept back": [site(8), site(9)],
}
PROTECTIONS = {"default": {}, "open": {"minimum_cell": 1, "allow_extremes": True}}


@pytest.mark.parametrize(("sites", "protection", "by"), every_other(SITES, PROTECTIONS, [(), ("h",)]))
def test_odd_sites_give_a_value_or_a_sentence(sites: str, protection: str, by: tuple[str, ...]) -> None:
    frames = {f"s{i}": frame for i, frame in enumerate(SITES[sites])}
    with hanse.simulate(frames, policy=PROTECTIONS[protection]) as federation:
        analytics = federation.analytics(by=by)
        for name in names("statistics"):
            numbers = ["x"] if statistic(name).columns == 1 else ["x", "y"]
            columns = COLUMNS.get(name, ["g"] if name in ("levels", "value_counts") else numbers)
            options = ARGUMENTS.get(name, {})
            if by and ("group" in options or "h" in columns):
                continue
            said = ""
            try:
                result = analytics.ask(name, columns, options)
                json.dumps(result.to_json())
                said = repr(result)
            except HanseError as error:
                said = str(error)
            assert said, name
            assert not CRASH.search(said), f"{name}: {said}"


@pytest.mark.parametrize("name", ["t_test", "mann_whitney"])
@pytest.mark.parametrize("rows", [6, 12])
def test_a_test_of_one_label_says_which_groups_there_are(name: str, rows: int) -> None:
    """t_test of three sites of 6 rows raised an IndexError at each of them."""
    analytics = hanse.simulate({f"s{i}": site(rows, g="a") for i in range(3)}).analytics()
    with pytest.raises(
        ConfigError, match=r"two groups are compared; there are [01] \((none|a)\); a label makes a group"
    ):
        getattr(analytics, name)("x", "g")


def test_labels_of_groups_that_have_others() -> None:
    """What is stacked of groups with fewer labels is followed by zeros, which are no labels and no counts."""
    frame = {"g": ["a", "b", "longer"] * 40 + ["a"] * 30, "h": ["c"] * 120 + ["d"] * 30}
    with hanse.simulate({"s0": frame, "s1": frame}) as federation:
        found = federation.analytics(by="h").ask("levels", ["g"], {}).to_json()["statistics"]["levels"]
    assert json.loads(json.dumps(found))["g"] == {"c": ["a", "b", "longer"], "d": ["a"]}


@pytest.mark.parametrize("by", [(), ("g",)])
@pytest.mark.parametrize("policy", [{}, {"statistics_minimum": "total"}])
def test_pairs_of_columns_are_of_all_rows_where_a_site_lacks_another_column(
    policy: dict[str, Any], by: tuple[str, ...]
) -> None:
    """A site that lacked one column of a correlation was in none of its pairs, and the others stood there as plain
    numbers."""
    frames = {"a": site(150), "b": site(130), "c": site(140), "d": site(160)}
    del frames["c"]["t"]
    pooled = pd.concat([pd.DataFrame(frame) for frame in frames.values()])
    gathering = "secure" if policy else "plain"
    with hanse.simulate(frames, policy=policy) as federation:
        found = federation.analytics(by=by, gathering=gathering).correlation(["x", "y", "t"])
    for group, told in found.items() if by else [("", [list(row.values()) for row in found.values()])]:
        rows = pooled[pooled.g == group] if by else pooled
        assert all(type(value) is float for row in told for value in row)
        assert told == pytest.approx(rows[["x", "y", "t"]].corr().to_numpy(), abs=1e-10)
