"""Random sites whose rows can be pooled, and what the sites answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

import hanse
from hanse import features
from hanse.algorithms.statistics import ALGORITHM
from hanse.experiment.federation import Federation
from hanse.fetched import Fetched
from hanse.gather import Party
from hanse.gathering.plain import Contributions, Plain, came
from hanse.kinds import Ask, Site, Who
from hanse.queries import Item, TableSource, make_item
from hanse.table import Table

OPEN = {"minimum_cell": 1, "allow_extremes": True, "allow_node_statistics": True}
SPLITS = 4 * ("two", "uneven", "empty", "three") + ("one row each", "fifty")


def split(frame: pd.DataFrame, cuts: Sequence[int]) -> dict[str, pd.DataFrame]:
    edges = [0, *sorted(min(c, len(frame)) for c in cuts), len(frame)]
    return {f"s{i:03d}": frame.iloc[a:b] for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))}


def cuts_of(kind: str, n: int, rng: np.random.Generator) -> list[int]:
    """Where rows are cut into sites."""
    some = [int(c) for c in rng.integers(0, n + 1, 3)]
    return {
        "two": [n // 2],
        "uneven": [min(1, n), max(n - 2, 0)],
        "empty": [0, some[0], some[0], n],
        "three": some,
        "one row each": list(range(1, min(n, 30))),
        "fifty": [int(c) for c in rng.integers(0, n + 1, 49)],
    }[kind]


def federation(frame: pd.DataFrame, cuts: Sequence[int], **policy: Any) -> Federation:
    return hanse.simulate(split(frame, cuts), policy={**OPEN, **policy}, workers=1)


def ask(
    sites: Mapping[str, pd.DataFrame],
    items: Sequence[Item],
    there: Callable[[str, int], bool] | None = None,
    **settings: Any,
) -> Fetched:
    """The answer to all items: the algorithm and the gathering of a run, without its transport. ``there(site,
    number)`` says whether a site answers the ask of that number."""
    algorithm = ALGORITHM
    options = {"items": [item.to_json() for item in items]}
    config, owner = {"model_options": options}, {**OPEN, **settings}
    tables = {name: Table.of(rows) for name, rows in sites.items()}
    kinds = features.survey({name: table.schema() for name, table in tables.items()}).kinds
    here = {
        name: Site(name, Table(), config, source=features.SettledSource(TableSource(table), kinds), owner=owner)
        for name, table in tables.items()
    }
    state, plain = algorithm.init(config), Plain()
    number = 0
    while isinstance(step := algorithm.ask(state), Ask):
        found = []
        for name in here if isinstance(step.to, Who) else step.to:
            if there is not None and not there(name, number):
                continue
            site = here[name]
            reply = plain.reply(
                "answer", step.record, lambda asked, site=site: algorithm.answer(site, asked), Party(site.node)
            )
            found.append(came(name, 0, reply))
        state = algorithm.tell(state, Contributions(tuple(found), {}, step.combine))
        number += 1
    return Fetched.of(algorithm.result(state), {}, "")


NUMBERS = ["offset", "heavy", "tiny", "whole"]
HARD = [*NUMBERS, "far", "ids", "swing", "flag", "day"]


def frame_of(rng: np.random.Generator, n: int, gaps: float = 0.0, infinite: bool = False) -> pd.DataFrame:
    """Columns of all sorts: far from 0, of heavy tails, tiny, in whole numbers beyond 2^53, of both signs and
    all sizes, true or false, dates, labels; survival times."""
    swing = rng.normal(0, 1, n) * np.where(np.arange(n) % 2, 1e9, 1e-6)
    frame = pd.DataFrame(
        {
            "offset": rng.normal(1e8, 1, n),
            "far": rng.normal(1e12, 1, n),
            "heavy": np.exp(rng.normal(0, 2, n)),
            "tiny": rng.normal(0, 1e-9, n),
            "whole": rng.integers(-3, 60, n).astype(float),
            "ids": rng.integers(2**53 - 5000, 2**53, n),
            "swing": swing,
            "flag": rng.random(n) < 0.4,
            "day": pd.Timestamp("1950-03-01") + pd.to_timedelta(rng.integers(0, 30000, n), unit="D"),
            "label": rng.choice(["a", "b", "c"], n, p=[0.7, 0.25, 0.05]),
            "arm": rng.choice(["x", "y"], n),
            "weeks": rng.integers(1, 30, n).astype(float),
            "died": (rng.random(n) < 0.6).astype(float),
        }
    )
    for name in ("offset", "heavy", "whole", "swing", "day"):
        frame.loc[rng.random(n) < gaps, name] = pd.NaT if name == "day" else np.nan
    if infinite:
        frame.loc[rng.random(n) < 0.1, "heavy"] = np.inf
        frame.loc[rng.random(n) < 0.05, "heavy"] = -np.inf
    return frame


@st.composite
def frames(draw: Any, part: int) -> tuple[pd.DataFrame, list[int], np.random.Generator]:
    """Rows, where they are cut, and random numbers for more; different ones for each ``part``."""
    rng = np.random.default_rng([part, draw(st.integers(0, 2**32 - 1))])
    n = draw(st.sampled_from([1, 2, 3, 7, 30, 30, 80]))
    frame = frame_of(rng, n, draw(st.sampled_from([0.0, 0.1, 0.6])), draw(st.booleans()))
    return frame, cuts_of(draw(st.sampled_from(SPLITS)), n, rng), rng


def plain_items(numbers: Sequence[str], text: Sequence[str]) -> list[Item]:
    """Every statistic of one column."""
    found = [make_item(s, [c], {}) for s in ("count", "missing", "levels", "distinct") for c in text]
    found += [
        make_item(s, [c], {})
        for s in ("count", "missing", "distinct", "sum", "mean", "variance", "std", "min", "max", "moments", "median")
        for c in numbers
    ]
    found += [make_item("variance", [c], {"ddof": 0}) for c in numbers[:2]]
    found += [make_item("moments", [c], {"adjusted": False}) for c in numbers[:2]]
    found += [make_item("quantile", [c], {"q": [0.05, 0.5, 0.9], "depth": 2}) for c in numbers]
    found += [make_item("cells", [c], {"depth": 1}) for c in numbers[:1]]
    found += [make_item("histogram", [c], {"bins": 7}) for c in numbers]
    found += [make_item("value_counts", [c], {}) for c in text]
    return [*found, make_item("sparsity", [*numbers, *text], {})]


def grouped_items(numbers: Sequence[str], by: Sequence[str]) -> list[Item]:
    return [make_item(s, [c], {}, by) for s in ("count", "mean", "std", "moments") for c in numbers]


def table_items(numbers: Sequence[str]) -> list[Item]:
    return [make_item(s, numbers, {}) for s in ("pair_means", "covariance", "correlation")]


def comparison_items(numbers: Sequence[str], group: str, pair: Sequence[str]) -> list[Item]:
    """The comparisons of two groups."""
    options = {"group": group, "groups": list(pair)}
    found = [make_item(s, [c], options) for s in ("smd", "t_test", "mann_whitney") for c in numbers]
    return found + [make_item("t_test", [c], {**options, "equal_var": True}) for c in numbers]


def survival_items(frame: pd.DataFrame, time: str, event: str, group: str) -> list[Item]:
    grid = sorted({0.0, *(float(v) for v in frame[time].dropna())})
    return [
        make_item("kaplan_meier", [time, event], {"grid": grid}),
        make_item("kaplan_meier", [time, event], {"grid": grid, "level": 0.9}, [group]),
        make_item("logrank", [time, event], {"group": group, "grid": grid}),
    ]
