"""What the strategies of averaging are for: tables and pictures of docs/strategies.md.

*apart*: five sites of 30 to 250 rows and mostly one label each (breast cancer data of scikit-learn, ten columns): a
linear classifier by stochastic gradient descent, one pass a round, and logistic regression by ten iterations of L-BFGS
a round. ``excess``: the pooled objective at θ less its least value.

*attacked*: fifteen sites, three of them lie (``bench/ingredients/gathering/attacked.py``): accuracy on rows that no
site has, and log loss there, of a logistic regression after ten rounds; mean over three splits.

*slow*: ten sites, one ten times slower (500 ms for a training instead of 50): seconds and excess, with and without
waiting for it.

*personal*: six sites, in half of which a column means the opposite: accuracy on each site's held-out rows.

    python bench/strategies.py --pictures docs/images
"""

from __future__ import annotations

import argparse
import asyncio
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

import hanse
from hanse.experiment.simulated_run import SimulatedRun
from hanse.registry import extend

extend(Path(__file__).parent / "ingredients")
TARGET: dict[str, Any] = {"target": "y", "sample_id_column": None}
INK, QUIET, LINE = "#1d2733", "#8796a5", "#e3e8ed"
COLOURS = ("#8796a5", "#c2571a", "#0b6e99", "#2a8a57", "#7a4fa3")
ALPHA = 0.001
APART: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedprox": {"proximal_mu": 1.0},
    "fednova": {},
    "scaffold": {},
    "feddyn": {"feddyn_alpha": 0.1},
}
ROBUST: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "median": {},
    "trimmed_mean": {"trimmed_share": 0.2},
    "norm_bound": {},
    "geometric_median": {},
    "krum": {"byzantine_sites": 3},
    "multi-krum": {"byzantine_sites": 3, "krum_kept": 12},
    "bulyan": {"byzantine_sites": 3},
}
ATTACKS = ("none", "sign flips", "scaling", "labels", "a little is enough")
PERSONAL: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "ditto": {"ditto_lambda": 0.1},
    "fedper": {"own_layers": ["coef"]},
    "fedrep": {"own_layers": ["coef"], "own_epochs": 5},
}
Rows = tuple[Any, Any]


def cancer() -> Rows:
    """(569, 10) standardised inputs, and whether the tumour is malignant."""
    found = load_breast_cancer()
    X = found.data[:, :10]
    return (X - X.mean(0)) / X.std(0), found.target == 0


def sites(X: Any, y: Any, parts: list[Any]) -> dict[str, dict[str, Any]]:
    columns = {f"x{i}": X[:, i] for i in range(X.shape[1])} | {"y": np.where(y, "ill", "well")}
    return {f"site-{i:02d}": {n: v[rows] for n, v in columns.items()} for i, rows in enumerate(parts)}


def apart() -> tuple[Any, Any, list[Any]]:
    """Five sites: sorted by label, with noise, and cut unequally."""
    X, y = cancer()
    order = np.argsort(y + np.random.default_rng(0).normal(0, 0.4, len(y)), kind="stable")
    return X, y, np.split(order, [40, 290, 330, 360])


class Excess:
    """The pooled objective over its least value: mean log loss + α/2 |coef|²."""

    def __init__(self, X: Any, y: Any, alpha: float) -> None:
        from scipy.optimize import minimize

        self.X, self.y, self.alpha = X, y.astype(float), alpha
        start = np.zeros(X.shape[1] + 1)
        self.least = minimize(self._of, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-10}).fun

    def _of(self, w: Any) -> tuple[float, Any]:
        z = self.X @ w[:-1] + w[-1]
        slope = (1 / (1 + np.exp(-z)) - self.y) / len(z)
        value = (np.logaddexp(0, z) - self.y * z).mean() + self.alpha / 2 * (w[:-1] ** 2).sum()
        return float(value), np.append(slope @ self.X + self.alpha * w[:-1], slope.sum())

    def __call__(self, result: Any) -> float:
        arrays, sign = result.record.arrays, -1.0  # the classes are sorted: ill, well
        mean, scale = arrays["prepared.mean"], arrays["prepared.scale"]
        coef = sign * arrays["model.coef"][0] / scale
        w = np.append(coef, sign * arrays["model.intercept"][0] - coef @ mean)
        return self._of(w)[0] - self.least


SGD: dict[str, Any] = {"model": "sgd_classifier", "model_options": {"alpha": ALPHA}, "learning_rate": 0.01}
PANELS: dict[str, dict[str, Any]] = {
    "one pass of SGD a round": SGD,
    "ten iterations of L-BFGS a round": {"model": "logistic_regression", "local_epochs": 10},
}


def measure_apart(rounds: int, panel: str) -> dict[str, list[float]]:
    """Strategy to its excess after each round."""
    X, y, parts = apart()
    # a site's penalty counts for its own rows: of all, once for each site
    excess = Excess(X, y, ALPHA if PANELS[panel] is SGD else len(parts) / len(y))
    found = {}
    with hanse.simulate(sites(X, y, parts)) as federation:
        for name, settings in APART.items():
            experiment = federation.experiment(
                federated_strategy=name, rounds=rounds, test_fraction=0.0, **PANELS[panel], **TARGET, **settings
            )
            result = experiment.run(progress=False, global_evaluate=lambda _, model: {"excess": excess(model)})
            found[name] = [entry["excess"] for entry in result.central]
    return found


def attacked(X: Any, y: Any, seed: int, strategy: str, settings: dict[str, Any], attack: str) -> Any:
    """(accuracy, log loss) of rows that no site has."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    test, train = order[:119], order[119:]
    train = train[np.argsort(y[train] + rng.normal(0, 1.0, len(train)), kind="stable")]
    parts = np.array_split(train, 15)
    parts = [parts[i] for i in rng.permutation(15)]
    frames = sites(X, y, parts)
    if attack == "labels":
        for name in sorted(frames)[-3:]:
            frames[name]["y"] = np.where(frames[name]["y"] == "ill", "well", "ill")
    with hanse.simulate(frames) as federation:
        result = federation.experiment(
            model="logistic_regression",
            federated_strategy="krum" if strategy == "multi-krum" else strategy,
            rounds=10,
            local_epochs=2,
            test_fraction=0.0,
            gathering="attacked",
            gathering_fallback="attacked",
            attack=attack,
            liars=0 if attack == "none" else 3,
            **TARGET,
            **settings,
        ).run(progress=False)
    ill = result.predictor().predict_proba({f"x{i}": X[test, i] for i in range(X.shape[1])})[:, 0]
    right = np.clip(np.where(y[test], ill, 1 - ill), 1e-12, 1)
    return np.array([(right > 0.5).mean(), -np.log(right).mean()])


def measure_attacked(splits: int) -> dict[str, dict[str, Any]]:
    """Strategy to attack to (accuracy, log loss)."""
    X, y = cancer()
    return {
        name: {
            attack: np.mean(
                [attacked(X, y, seed, name, settings, attack) for seed in range(splits)],
                axis=0,
            )
            for attack in ATTACKS
        }
        for name, settings in ROBUST.items()
    }


def measure_slow(rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Strategy to the seconds at which each round ended, and its excess then."""
    X, y = cancer()
    order = np.random.default_rng(1).permutation(len(y))
    frames, excess = sites(X, y, np.array_split(order, 10)), Excess(X, y, ALPHA)
    found = {}
    for name, count, settings in (
        ("fedavg", rounds, {}),
        ("fedbuff", 5 * rounds, {"buffer_size": 5}),
    ):
        with Slowly(frames) as federation:
            times: list[float] = []
            begun = time.perf_counter()
            experiment = federation.experiment(
                federated_strategy=name,
                rounds=count,
                test_fraction=0.0,
                **SGD,
                **TARGET,
                **settings,
            )

            def seen(
                number: int,
                model: Any,
                times: list[float] = times,
                begun: float = begun,
            ) -> dict[str, float]:
                times.append(time.perf_counter() - begun)
                return {"excess": excess(model)}

            result = experiment.run(progress=False, global_evaluate=seen)
            found[name] = (
                [t - times[0] for t in times],
                [entry["excess"] for entry in result.central],
            )
    return found


class Slowly:
    """A simulation whose sites take 50 ms for a training besides their arithmetic, and one of them 500."""

    def __init__(self, frames: dict[str, Any]) -> None:
        self.frames, self.handle = frames, SimulatedRun._handle

    def __enter__(self) -> Any:
        inner, slow = self.handle, sorted(self.frames)[-1]

        async def handle(run: Any, crew: Any, node: str, peer: str, message: Any, progress: Any) -> Any:
            if message.body.data["ask"].get("of", {}).get("phase") == "train":
                await asyncio.sleep(0.5 if node == slow else 0.05)
            return await inner(run, crew, node, peer, message, progress)

        SimulatedRun._handle = handle  # type: ignore[method-assign]
        return hanse.simulate(self.frames)

    def __exit__(self, *_: object) -> None:
        SimulatedRun._handle = self.handle  # type: ignore[method-assign]


def measure_personal() -> dict[str, list[float]]:
    """Strategy to the accuracy at each site, least first."""
    frames = {}
    for number in range(6):
        rng = np.random.default_rng(number)
        a, b = rng.normal(size=(2, 200))
        z = (2.0 if number % 2 else -2.0) * a + b + rng.logistic(size=200) * 0.3
        frames[f"site-{number}"] = {"a": a, "b": b, "y": np.where(z > 0, "ill", "well")}
    found = {}
    with hanse.simulate(frames) as federation:
        for name, settings in PERSONAL.items():
            result = federation.experiment(
                model="logistic_regression",
                federated_strategy=name,
                rounds=15,
                local_epochs=2,
                **TARGET,
                **settings,
            ).run(progress=False)
            last = result.rounds[-1]
            found[name] = sorted(float(part["metrics"]["accuracy"]) for part in last.participants.values())
    return found


# ---------------------------------------------------------------- tables and pictures


def table(head: list[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def draw(folder: Path, curves: dict[str, Any], attacks: Any, slow: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 10,
            "axes.edgecolor": LINE,
            "xtick.color": QUIET,
            "ytick.color": INK,
        }
    )
    figure, panels = plt.subplots(1, len(curves) + 1, figsize=(14, 4.2), layout="constrained")
    for panel, (title, found) in zip(panels, curves.items(), strict=False):
        for (name, values), colour in zip(found.items(), COLOURS, strict=True):
            panel.semilogy(values, color=colour, lw=2, label=name)
        panel.set(xlabel="round")
        panel.set_title(f"Five unlike sites, {title}", loc="left", fontweight="bold", fontsize=9)
    for (name, (times, values)), colour in zip(slow.items(), COLOURS, strict=False):
        panels[-1].semilogy(times, values, color=colour, lw=2, label=name)
    panels[-1].set(xlabel="seconds")
    panels[-1].set_title("One of ten sites ten times slower", loc="left", fontweight="bold", fontsize=9)
    panels[0].set_ylabel("pooled objective over its least value")
    for panel in panels:
        panel.legend(frameon=False)
    figure.savefig(folder / "strategies.png", dpi=90)
    plt.close(figure)
    figure, panel = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    values = np.array([[attacks[name][attack][1] for attack in ATTACKS] for name in attacks])
    panel.imshow(values, vmin=0.0, vmax=0.7, cmap="RdYlGn_r", aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        panel.text(
            j,
            i,
            f"{value:.2f}",
            ha="center",
            va="center",
            color="white" if value > 0.6 else INK,
        )
    panel.set_xticks(range(len(ATTACKS)), ["no attack", *ATTACKS[1:]], color=INK)
    panel.set_yticks(range(len(attacks)), list(attacks))
    panel.set_title("Log loss where three of fifteen sites lie", loc="left", fontweight="bold")
    figure.savefig(folder / "robust.png", dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=Path, help="a folder to draw into")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--splits", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    curves = {panel: measure_apart(given.rounds, panel) for panel in PANELS}
    shown = [r for r in (1, 10, given.rounds) if r <= given.rounds]
    table(
        [
            "strategy",
            *(f"passes {passes}, round {r}" for passes in curves for r in shown),
        ],
        [
            [
                f"`{name}`",
                *(f"{found[name][r]:.5f}" for found in curves.values() for r in shown),
            ]
            for name in APART
        ],
    )
    attacks = measure_attacked(given.splits)
    table(
        ["strategy", "no attack", *ATTACKS[1:]],
        [
            [f"`{name}`", *(f"{values[a][0]:.3f}, {values[a][1]:.3f}" for a in ATTACKS)]
            for name, values in attacks.items()
        ],
    )
    slow = measure_slow(20)
    reach = 1.1 * slow["fedavg"][1][-1]
    table(
        ["strategy", "rounds", "seconds", f"seconds to an excess of {reach:.4f}"],
        [
            [
                f"`{n}`",
                str(len(v) - 1),
                f"{t[-1]:.2f}",
                next((f"{s:.2f}" for s, x in zip(t, v, strict=True) if x <= reach), "-"),
            ]
            for n, (t, v) in slow.items()
        ],
    )
    table(
        ["strategy", "mean accuracy", "worst site", "best site"],
        [[f"`{n}`", f"{np.mean(v):.3f}", f"{v[0]:.3f}", f"{v[-1]:.3f}"] for n, v in measure_personal().items()],
    )
    if given.pictures:
        draw(given.pictures, curves, attacks, slow)


if __name__ == "__main__":
    main()
