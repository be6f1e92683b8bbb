"""How far survival is from that of the pooled rows: with the minimum at each node, and on the total of secure sums.

Federations of drawn survival times (exponential with mean 500, 70 % events, two groups that do not differ), and the
four hospitals of the demo (time: the age at which a patient was seen; event: narrowed vessels; groups: men and women),
all at the default minimum of 10 rows. ``curve`` is the largest error of the Kaplan-Meier estimate at the times that are
told and at which 20 or more are at risk, over all draws; ``times`` how many these are in the mean; ``between`` the
largest error of a line through these at any time before the last of them; ``half`` is half of the largest drop from
one to the next, and no line through them can promise to be nearer (``docs/privacy.md``, "How near a curve can be");
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
Frames = dict[str, dict[str, Any]]


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


def errors(analytics: Any, pooled: dict[str, Any]) -> tuple[float, int, float, float, float | None]:
    """Of the curve, over how many times, between these, half of the largest drop, and of p."""
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
    line = np.interp(within, [0.0, *told], [1.0, *told.values()])
    half = (-np.diff([1.0, *told.values()])).max(initial=0.0) / 2
    between = np.abs(line - fit.predict(within).to_numpy()).max(initial=0.0)
    one, two = (pooled["g"] == label for label in sorted(set(pooled["g"].tolist())))
    true = logrank_test(pooled["t"][one], pooled["t"][two], pooled["e"][one], pooled["e"][two]).p_value
    p = analytics.logrank("t", "e", group="g")["p"]
    return max(far, default=0.0), len(far), float(between), float(half), None if p is None else abs(float(p) / true - 1)


def measured(federations: list[Frames]) -> Iterator[tuple[str, list[tuple[float, int, float, float, float | None]]]]:
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
    print("| sites x rows | minimum | curve | times | between | half | p | given |\n|---|---|---|---|---|---|---|---|")
    for case, federations in [*cases, ("demo hospitals", [hospitals()])]:
        for name, found in measured(federations):
            ps = [p for *_, p in found if p is not None]
            worst = f"{max(ps):.2g}" if ps else "-"
            times = f"{np.mean([times for _, times, *_ in found]):.0f}"
            curve, between, half = (f"{max(one[i] for one in found):.2g}" for i in (0, 2, 3))
            half = half if name == "on the total" else "-"  # at each node the times that are told are off themselves
            row = (case, name, curve, times, between, half, worst, f"{len(ps) / len(found):.2f}")
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
