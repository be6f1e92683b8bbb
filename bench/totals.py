"""How far survival is from that of the pooled rows: with the minimum at each node, and on the total of secure sums.

Federations of drawn survival times (exponential with mean 500, 70 % events, two groups that do not differ), and the
four hospitals of the demo (time: the age at which a patient was seen; event: narrowed vessels; groups: men and women),
all at the default minimum of 10 rows. ``curve`` is the largest error of the Kaplan-Meier estimate at the times that are
told and at which 20 or more are at risk, over all draws; ``times`` how many these are in the mean; ``p`` the largest
relative error of the log-rank test's p, and ``given`` the share of draws with one. References: lifelines.

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


def errors(analytics: Any, pooled: dict[str, Any]) -> tuple[float, int, float | None]:
    """Of the curve, over how many times, and of p."""
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import logrank_test

    fit = KaplanMeierFitter().fit(pooled["t"], pooled["e"])
    curve = analytics.kaplan_meier("t", "e")
    far = [
        abs(float(told) - float(fit.predict(time)))
        for time, told in zip(curve["times"], curve["survival"], strict=True)
        if told is not None and (pooled["t"] >= time).sum() >= 20
    ]
    one, two = (pooled["g"] == label for label in sorted(set(pooled["g"].tolist())))
    true = logrank_test(pooled["t"][one], pooled["t"][two], pooled["e"][one], pooled["e"][two]).p_value
    p = analytics.logrank("t", "e", group="g")["p"]
    return max(far, default=0.0), len(far), None if p is None else abs(float(p) / true - 1)


def measured(federations: list[Frames]) -> Iterator[tuple[str, list[tuple[float, int, float | None]]]]:
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
    print("| sites x rows | minimum | curve | times | p | given |\n|---|---|---|---|---|---|")
    for case, federations in [*cases, ("demo hospitals", [hospitals()])]:
        for name, found in measured(federations):
            ps = [p for _, _, p in found if p is not None]
            worst = f"{max(ps):.2g}" if ps else "-"
            times = np.mean([times for _, times, _ in found])
            curve = max(far for far, _, _ in found)
            print(f"| {case} | {name} | {curve:.2g} | {times:.0f} | {worst} | {len(ps) / len(found):.2f} |", flush=True)


if __name__ == "__main__":
    main()
