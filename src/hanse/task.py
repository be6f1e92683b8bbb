"""What is to be learned: a task that the federation has settled, and what a kind of task says of itself
(:mod:`hanse.tasks`)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hanse.errors import ConfigError
from hanse.kinds import Shapes
from hanse.messages import Array, Json
from hanse.registry import find
from hanse.table import Column, canonical_name, label_values

PROBABILITIES, NUMBER, HAZARD = "probabilities", "number", "hazard"


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learned: settled by the federation before training.

    Args:
        kind: a name of :mod:`hanse.tasks`.
        features: column names of the design matrix, in order.
        classes: class labels in order (empty where the target is no class); the same at every site, also at
            one that has never seen some of them.
        text: whether labels that read as numbers are text at the sites ('0' and '1'), and stay so.
    """

    kind: str
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()
    text: bool = False

    @staticmethod
    def of_json(found: Mapping[str, Any]) -> Task:
        """From what :meth:`to_json` made."""
        return Task(found["kind"], tuple(found["features"]), tuple(found["classes"]), bool(found.get("text", False)))

    def to_json(self) -> dict[str, Json]:
        """As it stands in a run's result; ``text`` only where it says something."""
        told: dict[str, Json] = {"kind": self.kind, "features": list(self.features), "classes": list(self.classes)}
        return told | ({"text": True} if self.text else {})

    @property
    def labels(self) -> Array:
        """The classes as the values that stand in the data: numbers where they are numbers there."""
        return np.array(self.classes) if self.text else label_values(self.classes)

    @property
    def of(self) -> Learnable:
        """What the task's file says of it."""
        return _learnable(self.kind)

    @property
    def predicts(self) -> str:
        """What a model has to predict (:mod:`hanse.tasks`)."""
        return self.of.predicts

    @property
    def outputs(self) -> int:
        """Columns of a prediction: one, or one for each class."""
        return self.of.outputs(self)

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of a prediction for so many rows: (rows,), or (rows, outputs)."""
        return self.of.shape(self, rows)


ROWS = "measured"  # how many rows were measured, beside sums in which each counts by its weight
ROUNDED = 1 + 1e-9  # sums of weights are exact up to rounding


def each_row(y: Array, weight: Array | None) -> Array:
    """(n,) float64: what each row of the targets counts for; None: 1."""
    return np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)


def count(number: float) -> int | float:
    """A sum of weights as people read it: whole where it is.

    >>> count(3.0), count(2.5)
    (3, 2.5)
    """
    return int(number) if float(number).is_integer() else float(number)


@functools.lru_cache(64)
def _learnable(kind: str) -> Learnable:  # asked several times for each answer of each site
    found: Learnable = find("tasks", kind).TASK
    return found


@dataclass(frozen=True, slots=True)
class Settled:
    """What the sites' reports come to: a name of :mod:`hanse.tasks`, and the classes where there are any;
    ``text`` as of :class:`Task`."""

    kind: str
    classes: tuple[str, ...] = ()
    text: bool = False


def named(target: str, *meanings: str) -> tuple[str, ...]:
    """The columns of a target that stands in several, which ``target`` names with commas between, in the order of
    their ``meanings``. Raises ``ConfigError`` where it names more or fewer, or one twice.

    >>> named("time, event", "time", "event")
    ('time', 'event')
    >>> named("time", "time", "event")
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: the target is 'time'; expected 2 columns with a comma between: time, event
    """
    names = tuple(map(canonical_name, target.split(",")))
    if len(names) != len(meanings) or len(set(names)) != len(names) or not all(names):
        raise ConfigError(
            f"the target is {target!r}; expected {len(meanings)} columns with a comma between: {', '.join(meanings)}"
        )
    return names


class Settling(Protocol):
    """How sites agree on what is learned, from a target that a run names."""

    def columns(self, target: str) -> tuple[str, ...]:
        """The columns that the target stands in: the one of that name, or several (:func:`named`), in an order that
        the task keeps. Raises ``ConfigError`` for a ``target`` that names others than the task takes."""
        ...

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        """What a node tells of its target (no label of fewer than ``atleast`` rows). ``rows``, true or false,
        says whether it has any."""
        ...

    def check(self, said: Mapping[str, Json]) -> None:
        """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what no honest node tells."""
        ...

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        """What is learned, from what all nodes told. Raises ``ConfigError`` where nothing can be."""
        ...


class Learnable(Settling, Protocol):
    """A kind of task: a target, how it is predicted, and how predictions are measured.

    Sums add over sites, so a site sends sums and every metric follows from them.
    """

    @property
    def predicts(self) -> str:
        """What a model has to predict (:mod:`hanse.tasks`)."""
        ...

    @property
    def moments(self) -> int:
        """So many leading columns of the targets are numbers whose mean and scale the sites agree on."""
        ...

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the metrics that a site's own report has too, the loss first; people see these."""
        ...

    @property
    def counts(self) -> Mapping[str, int | None]:
        """The sums that count rows (:attr:`Ask.counts`)."""
        ...

    def target(self, columns: Sequence[Column], task: Task) -> tuple[Array, Array]:
        """The rows that have a usable target, (m,) int64, and their targets: (m,) or (m, c); class indices are
        int64, and are held out for evaluation in the same proportion."""
        ...

    def outputs(self, task: Task) -> int:
        """Columns of a prediction: one, or one for each class."""
        ...

    def shape(self, task: Task, rows: int) -> tuple[int, ...]:
        """Of a prediction for so many rows: (rows,), or (rows, outputs)."""
        ...

    def sums(self, prediction: Array, y: Array, task: Task, center: Array) -> dict[str, Array]:
        """A node's sums. ``center``: near the mean of each number in ``y``, the same at every site, so that
        nothing cancels. ``totals`` begins with the rows and those whose prediction is not finite. A task that may be
        measured with weights takes a fifth argument, ``weight`` (n,) from 0 (None: 1 each): a row is in each sum so
        often."""
        ...

    def shapes(self, task: Task) -> Shapes:
        """Of these sums."""
        ...

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        """Whether these can be the sums of so many rows: one site that lies must not put a number into a
        record that is none."""
        ...

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        """``n``, ``loss`` (lower is better) and the other metrics; null where they are undefined."""
        ...

    def answer(self, prediction: Array, task: Task) -> Array:
        """(n,) labels or values, from a prediction."""
        ...

    def probabilities(self, prediction: Array, task: Task) -> Array:
        """(n, k), in the order of the classes. Raises ``DataError`` where there are none."""
        ...

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """One number, higher is better, as scikit-learn's ``score``."""
        ...
