"""How far survival is from that of the pooled rows: with the minimum at each node, and on the total of secure sums.

Federations of drawn survival times (exponential with mean 500, 70 % events, two groups that do not differ), and the
four hospitals of the demo (time: the age at which a patient was seen; event: narrowed vessels; groups: men and women),
all at the default minimum of 10 rows. ``curve`` is the largest error of the Kaplan-Meier estimate at the times that are
told and at which 20 or more are at risk, over all draws; ``times`` how many these are in the mean; ``between`` the
largest error at any time of a row before the last of them, of the curve that is told when these times are asked for as
a grid; ``half`` is half of the largest drop from one to the next, and no curve through them can promise to be nearer;
``least`` what no curve can promise at one of these times, whatever is told, that keeps the minimum
(``docs/privacy.md``, "How near a curve can be");
``p`` the largest relative error of the log-rank test's p, and ``given`` the share of draws with one. References:
lifelines.

    python bench/totals.py --draws 10
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo import hospitals as demo  # noqa: E402

SHAPES = ((5, 100), (20, 60))
MINIMUM = 10  # rows of a cell
Frames = dict[str, dict[str, Any]]
Errors = tuple[float, int, float, float, float, float | None]


def drawn(sites: int, rows: int, seed: int) -> Frames:
    rng = np.random.default_rng((sites, rows, seed))
    return {
        f"s{i:02d}": {
            "t": rng.exponential(500, rows),
            "e": (rng.random(rows) < 0.7).astype(float),
            "g": rng.choice(["a", "b"], rows),
        }
        for i in range(sites)
    }


def hospitals() -> Frames:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in demo.write(Path(folder)).items():
            with path.open(newline="") as table:
                rows = list(csv.DictReader(table))
            found[name] = {
                "t": [float(row["age"]) for row in rows],
                "e": [float(row["disease"] == "yes") for row in rows],
                "g": [row["sex"] for row in rows],
            }
    return found


def errors(analytics: Any, pooled: dict[str, Any]) -> Errors:
    """Of the curve, over how many times, between these, half of the largest drop, what is least, and of p."""
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import logrank_test

    fit = KaplanMeierFitter().fit(pooled["t"], pooled["e"])
    curve = analytics.kaplan_meier("t", "e")
    told = {
        float(time): float(told)
        for time, told in zip(curve["times"], curve["survival"], strict=True)
        if told is not None and (pooled["t"] >= time).sum() >= 20
    }
    far = [abs(told[time] - float(fit.predict(time))) for time in told]
    within = np.unique(pooled["t"][pooled["t"] <= max(told, default=0.0)])
    asked = analytics.kaplan_meier("t", "e", grid=within.tolist())
    far_between = [
        abs(float(given) - true)
        for given, true in zip(asked["survival"], fit.predict(asked["times"]).tolist(), strict=True)
        if given is not None
    ]
    between = max(far_between, default=0.0)
    half = (-np.diff([1.0, *told.values()])).max(initial=0.0) / 2
    times, deaths = np.unique(pooled["t"]), np.unique(pooled["t"][pooled["e"] == 1], return_counts=True)
    few = ~np.isin(times, deaths[0][deaths[1] >= MINIMUM])  # a time of so many events is a cell by itself
    risk, before = (pooled["t"][:, None] >= times).sum(0), fit.predict(np.nextafter(times, 0)).to_numpy()
    least = (before * MINIMUM / (2 * risk))[few & (risk >= 20)].max(initial=0.0)
    one, two = (pooled["g"] == label for label in sorted(set(pooled["g"].tolist())))
    true = logrank_test(pooled["t"][one], pooled["t"][two], pooled["e"][one], pooled["e"][two]).p_value
    p = analytics.logrank("t", "e", group="g")["p"]
    off = None if p is None else abs(float(p) / true - 1)
    return max(far, default=0.0), len(far), between, float(half), float(least), off


def measured(
    federations: list[Frames],
) -> Iterator[tuple[str, list[Errors]]]:
    import hanse

    for name, owner, gathering in (("at each node", "node", "plain"), ("on the total", "total", "secure")):
        found = []
        for frames in federations:
            pooled = {c: np.concatenate([np.asarray(f[c]) for f in frames.values()]) for c in ("t", "e", "g")}
            federation = hanse.simulate(frames, policy={"statistics_minimum": owner})
            found.append(errors(federation.analytics(gathering=gathering), pooled))
        yield name, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=10, help="random federations of each shape")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = [(f"{s} x {r}", [drawn(s, r, seed) for seed in range(args.draws)]) for s, r in SHAPES]
    columns = ("sites x rows", "minimum", "curve", "times", "between", "half", "least", "p", "given")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for case, federations in [*cases, ("demo hospitals", [hospitals()])]:
        for name, found in measured(federations):
            ps = [p for *_, p in found if p is not None]
            worst = f"{max(ps):.2g}" if ps else "-"
            times = f"{np.mean([times for _, times, *_ in found]):.0f}"
            curve, between, half, least = (f"{max(one[i] for one in found):.2g}" for i in (0, 2, 3, 4))
            half = half if name == "on the total" else "-"  # at each node the times that are told are off themselves
            row = (case, name, curve, times, between, half, least, worst, f"{len(ps) / len(found):.2f}")
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
