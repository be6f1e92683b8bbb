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
Wu et al. 2012, "Grid binary logistic regression (GLORE)", for the sums of sites; Albert and Anderson 1984, "On the
existence of maximum likelihood estimates in logistic regression models", for fits that do not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np

from hanse.codec import ArrayOf, encode
from hanse.config import RunConfig
from hanse.convex import Convex
from hanse.curvature import Curvature
from hanse.errors import ConfigError, DataError, RunFailed, Unusable
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.learning import evaluation
from hanse.learning import rows as preparation
from hanse.learning.averaging import evaluate
from hanse.learning.results import result_of
from hanse.messages import Array, Json, Record
from hanse.queries import MINIMUM
from hanse.registry import find
from hanse.settings import Setting, whole
from hanse.task import Task
from hanse.typed import Typed

TAKES = "sums"
DEFAULT = True
EXACT = True
SETTINGS = {
    "max_iterations": Setting(100, "exchanges after which an exact fit that has not converged ends", whole(1, 10_000)),
}
MOST_PARAMETERS = 4000  # the Hessian of so many takes 128 MB
DECREMENT = 1e-20  # of one row: what a further step could gain is below the rounding of the sums
NEARLY = 1e-15  # of one row: small enough to end, where further steps do not make it smaller
_SHORTEST = 2.0**-20  # a step that is shorter goes nowhere
_LATE = 1e-6  # decrement of a row from which a fit that exists is reached within two or three steps
_ROUNDING = 1e-13  # of a row: a decrement below it may be what rounding left
_CREEPING = 4  # late steps of which none gained much less than the one before: there is no fit to arrive at


def ingredients(options: Mapping[str, Json]) -> list[str]:
    """Modules of the node's half beside the model's, for the bundle."""
    return ["hanse.convex"]


def most_steps(config: RunConfig) -> int:
    """An exchange for each iteration, and the one that finds it at its end."""
    most: int = config.to_json().get("max_iterations") or SETTINGS["max_iterations"].default
    return most + 1


Theta = Annotated[Array, ArrayOf("float64", "outputs", "width")]


@dataclass(frozen=True, slots=True)
class Fit:
    """How well the parameters fit that were asked for last.

    Args:
        objective: the loss of all rows with the penalty.
        loss: without it.
        rows: of the sites that answered, which are ``nodes``.
        rank: of the curvature.
        decrement: what a further step could gain, twice.
        converged: whether that is nothing.
    """

    objective: float
    loss: float
    rows: float
    nodes: tuple[str, ...]
    rank: int
    decrement: float
    converged: bool


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        prepared: the result of the preparation.
        most: exchanges.
        theta: the parameters, as the method has them; ``model``: as the model names them.
        round: so many exchanges are done.
        history: an entry of metrics for each.
        step: t, the length of the last step.
        fit: at ``base``; ``hessian``: of its loss.
        base, direction: θ and p that ``theta`` was reached from, while the method goes on.
        creeping: how many late steps gained hardly less than the one before.
        reason: why it has ended.
    """

    prepared: Record
    model_name: str
    options: Mapping[str, Json]
    most: int
    theta: Theta
    model: Mapping[str, Array] = field(default_factory=dict)
    phase: Literal["train", "done"] = "train"
    round: int = 0
    history: tuple[Mapping[str, Json], ...] = ()
    step: float = 1.0
    fit: Fit | None = None
    hessian: Annotated[Array, ArrayOf("float64", "parameters", "parameters")] | None = None
    base: Theta | None = None
    direction: Theta | None = None
    creeping: int = 0
    reason: str = ""

    @property
    def task(self) -> Task:
        """What is learned."""
        return preparation.task(self.prepared)

    @property
    def separated(self) -> bool:
        """Whether some coefficient has no finite estimate (Albert and Anderson 1984: quasi-complete separation).
        Towards a fit that exists Newton's steps gain the square of what the one before did, whatever the units; along
        a direction in which the loss falls for ever the curvature falls with the gradient, and each gains 1/e of
        it."""
        return self.creeping >= _CREEPING

    @property
    def adapter(self) -> Any:
        """The model's adapter."""
        return find("models", self.model_name).build(self.task, self.options)

    def at(self, theta: Array, **changed: Any) -> State:
        """The state with its parameters at ``theta``, as the method and as the model have them."""
        return replace(self, theta=theta, model=self.adapter.parameters(theta), **changed)

    def ended(self, theta: Array, reason: str, **changed: Any) -> State:
        """The last state."""
        return self.at(theta, phase="done", reason=reason, base=None, direction=None, **changed)


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: the sums of its rows at ``theta``."""

    prepared: Record
    theta: Theta


class Newton:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """All parameters zero, or the intercept where the model has its fits begin."""
        if previous is None:
            raise ConfigError("an exact fit follows the preparation; build the run with hanse.algorithms.build")
        state = State(
            previous, config["model_name"], config["model_options"], config["max_iterations"], theta=np.zeros((0, 0))
        )
        convex: Convex = state.adapter.convex
        if convex.size > MOST_PARAMETERS:
            raise ConfigError(
                f"an exact fit has at most {MOST_PARAMETERS} parameters, this one has {convex.size}; choose fewer "
                "features, or an algorithm that averages (federated_strategy fedavg)"
            )
        return state.at(convex.start(float(previous.arrays["target_mean"][0])))

    def begun(self, state: State, start: Record) -> State:
        """``state`` at the parameters of ``start``: the fit is the same, and takes fewer steps where it is near."""
        for name, array in state.model.items():
            known = start.arrays.get(f"model.{name}")
            if known is None or known.shape != array.shape:
                raise ConfigError(f"initial_model has no {name} of shape {array.shape}")
            if not np.isfinite(known).all():
                raise ConfigError(f"initial_model has parameters that are not finite ({name})")
        coef, intercept = (start.arrays[f"model.{name}"] for name in ("coef", "intercept"))
        return state.at(np.column_stack([np.atleast_2d(coef), intercept]))

    def ask(self, state: State) -> Ask | Done:
        """The sums at θ, and how well it does on the rows held out."""
        if state.phase == "done":
            return Done(state.reason)
        return Ask(
            encode(Question(state.prepared, state.theta)),
            Combine.SUM,
            "train",
            state.round + 1,
            counts={**state.task.of.counts, "rows": None},
            arrays=state.adapter.convex.shapes(),
            sums=state.task.of.shapes(state.task),
        )

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half: sums over its training rows, and metrics on the others."""
        prepared, task = ask.prepared, preparation.task(ask.prepared)
        model = find("models", site.config["model_name"]).build(task, site.config["model_options"])
        rows = preparation.rows(site, prepared)
        y = rows.y[rows.train]
        if why := model.convex.unfit(y, max(1, int(site.owner.get("minimum_cell", MINIMUM)))):
            raise DataError(why)
        if model.convex.scaled:
            y = (y - prepared.arrays["target_mean"]) / prepared.arrays["target_scale"]
        with np.errstate(over="ignore", invalid="ignore"):
            found = model.convex.sums(ask.theta, rows.X[rows.train], y, site.progress)
        sums, metrics = evaluate(model, model.parameters(ask.theta), rows, prepared, in_units=not model.convex.scaled)
        n = len(rows.train)
        metrics = {**metrics, "n": float(n), "n_test": float(len(rows.test))}
        if n:
            metrics["train_loss"] = float(found["loss"][0]) / n
        return Contribution(Record({}, found), 1.0, sums, metrics, Combine.SUM)

    def tell(self, state: State, gathered: Gathered) -> State:
        """A step back where the last one did not fit better, else the next one; or the end."""
        convex: Convex = state.adapter.convex
        found, theta, done = gathered.sum(), state.theta, state.round
        entry = evaluation.summary(gathered, state.task, done)
        state = replace(state, round=done + 1, history=evaluation.appended(state.history, entry))
        _check(found, convex, gathered)
        loss, gradient, hessian = convex.objective(found, theta)
        rows, nodes = float(found["rows"][0]), tuple(a.node for a in gathered.answers)
        before, last = state.fit, done + 1 >= state.most
        alike = before if before is not None and before.nodes == nodes else None  # other sites' losses say nothing
        if alike is not None and not loss <= alike.objective + 1e-13 * (abs(alike.objective) + rows):
            step, base, direction = state.step / 2, state.base, state.direction
            if base is None or direction is None:
                raise RunFailed("the state of the exact fit has a fit and no step that led away from it")
            if step < _SHORTEST or last:
                fit = replace(alike, converged=False)
                return state.ended(base, f"not converged: no step of {done} fits better", fit=fit)
            return state.at(_moved(base, direction, step), step=step)
        curvature = Curvature.of(hessian)
        direction = -curvature.solve(gradient).reshape(theta.shape)
        decrement = -float(direction.ravel() @ gradient)
        still = alike is not None and decrement <= NEARLY * rows and decrement >= alike.decrement / 4
        converged = decrement <= DECREMENT * rows or still
        fit = Fit(loss, float(found["loss"][0]), rows, nodes, curvature.rank, decrement, converged)
        creeps = alike is not None and _ROUNDING * rows < alike.decrement / 5 < decrement < _LATE * rows
        creeping = 0 if alike is None or convex.penalty else state.creeping + creeps
        state = replace(state, fit=fit, hessian=found["hessian"], creeping=creeping)
        if converged:
            counted = np.ones(theta.shape, bool)
            counted[:, -1] = not convex.dispersed  # least squares: the shortest coefficients, whatever the intercept
            theta = curvature.shortest(theta.ravel(), (counted & convex.learned()).ravel()).reshape(theta.shape)
            ended = f"no finite fit: ended after {done} steps" if state.separated else f"converged after {done} steps"
            return state.ended(theta, ended)
        if last:
            return state.ended(theta, f"not converged after {done} steps")
        return state.at(_moved(theta, direction, 1.0), step=1.0, base=theta, direction=direction)

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, history, best, round, fit}``; arrays ``model.*``,
        ``prepared.*`` and ``fit.hessian`` (size, size), that of the loss at the fit. ``fit`` says whether it
        ``converged``, of which ``nodes`` and how many ``rows`` it is, and its ``loss`` and ``rank``; and, only where
        some coefficients have no finite estimate, that it is ``separated``."""
        rated = [h for h in state.history if h.get("loss") is not None]
        apart = {"separated": True} if state.separated else {}
        found = result_of(
            __name__.rpartition(".")[2],
            state.prepared,
            state.model_name,
            state.options,
            state.model,
            history=state.history,
            best=min(rated, key=lambda h: h["loss"])["round"] if rated else None,
            round=state.round,
            fit=None if state.fit is None else {**asdict(state.fit), "nodes": list(state.fit.nodes)} | apart,
        )
        return found if state.hessian is None else Record(found.data, {**found.arrays, "fit.hessian": state.hessian})

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Those of the parameters that were asked for last, and how near they are to the fit."""
        if not state.history or state.fit is None:
            return {}
        near = {"objective": state.fit.objective / state.fit.rows, "decrement": state.fit.decrement}
        ends, sites = state.phase == "done", state.history[-1].get("sites")
        odd = [state.adapter.convex.without_end] if ends and state.separated else []
        if ends and sites:
            odd.append(f"the fit is of the rows of {sites['answered']} of {sites['of']} sites; failures say why")
        return {**evaluation.shown(state.history, ends), **near, **({"warnings": odd} if odd else {})}


ALGORITHM = Typed(Newton(), State, Question)


def _moved(theta: Array, direction: Array, step: float) -> Array:
    return np.asarray(theta + step * direction)


def _check(found: Mapping[str, Array], convex: Convex, gathered: Gathered) -> None:
    """Raises ``RunFailed`` where there is nothing to fit, ``Unusable`` where the sums cannot be those of rows."""
    if float(found["rows"][0]) <= 0:
        raise RunFailed("no site that answered has a training row")
    if (np.diag(found["hessian"]) < 0).any():
        raise Unusable({a.node: "the curvatures of all sites add to less than nothing" for a in gathered.answers})
    if why := convex.impossible(found):
        raise RunFailed(why)
