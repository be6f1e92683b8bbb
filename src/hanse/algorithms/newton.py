"""The exact fit of convex models, by Newton's method on sums over all sites.

With parameters θ and the loss L(θ) = Σ_k L_k(θ) over the rows of all sites, each exchange asks all sites for
L_k, its gradient and its Hessian at θ (:mod:`hanse.convex`), adds them up, and moves::

    p = -(H + Λ)⁻ (G + Λ θ)          θ ← θ + t p,   t = 1, halved while L + penalty does not fall

Λ is the penalty's diagonal, applied once to the whole and not at each site. The sums are those of pooled rows, so the
steps and the fit are those of pooled rows too, however the rows lie. It ends where the squared Newton decrement
-p·(G + Λθ) shows that nothing is left to gain; a model of squared loss takes two steps, a logistic one six to nine.

A step never compares losses, or takes gradients and Hessians, of different sites: where a site is lost or comes back,
the method goes on from θ for the sites that are there, and the fit is that of the sites that answered last.

What leaves a site are sums over its training rows: for squared loss the Hessian is the table of products of
columns (what ``covariance`` of the statistics tells), for others the same table weighted by the curvature.

References: Boyd and Vandenberghe 2004, "Convex Optimization", section 9.5 (the damped method and its decrement);
Wu et al. 2012, "Grid binary logistic regression (GLORE)", for the sums of sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hanse.config import RunConfig
from hanse.convex import Convex
from hanse.curvature import Curvature
from hanse.errors import ConfigError, DataError, RunFailed, Unusable
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, State
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.learning.averaging import evaluate
from hanse.messages import Array, Json, Record
from hanse.registry import find
from hanse.settings import Setting, whole
from hanse.task import Task

TAKES = "sums"
DEFAULT = True
SETTINGS = {
    "max_iterations": Setting(100, "exchanges after which an exact fit that has not converged ends", whole(1, 10_000)),
}
MOST_PARAMETERS = 4000  # the Hessian of so many takes 128 MB
DECREMENT = 1e-20  # of one row: what a further step could gain is below the rounding of the sums
NEARLY = 1e-15  # of one row: small enough to end, where further steps do not make it smaller
_SEPARATED = 1e-5  # loss of a row: a fit that tells all rows apart so surely goes on without end
_SHORTEST = 2.0**-20  # a step that is shorter goes nowhere


def ingredients(options: Mapping[str, Json]) -> list[str]:
    """Modules of the node's half beside the model's, for the bundle."""
    return ["hanse.convex"]


def most_steps(config: RunConfig) -> int:
    """An exchange for each iteration, and the one that finds it at its end."""
    most: int = config.to_json().get("max_iterations") or SETTINGS["max_iterations"].default
    return most + 1


class Newton:
    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        if previous is None:
            raise ConfigError("an exact fit follows the preparation; build the run with hanse.algorithms.build")
        prepared, arrays = preparation.pack(previous)
        data = {
            **prepared,
            "phase": "train",
            "round": 0,
            "most": config["max_iterations"],
            "history": [],
            "model_name": config["model_name"],
            "options": config["model_options"],
            "step": 1.0,
            "fit": None,
            "reason": "",
        }
        state = Record(data, arrays)
        model, convex = _model(state), _model(state).convex
        if convex.size > MOST_PARAMETERS:
            raise ConfigError(
                f"an exact fit has at most {MOST_PARAMETERS} parameters, this one has {convex.size}; choose fewer "
                "features, or an algorithm that averages (federated_strategy fedavg)"
            )
        return _at(state, data, np.zeros((convex.outputs, convex.features + 1)), model)

    def begun(self, state: State, start: Record) -> State:
        """``state`` at the parameters of ``start``: the fit is the same, and takes fewer steps where it is near."""
        model = _model(state)
        known = {f"model.{name}": array for name, array in model.parameters(state.arrays["theta"]).items()}
        for name, array in known.items():
            if name not in start.arrays or start.arrays[name].shape != array.shape:
                raise ConfigError(f"initial_model has no {name.removeprefix('model.')} of shape {array.shape}")
            if not np.isfinite(start.arrays[name]).all():
                raise ConfigError(f"initial_model has parameters that are not finite ({name.removeprefix('model.')})")
        coef, intercept = (start.arrays[f"model.{name}"] for name in ("coef", "intercept"))
        return _at(state, state.data, np.column_stack([np.atleast_2d(coef), intercept]), model)

    def ask(self, state: State) -> Ask | Done:
        if state.data["phase"] == "done":
            return Done(str(state.data["reason"]))
        task = _task(state)
        arrays = {n: state.arrays[n] for n in state.arrays if n == "theta" or n.startswith("prepared.")}
        return Ask(
            Record({"prepared": state.data["prepared"]}, arrays),
            Combine.SUM,
            "train",
            state.data["round"] + 1,
            counts={**task.of.counts, "rows": None},
            arrays=_model(state).convex.shapes(),
            sums=task.of.shapes(task),
        )

    def answer(self, site: Site, ask: Record) -> Contribution:
        prepared = preparation.unpack(ask)
        task = preparation.task(prepared)
        model = find("models", site.config["model_name"]).build(task, site.config["model_options"])
        rows = preparation.rows(site, prepared)
        theta = np.asarray(ask.arrays["theta"], np.float64)
        y = rows.y[rows.train]
        if (y < model.convex.lowest).any():
            raise DataError("the target has values below zero, which is no count and no rate")
        if model.convex.scaled:
            y = (y - prepared.arrays["target_mean"]) / prepared.arrays["target_scale"]
        with np.errstate(over="ignore", invalid="ignore"):
            found = model.convex.sums(theta, rows.X[rows.train], y, site.progress)
        sums, metrics = evaluate(model, model.parameters(theta), rows, prepared, in_units=not model.convex.scaled)
        n = len(rows.train)
        metrics = {**metrics, "n": float(n), "n_test": float(len(rows.test))}
        if n:
            metrics["train_loss"] = float(found["loss"][0]) / n
        return Contribution(Record({}, found), 1.0, sums, metrics)

    def tell(self, state: State, gathered: Gathered) -> State:
        model, theta = _model(state), np.asarray(state.arrays["theta"], np.float64)
        convex: Convex = model.convex
        found = gathered.sum()
        done = state.data["round"]
        data = {
            **state.data,
            "round": done + 1,
            "history": [*state.data["history"], evaluation.summary(gathered, _task(state), done)],
        }
        _check(found, convex, gathered)
        loss, gradient, hessian = convex.objective(found, theta)
        rows, nodes = float(found["rows"][0]), [a.node for a in gathered.answers]
        before, last = state.data["fit"], done + 1 >= state.data["most"]
        same = before is not None and before["nodes"] == nodes  # losses of other sites say nothing of this step
        if same and not loss <= before["objective"] + 1e-13 * (abs(before["objective"]) + rows):
            step = state.data["step"] / 2
            if step < _SHORTEST or last:
                data["fit"] = {**before, "converged": False}
                return _ended(state, data, state.arrays["base"], model, f"not converged: no step of {done} fits better")
            theta = _moved(state.arrays["base"], state.arrays["direction"], step)
            return _at(state, {**data, "step": step}, theta, model)
        curvature = Curvature.of(hessian)
        direction = -curvature.solve(gradient).reshape(theta.shape)
        decrement = -float(direction.ravel() @ gradient)
        still = same and decrement <= NEARLY * rows and decrement >= before["decrement"] / 4
        converged = decrement <= DECREMENT * rows or still
        data["fit"] = {
            "objective": loss,
            "loss": float(found["loss"][0]),
            "rows": rows,
            "nodes": nodes,
            "rank": curvature.rank,
            "decrement": decrement,
            "converged": converged,
        }
        kept = Record(state.data, {**state.arrays, "fit.hessian": found["hessian"]})
        if converged:
            counted = np.ones(theta.shape, bool)
            counted[:, -1] = not convex.dispersed  # least squares: the shortest coefficients, whatever the intercept
            theta = curvature.shortest(theta.ravel(), (counted & convex.learned()).ravel()).reshape(theta.shape)
            return _ended(kept, data, theta, model, f"converged after {done} steps")
        if last:
            return _ended(kept, data, theta, model, f"not converged after {done} steps")
        kept = Record(state.data, {**kept.arrays, "base": theta, "direction": direction})
        return _at(kept, {**data, "step": 1.0}, _moved(theta, direction, 1.0), model)

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, history, best, round, fit}``; arrays ``model.*``,
        ``prepared.*`` and ``fit.hessian`` (size, size), that of the loss at the fit. ``fit`` says whether it
        ``converged``, of which ``nodes`` and how many ``rows`` it is, and its ``loss`` and ``rank``."""
        history = state.data["history"]
        rated = [h for h in history if h.get("loss") is not None]
        data = {
            "algorithm": __name__.rpartition(".")[2],
            "task": state.data["prepared"]["task"],
            "history": history,
            "best": min(rated, key=lambda h: h["loss"])["round"] if rated else None,
            **{k: state.data[k] for k in ("model_name", "options", "prepared", "round", "fit")},
        }
        return Record(data, {n: a for n, a in state.arrays.items() if n not in ("theta", "base", "direction")})

    def metrics(self, state: State) -> Mapping[str, Json]:
        history, fit = state.data["history"], state.data["fit"]
        if not history or fit is None:
            return {}
        shown = {k: v for k, v in history[-1].items() if k != "round"}
        objective = fit["objective"] / fit["rows"]
        return {"evaluated_round": history[-1]["round"], **shown, "objective": objective, "decrement": fit["decrement"]}


ALGORITHM = Newton()


def _task(state: State) -> Task:
    return preparation.task(preparation.unpack(state))


def _model(state: State) -> Any:
    return find("models", state.data["model_name"]).build(_task(state), state.data["options"])


def _moved(theta: Array, direction: Array, step: float) -> Array:
    return np.asarray(theta + step * direction)


def _at(state: State, data: Mapping[str, Json], theta: Array, model: Any) -> State:
    """The state with its parameters at ``theta``, as the method and as the model have them."""
    named = {f"model.{name}": array for name, array in model.parameters(theta).items()}
    return Record(dict(data), {**state.arrays, "theta": theta, **named})


def _ended(state: State, data: Mapping[str, Json], theta: Array, model: Any, reason: str) -> State:
    kept = Record(state.data, {n: a for n, a in state.arrays.items() if n not in ("base", "direction")})
    return _at(kept, {**data, "phase": "done", "reason": reason}, theta, model)


def _check(found: Mapping[str, Array], convex: Convex, gathered: Gathered) -> None:
    """Raises ``RunFailed`` where there is nothing to fit, ``Unusable`` where the sums cannot be those of rows."""
    rows, loss = float(found["rows"][0]), float(found["loss"][0])
    if rows <= 0:
        raise RunFailed("no site that answered has a training row")
    if (np.diag(found["hessian"]) < 0).any():
        raise Unusable({a.node: "the curvatures of all sites add to less than nothing" for a in gathered.answers})
    if not convex.penalty and not convex.dispersed and 0 <= loss < _SEPARATED * rows:
        raise RunFailed(
            "the features separate the classes without an error, so no unpenalised fit exists; set a penalty (C) or "
            "leave features out"
        )
