"""How far averaged models are from the fit on the pooled rows.

The breast cancer data of scikit-learn at three sites, by four splits: ``even``, ``uneven`` (one site has four fifths of
the rows), ``skewed`` (two sites have mostly one label each) and ``sorted`` (by the mean radius, so that each site has
other patients). The same model is learned by averaging over the sites, and once from all rows: a logistic regression by
its exact fit, a perceptron at one site that has them all. ``apart`` is the mean difference of the predicted
probabilities, ``worst`` the largest, on the pooled rows; ``loss`` the log loss there, ``pooled loss`` that of the
fit on them.

    python bench/averaging.py --rounds 50
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np

import hanse

HEADS = ("model", "learned by", "split", "rounds", "apart", "worst", "loss", "pooled loss")
COMMON: dict[str, Any] = {"target": "malignant", "test_fraction": 0.0, "sample_id_column": None}
MLP: dict[str, Any] = {"model_options": {"hidden_layer_sizes": [8]}, "learning_rate": 0.02, "local_epochs": 2}
Frame = dict[str, Any]


def data() -> Frame:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    frame: Frame = {str(name): found.data[:, i] for i, name in enumerate(found.feature_names[:10])}
    return frame | {"malignant": (found.target == 0).astype(float)}


def splits(frame: Frame) -> dict[str, dict[str, Frame]]:
    """Name of a split to site to its rows."""
    rng, y = np.random.default_rng(0), frame["malignant"]
    mixed = rng.permutation(len(y))
    skewed = np.argsort(y + rng.normal(0, 0.4, len(y)), kind="stable")
    by_size = np.argsort(frame["mean radius"], kind="stable")
    cuts = {"even": (mixed, (1 / 3, 2 / 3)), "uneven": (mixed, (0.8, 0.9))}
    cuts |= {"skewed": (skewed, (1 / 3, 2 / 3)), "sorted": (by_size, (1 / 3, 2 / 3))}
    return {
        name: {
            f"site-{i}": {column: values[part] for column, values in frame.items()}
            for i, part in enumerate(np.split(order, [int(len(y) * cut) for cut in at]))
        }
        for name, (order, at) in cuts.items()
    }


def learned(sites: dict[str, Frame], frame: Frame, **settings: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n,) probabilities of the pooled rows by the model of a run."""
    with hanse.simulate(sites) as federation:
        result = federation.experiment(**COMMON, **settings).run(progress=False)
    return np.asarray(result.predictor().predict_proba(frame)[:, 1])


def loss(probability: Any, y: Any) -> float:
    clipped = np.clip(np.where(y == 1, probability, 1 - probability), 1e-15, 1)
    return float(-np.log(clipped).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    frame = data()
    whole = {"all": frame}
    exact = learned(whole, frame, model="logistic_regression")
    runs: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {
        ("logistic_regression", "newton"): (exact, {}),
        ("logistic_regression", "fedavg"): (exact, {"rounds": rounds, "local_epochs": 1}),
        ("sgd_classifier", "fedavg"): (None, {"rounds": rounds, "local_epochs": 1}),
        ("mlp_classifier", "fedavg"): (None, {"rounds": rounds, **MLP}),
    }
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for (model, strategy), (known, settings) in runs.items():
        given = {"model": model, "federated_strategy": strategy, **settings}
        pooled = learned(whole, frame, **given) if known is None else known
        for split, sites in splits(frame).items():
            found = learned(sites, frame, **given)
            apart = np.abs(found - pooled)
            figures = (apart.mean(), apart.max(), loss(found, frame["malignant"]), loss(pooled, frame["malignant"]))
            shown = " | ".join(f"{figure:.2g}" if figure < 0.001 else f"{figure:.4f}" for figure in figures)
            print(f"| {model} | {strategy} | {split} | {settings.get('rounds', '-')} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
