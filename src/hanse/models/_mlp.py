"""What scikit-learn's two multi-layer perceptrons have in common.

Parameters are ``w0, b0, w1, b1, ...`` (float64). Local training is ``partial_fit``, one pass per
epoch in mini-batches of ``batch_size`` at ``learning_rate``; the optimiser begins anew in each
round, since its moments belong to the site's own path. A term of the objective takes hold between
mini-batches, by a proximal step of size ``learning_rate`` (:mod:`hanse.models._proximal`; with Adam that is apart from
its own scaling, as decoupled weight decay is). The gradient that is told is that of all rows at the parameters of the
federation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hanse.convex import Family, logistic, multinomial, squared
from hanse.learning.results import in_range, positive, seed_of, sklearn
from hanse.messages import Array
from hanse.models._proximal import proximal_pass
from hanse.privacy.clipped_rows import clipped_sums
from hanse.settings import Setting, boolean, number, one_of, wholes
from hanse.task import NUMBER, Task
from hanse.training import Learned, ProximalTerm, Training

SETTINGS = {
    "hidden_layer_sizes": Setting([100], "neurons of each hidden layer", wholes(1, 100_000, 20)),
    "activation": Setting("relu", "of the hidden layers", one_of("relu", "tanh", "logistic", "identity")),
    "solver": Setting("adam", "how the weights are fitted", one_of("adam", "sgd")),
    "alpha": Setting(0.0001, "strength of the L2 penalty", number(0)),
    "momentum": Setting(0.9, "of the solver sgd", number(0, 1)),
    "nesterovs_momentum": Setting(True, "Nesterov's momentum, in the solver sgd", boolean),
    "beta_1": Setting(0.9, "decay of Adam's first moment", number(0, 1, below=True)),
    "beta_2": Setting(0.999, "decay of Adam's second moment", number(0, 1, below=True)),
    "epsilon": Setting(1e-8, "of Adam's denominator", number(0, above=True)),
}

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
    "logistic": lambda z: 0.5 * (1.0 + np.tanh(0.5 * z)),
    "identity": lambda z: z,
}
_SLOPES: dict[str, Callable[[Array], Array]] = {  # from what an activation gives
    "relu": lambda h: (h > 0).astype(np.float64),
    "tanh": lambda h: 1.0 - h * h,
    "logistic": lambda h: h * (1.0 - h),
    "identity": np.ones_like,
}


class Perceptron:
    """A :class:`hanse.model.Model` of either kind; ``task`` says which."""

    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        self.task, self.options = task, options

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        """Glorot's uniform initialisation, with scikit-learn's factors."""
        sizes = [len(self.task.features), *self.options["hidden_layer_sizes"], self.task.outputs]
        factor = 2.0 if self.options["activation"] == "logistic" else 6.0
        found: dict[str, Array] = {}
        for i, (inner, outer) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            bound = np.sqrt(factor / (inner + outer))
            found[f"w{i}"] = rng.uniform(-bound, bound, (inner, outer))
            found[f"b{i}"] = rng.uniform(-bound, bound, outer)
        return found

    def train(
        self,
        parameters: Mapping[str, Array],
        X: Array,
        y: Array,
        rng: np.random.Generator,
        training: Training,
    ) -> Learned:
        model = self._estimator(
            parameters, learning_rate_init=training.learning_rate, batch_size=min(training.batch_size, len(y))
        )
        state = model.random_state = np.random.RandomState(seed_of(rng))
        own = self._gradient(parameters, X, y) if training.gradient else None
        losses: list[float] = []
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(training.epochs):
                if training.term is None and not training.frozen:
                    with in_range():
                        model.partial_fit(X, y)
                    losses.append(float(model.loss_))
                else:
                    order = state.permutation(len(y))
                    losses.append(self._proximal_epoch(model, X, y, order, training, training.term))
                training.progress()
        steps = training.epochs * -(-len(y) // min(training.batch_size, len(y)))
        return Learned(unpack(model), losses, own, steps)

    def _proximal_epoch(
        self, model: Any, X: Array, y: Array, order: Array, training: Training, term: ProximalTerm | None
    ) -> float:
        """One pass with the term and what is frozen; returns the mean loss."""
        total = 0.0

        def steps(rows: Array) -> float:
            nonlocal total
            model.batch_size = len(rows)
            with in_range():
                model.partial_fit(X[rows], y[rows])
            total += float(model.loss_) * len(rows)
            return training.learning_rate

        proximal_pass(steps, lambda: _weights(model), order, training, term)
        return total / len(y)

    def _gradient(self, parameters: Mapping[str, Array], X: Array, y: Array) -> dict[str, Array]:
        """Of the objective over all rows, at ``parameters``: what one plain gradient step of size one changes."""
        plain = {**self.options, "solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False}
        model = Perceptron(self.task, plain)._estimator(parameters, learning_rate_init=1.0, batch_size=len(y))
        with np.errstate(over="ignore", invalid="ignore"), in_range():
            model.partial_fit(X, y)
        after = unpack(model)
        return {name: parameters[name] - after[name] for name in parameters}

    def clipped(self, parameters: Mapping[str, Array], X: Array, y: Array, bound: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        layers = len(parameters) // 2
        into = [X]
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(layers - 1):
                into.append(
                    _ACTIVATIONS[self.options["activation"]](into[-1] @ parameters[f"w{i}"] + parameters[f"b{i}"])
                )
            scores = into[-1] @ parameters[f"w{layers - 1}"] + parameters[f"b{layers - 1}"]
            _, error, _ = self._family(scores, y)
            errors = [error]
            for i in range(layers - 1, 0, -1):
                slope = _SLOPES[self.options["activation"]](into[i])
                errors.insert(0, (errors[0] @ parameters[f"w{i}"].T) * slope)
        found: dict[str, Array] = {}
        for i, (weights, free) in enumerate(clipped_sums(into, errors, bound)):
            found[f"w{i}"], found[f"b{i}"] = weights, free
        return found

    @property
    def _family(self) -> Family:
        if self.task.predicts == NUMBER:
            return squared
        return multinomial if self.task.outputs > 1 else logistic

    def penalty_gradient(self, parameters: Mapping[str, Array], rows: float) -> dict[str, Array]:
        """See ``row_gradients`` of :mod:`hanse.models`."""
        return {name: self.options["alpha"] / rows * w for name, w in parameters.items() if name[0] == "w"}

    def _estimator(self, parameters: Mapping[str, Array], **more: Any) -> Any:
        return estimator(self.task, self.options, parameters, np.arange(len(self.task.classes)), **more)

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        model = self.native(parameters)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.task.predicts == NUMBER:
                return np.asarray(model.predict(X), np.float64)
            return positive(model.predict_proba(X), self.task)

    def native(self, parameters: Mapping[str, Array]) -> Any:
        return self._estimator(parameters)


def estimator(
    task: Task, options: Mapping[str, Any], parameters: Mapping[str, Array], classes: Array, **more: Any
) -> Any:
    """A fitted estimator with these parameters.

    One ``partial_fit`` on a row of zeros makes scikit-learn set up all that it keeps besides the
    weights; the weights are then ours, and the optimiser is forgotten.
    """
    networks = sklearn("neural_network")
    library = networks.MLPRegressor if task.predicts == NUMBER else networks.MLPClassifier
    settings = {**options, "hidden_layer_sizes": tuple(options["hidden_layer_sizes"])}
    model = library(**settings, **{"batch_size": 1, **more}, random_state=0)
    asked = model.get_params()["batch_size"]
    model.batch_size = 1
    row = np.zeros((1, len(task.features)))
    if task.predicts == NUMBER:
        model.partial_fit(row, np.zeros(1))
    else:
        model.partial_fit(row, classes[:1], classes=classes)
    model.batch_size = asked
    del model._optimizer
    count = len(parameters) // 2
    model.coefs_ = [np.array(parameters[f"w{i}"]) for i in range(count)]
    model.intercepts_ = [np.array(parameters[f"b{i}"]) for i in range(count)]
    return model


def unpack(model: Any) -> dict[str, Array]:
    """The parameters of a fitted estimator."""
    return {name: np.array(w) for name, w in _weights(model).items()}


def _weights(model: Any) -> dict[str, Array]:
    """The same, as the estimator's own arrays."""
    found = {f"w{i}": w for i, w in enumerate(model.coefs_)}
    return found | {f"b{i}": b for i, b in enumerate(model.intercepts_)}
