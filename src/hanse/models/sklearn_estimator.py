'''An estimator of scikit-learn's kind, given as a training plan: text that the data owners read before they agree.

The plan (setting ``plan``: ``{"source": ..., "name": ...}``) is plain Python with a function ``build(task, options)``
that returns an estimator which learns by ``partial_fit``, of scikit-learn or of one's own; ``model_options``, its
hyper-parameters, go to ``build`` as they are.

>>> PLAN = """
... from sklearn.linear_model import SGDClassifier
...
... def build(task, options):
...     return SGDClassifier(loss="modified_huber", alpha=options["alpha"])
... """

It may define

- ``training_data(X, y, batch_size, rng)``: the batches ``(x, y)`` of one pass over the training rows, (n, f) numbers
  and (n,) class indices or targets, each of which is one ``partial_fit``; by default a pass is one call with all rows;
- ``sent(estimator)``: the names of the fitted attributes that are averaged, arrays of numbers or lists of them; by
  default those that there are of ``coef_``, ``intercept_``, ``coefs_`` and ``intercepts_``;
- ``adjust(estimator, learning_rate)``: called before each round's training. Without it the run's ``learning_rate`` has
  no effect: the rates are the estimator's own.

``t_``, by which scikit-learn's rates fall, is averaged too (rounded), so they fall over the rounds as over the passes
of one site. The first parameters are those that ``build`` has set, else zeros for scikit-learn's linear models, else
what one ``partial_fit`` of a row of zeros leaves (of scikit-learn's perceptrons the ones that were drawn). What an
optimiser keeps besides (Adam's moments) begins anew in each round. Random numbers come from ``random_state``, which is
seeded by run, site and round where ``build`` leaves it None.

Terms that a strategy adds to the objective (FedProx, SCAFFOLD) need the size of the steps, so they take scikit-learn's
linear models with ``learning_rate="constant"``. Of an estimator without ``predict_proba`` the probabilities are the
logistic function of ``decision_function`` (softmax for more classes): labels, accuracy and AUC are its own, the loss
and what else takes probabilities are of this function.

References:
    scikit-learn's guide, "Strategies to scale computationally: bigger data", on ``partial_fit``.
'''

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hanse.errors import ConfigError, WireError
from hanse.learning.fitting import task_fits
from hanse.learning.results import (
    in_range,
    labels_of,
    log_loss,
    options_of,
    parameters_of,
    positive,
    seed_of,
    sklearn,
    target_scale,
    task_of,
)
from hanse.messages import Array, Json, Record
from hanse.models import _plan_text
from hanse.models._proximal import proximal_pass
from hanse.researcher_code import kind
from hanse.task import NUMBER, PROBABILITIES, Task
from hanse.training import Learned, Training

NEEDS = "standardised"
LEARNS_BY = ("parameters",)
PREDICTS = (PROBABILITIES, NUMBER)
INITIALISED_BY = "nodes"
_AVERAGE = ("coef_", "intercept_", "coefs_", "intercepts_")
_STEPS = "t_"
_CALLED = "the training plan"


class Estimator:
    """A :class:`hanse.model.Model`. The plan runs at each call."""

    def __init__(self, task: Task, source: str, options: Mapping[str, Json]) -> None:
        self.task, self.source, self.options = task, source, options

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        with self._plan() as plan:
            return self._begun(plan, rng)[1]

    def train(
        self,
        parameters: Mapping[str, Array],
        X: Array,
        y: Array,
        rng: np.random.Generator,
        training: Training,
    ) -> Learned:
        with self._plan() as plan:
            if training.frozen:
                raise ConfigError(
                    "the steps of an estimator move all of its parameters, so that none can stay as it is; choose "
                    "another model for this strategy"
                )
            estimator = self._loaded(plan, parameters, rng)
            if "adjust" in plan:
                plan["adjust"](estimator, training.learning_rate)
            rate = _rate(estimator)
            if rate is None and (training.term is not None or training.gradient):
                raise ConfigError(
                    f"this strategy adds to what a site minimises, for which the size of each step must be known, and "
                    f"{kind(type(estimator))} as it is set does not tell; take a linear model of scikit-learn with "
                    "learning_rate='constant', or a strategy such as fedavg"
                )
            moved = {name: np.zeros_like(a) for name, a in parameters.items()}
            losses: list[float] = []
            for _ in range(training.epochs):
                passed = self._pass(plan, estimator, X, y, rng, training, rate or 0.0)
                moved = {name: a + passed.get(name, 0) for name, a in moved.items()}
                with np.errstate(over="ignore", invalid="ignore"):
                    losses.append(self._loss(estimator, X, y))
                training.progress()
            steps = training.epochs * len(y)
            gradient = None
            if training.gradient and rate is not None:
                gradient = {n: -m / (steps * rate) if m.dtype.kind == "f" else 0 * m for n, m in moved.items()}
            return Learned(_parts(plan, estimator), losses, gradient, steps)

    def _pass(
        self,
        plan: Mapping[str, Any],
        estimator: Any,
        X: Array,
        y: Array,
        rng: np.random.Generator,
        training: Training,
        rate: float,
    ) -> dict[str, Array]:
        """One pass over the training rows. Returns how far the estimator's own steps moved what is learned."""
        if "training_data" in plan and (training.term is not None or training.gradient):
            raise ConfigError("this strategy takes its own mini-batches, so a plan cannot; leave training_data out")
        if training.term is None:
            before = _parts(plan, estimator) if training.gradient else {}
            for rows, targets in self._batches(plan, X, y, training.batch_size, rng):
                with in_range():
                    estimator.partial_fit(rows, targets)
            return {n: a - before[n] for n, a in _parts(plan, estimator).items()} if before else {}

        def steps(rows: Array) -> float:
            with in_range():
                estimator.partial_fit(X[rows], y[rows])
            return rate * len(rows)

        def weights() -> dict[str, Array]:
            return {name: getattr(estimator, name) for name in ("coef_", "intercept_")}

        order = rng.permutation(len(y)) if getattr(estimator, "shuffle", True) else np.arange(len(y))
        return proximal_pass(steps, weights, order, training, training.term)

    def _batches(
        self, plan: Mapping[str, Any], X: Array, y: Array, size: int, rng: np.random.Generator
    ) -> Iterator[tuple[Array, Array]]:
        if "training_data" not in plan:
            yield X, y
            return
        seen = 0
        for batch in plan["training_data"](X, y, size, rng):
            if not isinstance(batch, (tuple, list)) or len(batch) != 2 or len(batch[0]) != len(batch[1]):
                raise ConfigError(
                    f"training_data of {_CALLED} gave a {kind(type(batch))}; expected batches (x, y) of as many rows "
                    "in both"
                )
            if len(batch[1]):
                seen += len(batch[1])
                yield batch[0], batch[1]
        if not seen:
            raise ConfigError(f"training_data of {_CALLED} gave no batch of a pass; expected at least one")

    def _loss(self, estimator: Any, X: Array, y: Array) -> float:
        found = self._predicted(estimator, X)
        if self.task.predicts == NUMBER:
            return float(np.square(found - y).mean())
        return log_loss(found, y, self.task)

    def buffers(self, parameters: Mapping[str, Array]) -> tuple[str, ...]:
        """Names of the arrays that are kept, not learned: counters."""
        return tuple(name for name, array in parameters.items() if array.dtype.kind != "f")

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        with self._plan() as plan:
            return self._predicted(self._loaded(plan, parameters), X)

    def native(self, parameters: Mapping[str, Array], classes: Array | None = None) -> Any:
        """The estimator. ``classes``: what it predicts, in place of class indices."""
        with self._plan() as plan:
            return self._loaded(plan, parameters, classes=classes)

    def without_effect(self) -> tuple[str, ...]:
        """Settings of training that the plan does not heed."""
        with self._plan() as plan:
            rates = () if "adjust" in plan else ("learning_rate", "learning_rate_decay")
            return (*rates, *(() if "training_data" in plan else ("batch_size",)))

    def _plan(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        return _plan_text.names(self.source, _CALLED)

    def _predicted(self, estimator: Any, X: Array) -> Array:
        """As :meth:`hanse.model.Model.predict`."""
        name = kind(type(estimator))
        if self.task.predicts == NUMBER:
            found = np.asarray(estimator.predict(X), np.float64)
        elif hasattr(estimator, "predict_proba"):
            found = np.asarray(estimator.predict_proba(X), np.float64)
            if found.shape != (len(X), len(self.task.classes)):
                raise ConfigError(
                    f"predict_proba of {name} gives shape {found.shape[1:]} for each row; expected "
                    f"{len(self.task.classes)} classes"
                )
            found = positive(found, self.task)
        elif hasattr(estimator, "decision_function"):
            found = _as_probabilities(np.asarray(estimator.decision_function(X), np.float64))
        else:
            raise ConfigError(f"{name} has neither predict_proba nor decision_function, by which classes are measured")
        if found.shape != self.task.shape(len(X)):
            raise ConfigError(
                f"{name} predicts shape {found.shape[1:]} for each row; expected {self.task.shape(0)[1:]}"
            )
        return found

    def _loaded(
        self,
        plan: Mapping[str, Any],
        parameters: Mapping[str, Array],
        rng: np.random.Generator | None = None,
        classes: Array | None = None,
    ) -> Any:
        """The estimator with these parameters."""
        estimator, begun = self._begun(plan, rng or np.random.default_rng(0), classes)
        said, here = ({n: (a.dtype, a.shape) for n, a in of.items()} for of in (parameters, begun))
        if said != here:  # compiled code trusts them
            differing = sorted(n for n in {*said, *here} if said.get(n) != here.get(n))
            raise WireError(f"the parameters are not those of {_CALLED}: {', '.join(differing[:5])}")
        for name in _sent(plan, estimator):
            if isinstance(getattr(estimator, name), (list, tuple)):
                parts = [np.array(parameters[f"{name}.{i}"]) for i in range(len(getattr(estimator, name)))]
                setattr(estimator, name, parts)
            else:
                setattr(estimator, name, np.array(parameters[name]))
        if _STEPS in parameters:
            setattr(estimator, _STEPS, type(getattr(estimator, _STEPS))(parameters[_STEPS][0]))
        return estimator

    def _begun(
        self, plan: Mapping[str, Any], rng: np.random.Generator, classes: Array | None = None
    ) -> tuple[Any, dict[str, Array]]:
        """An estimator that is ready to predict and to be trained further, and the first parameters."""
        estimator = plan["build"](self.task, dict(self.options))
        name, mine = kind(type(estimator)), _of_sklearn(estimator)
        self._check(estimator, name)
        if getattr(estimator, "random_state", 0) is None:
            estimator.random_state = np.random.RandomState(seed_of(rng))
        before = {n: np.copy(a) for n, a in vars(estimator).items() if isinstance(a, np.ndarray)}
        row = np.zeros((1, len(self.task.features)))
        try:
            with _still(estimator):
                if self.task.predicts == NUMBER:
                    estimator.partial_fit(row, np.zeros(1))
                else:
                    all = np.arange(len(self.task.classes)) if classes is None else classes
                    estimator.partial_fit(row, all[:1], classes=all)
        except (ValueError, NotImplementedError) as error:
            if not mine:
                raise
            raise ConfigError(
                f"{name} cannot learn by partial_fit as {_CALLED} sets it: {kind(type(error))}. What needs all rows at "
                "once, such as class_weight='balanced' or early_stopping, cannot be"
            ) from error
        begun = _parts(plan, estimator)
        for part in begun:
            if part in before and before[part].shape == begun[part].shape:
                begun[part] = before[part].astype(begun[part].dtype)
            elif part in ("coef_", "intercept_") and _of_sklearn(estimator, "linear_model"):
                begun[part] = np.zeros_like(begun[part])
            elif part == _STEPS:
                begun[part] = begun[part] - 1
        return estimator, begun

    def _check(self, estimator: Any, name: str) -> None:
        """Raises ``ConfigError`` for what cannot learn so."""
        if not all(callable(getattr(estimator, method, None)) for method in ("partial_fit", "predict")):
            raise ConfigError(
                f"{name} as it is set has no partial_fit, by which an estimator goes on from the average of the sites; "
                "SGDClassifier, SGDRegressor, Perceptron, MLPClassifier and MLPRegressor have it. Forests and boosted "
                "trees are learned as random_forest and xgboost"
            )
        base = sklearn("base")
        other = base.is_classifier if self.task.predicts == NUMBER else base.is_regressor
        if hasattr(estimator, "__sklearn_tags__") and other(estimator):
            raise ConfigError(f"{name} does not fit the task, which is {self.task.kind}; choose the other kind")
        if getattr(estimator, "average", False) and _of_sklearn(estimator, "linear_model"):
            raise ConfigError(
                f"{name} with average keeps more than coef_ and intercept_, which sites cannot go on from; leave "
                "average out"
            )


def _parts(plan: Mapping[str, Any], estimator: Any) -> dict[str, Array]:
    """What travels of a fitted estimator, as copies."""
    found: dict[str, Array] = {}
    for name in _sent(plan, estimator):
        value = getattr(estimator, name)
        parts = {f"{name}.{i}": v for i, v in enumerate(value)} if isinstance(value, (list, tuple)) else {name: value}
        for part, array in parts.items():
            if not isinstance(array, np.ndarray) or array.dtype not in (np.float64, np.float32, np.int64):
                raise ConfigError(
                    f"{part} of {kind(type(estimator))} is no array of float64, float32 or int64, which travel; leave "
                    "it out of sent"
                )
            found[part] = np.array(array)
    steps = getattr(estimator, _STEPS, None)
    if isinstance(steps, (int, float)):
        found[_STEPS] = np.array([steps], np.int64)
    return found


def _sent(plan: Mapping[str, Any], estimator: Any) -> list[str]:
    """The fitted attributes that are averaged."""
    if "sent" not in plan:
        found = [name for name in _AVERAGE if hasattr(estimator, name)]
        if not found:
            raise ConfigError(
                f"{kind(type(estimator))} has nothing that averages: after partial_fit it has none of "
                f"{', '.join(_AVERAGE)}. Choose another estimator, or name in sent(estimator) what averages of it"
            )
        return found
    found = [name for name in plan["sent"](estimator) if isinstance(name, str)]
    missing = [name for name in found if not hasattr(estimator, name)]
    if missing or not found:
        raise ConfigError(
            f"sent of {_CALLED} names {', '.join(missing[:5]) or 'nothing'}; expected attributes that the estimator "
            "has after partial_fit"
        )
    return found


def _of_sklearn(estimator: Any, part: str = "") -> bool:
    """Whether it is scikit-learn's own, or with ``part`` made of one of that part."""
    if not part:
        return type(estimator).__module__.startswith("sklearn.")
    return any(of.__module__.startswith(f"sklearn.{part}") for of in type(estimator).__mro__)


def _rate(estimator: Any) -> float | None:
    """How large the step of one row is; None where it is not known."""
    if _of_sklearn(estimator, "linear_model") and getattr(estimator, "learning_rate", "") == "constant":
        return float(estimator.eta0)
    return None


@contextlib.contextmanager
def _still(estimator: Any) -> Iterator[None]:
    """Perceptrons of scikit-learn take no step here: they keep the weights that they draw, and forget the optimiser."""
    if not _of_sklearn(estimator, "neural_network"):
        yield
        return
    before = estimator.learning_rate_init, estimator.batch_size
    estimator.learning_rate_init, estimator.batch_size = 1e-300, 1
    yield
    estimator.learning_rate_init, estimator.batch_size = before
    vars(estimator).pop("_optimizer", None)


def _as_probabilities(score: Array) -> Array:
    """Of decision values: the logistic function of (n,), the softmax of (n, k)."""
    if score.ndim == 1:
        return 0.5 * (1.0 + np.tanh(0.5 * score))
    raised = np.exp(score - score.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def build(task: Task, options: Mapping[str, Json]) -> Estimator:
    """``options["plan"]`` is the training plan; all others are for the plan's own ``build``."""
    task_fits("sklearn_estimator", task, PREDICTS)
    return Estimator(task, *_plan_text.given("sklearn_estimator", options))


def try_out(task: Task, options: Mapping[str, Json], training: Training) -> tuple[str, ...]:
    """See :mod:`hanse.models`: the plan learns from made-up rows."""
    if importlib.util.find_spec("sklearn") is None:
        return ()
    model, rng = build(task, options), np.random.default_rng(0)
    y = rng.normal(size=24) if task.predicts == NUMBER else np.arange(24) % len(task.classes)
    X = rng.normal(size=(24, len(task.features)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.predict(model.train(model.init(rng), X, y, rng, training).parameters, X)
    return () if training.term is not None else model.without_effect()


def native(result: Record) -> Any:
    """The fitted estimator for the design matrix, with the original labels. **Executes the plan** of the result: load
    only results whose plan you know. A regression's is in the target's own units: a linear model of scikit-learn's own
    itself, another one in a ``TransformedTargetRegressor``."""
    model, parameters = build(task_of(result), options_of(result)), parameters_of(result)
    if task_of(result).predicts != NUMBER:
        return model.native(parameters, labels_of(result))
    mean, scale = target_scale(result)
    found = model.native(parameters)
    if _of_sklearn(found) and _of_sklearn(found, "linear_model"):
        found.coef_, found.intercept_ = found.coef_ * scale, found.intercept_ * scale + mean
        return found
    scaler = sklearn("preprocessing").StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_ = np.array([mean]), np.array([scale]), np.array([scale**2])
    scaler.n_features_in_, scaler.n_samples_seen_ = 1, 1
    whole = sklearn("compose").TransformedTargetRegressor(regressor=found, transformer=scaler)
    whole.regressor_, whole.transformer_, whole._training_dim = found, scaler, 1
    return whole


def predict(result: Record, X: Array) -> Array:
    """As :meth:`hanse.model.Model.predict`. **Executes the plan** of the result."""
    found = build(task_of(result), options_of(result)).predict(parameters_of(result), X)
    if task_of(result).predicts != NUMBER:
        return found
    mean, scale = target_scale(result)
    return found * scale + mean
