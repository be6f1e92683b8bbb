"""The result of a run that learned a model: how it is made, and how its task, parameters and labels are read, and the
scale that a regression learned on.

Gradient models learn a regression target of mean 0 and scale 1 (:mod:`hanse.learning.rows`);
a native model gives predictions in the target's own units, so the scale is folded into it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hanse.errors import ConfigError, NodeFailed
from hanse.learning import evaluation
from hanse.messages import Array, Json, Record
from hanse.task import Task

_AGAIN = (0, 2**31 - 1)  # see :func:`pass_seed`


def result_of(
    algorithm: str,
    prepared: Record,
    model_name: str,
    options: Mapping[str, Json],
    model: Mapping[str, Array],
    *,
    history: Sequence[Mapping[str, Json]],
    best: int | None,
    round: int,
    **more: Json,
) -> Record:
    """Data ``{algorithm, model_name, options, task, prepared, history, best, round}`` and ``more``; arrays ``model.*``
    and ``prepared.*``.

    Args:
        algorithm: name of its file.
        prepared: the result of the preparation.
        model_name, options: the file of the model, and its options.
        model: the arrays of what was learned.
        history: what was measured, an entry each time.
        best: the round of the least loss; None: none was measured.
        round: so many were done.
    """
    data = {
        "algorithm": algorithm,
        "task": prepared.data["task"],
        "history": evaluation.told(history),
        "best": best,
        "model_name": model_name,
        "options": options,
        "prepared": prepared.data,
        "round": round,
        **more,
    }
    parts = {"model": model, "prepared": prepared.arrays}
    return Record(data, {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()})


def task_of(result: Record) -> Task:
    """The task that a run has learned."""
    return Task.of_json(result.data["task"])


def options_of(result: Record) -> Mapping[str, Json]:
    """The model's options of the run, defaults included."""
    options: Mapping[str, Json] = result.data["options"]
    return options


def parameters_of(result: Record, prefix: str = "model.") -> dict[str, Array]:
    """The arrays of the model, without the prefix, as copies that may be changed."""
    return {n.removeprefix(prefix): np.array(result.arrays[n]) for n in result.arrays if n.startswith(prefix)}


def labels_of(result: Record) -> Array:
    """Original class labels, in the order of class indices."""
    return task_of(result).labels


def target_scale(result: Record) -> tuple[float, float]:
    """Mean and scale of the target that the model learned on."""
    return float(result.arrays["prepared.target_mean"][0]), float(result.arrays["prepared.target_scale"][0])


def linear_in_units(result: Record) -> dict[str, Array]:
    """``coef`` and ``intercept`` for the target's own units."""
    mean, scale = target_scale(result)
    found = parameters_of(result)
    return {"coef": found["coef"] * scale, "intercept": found["intercept"] * scale + mean}


def seed_of(rng: np.random.Generator) -> int:
    """A seed for libraries that want a 32-bit number."""
    return int(rng.integers(2**31 - 1))


def pass_seed(rng: np.random.Generator) -> None:
    """Draws as much as :func:`seed_of` does, for who needs no seed, in a third of the time.

    NumPy makes a number below m = 2³¹ - 1 of u, the next 32 bits, and draws again where u m mod 2³² is below 2³² mod m,
    which is 2: where u is 0 or m (Lemire 2019, "Fast random integer generation in an interval", algorithm 5).

    >>> one, other = (np.random.Generator(np.random.PCG64(1)) for _ in range(2))
    >>> pass_seed(one), seed_of(other) > 0, one.permutation(9).tolist() == other.permutation(9).tolist()
    (None, True, True)
    """
    bits = rng.bit_generator.ctypes
    while bits.next_uint32(bits.state) in _AGAIN:
        pass


def positive(probabilities: Array, task: Task) -> Array:
    """From a library's (n, k) probabilities to ours: (n,) of class 1 for binary."""
    wide = np.asarray(probabilities, np.float64)
    return wide[:, 1] if task.outputs == 1 else wide


def log_loss(probability: Array, y: Array, task: Task) -> float:
    """Mean training loss of class probabilities."""
    chosen = np.where(y == 1, probability, 1 - probability) if task.outputs == 1 else probability[np.arange(len(y)), y]
    tiny = np.finfo(np.float64).eps
    return float(-np.log(np.clip(chosen, tiny, 1)).mean())


def sklearn(part: str) -> Any:
    """scikit-learn's module of that name. Raises ``ConfigError`` where it is not installed."""
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError:
        raise ConfigError("scikit-learn is not installed here; pip install 'hanse[node]'") from None


@contextlib.contextmanager
def in_range() -> Iterator[None]:
    """Around scikit-learn's ``partial_fit``: what it says of numbers that are none becomes advice."""
    try:
        yield
    except ValueError as error:
        if "overflow" in str(error) or "non-finite" in str(error):
            raise NodeFailed("local training left the range of numbers; use a smaller learning_rate") from None
        raise
