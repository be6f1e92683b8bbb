"""Who is told how a run goes: MLflow, TensorBoard, Weights & Biases, one file each, and anything of one's own.

A callback is any object with the methods of :class:`Callback`; ``experiment.run(callbacks=[...])`` tells it. It runs
where the data scientist is, sees what they see, and changes nothing. One that fails is told nothing more, with a
warning, and the run goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hanse.experiment import records
from hanse.experiment.results import Result
from hanse.messages import Json
from hanse.rounds import Step


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that is waited for: its ``run_id``, a ``title`` for people, and all its ``settings``."""

    run_id: str
    title: str
    settings: Mapping[str, Json]


class Callback(Protocol):
    """What is told."""

    def began(self, run: Begun) -> None:
        """Once, before all else."""
        ...

    def measured(self, round: int, metrics: Mapping[str, float]) -> None:
        """The model after ``round`` rounds (0: before training) was measured: the federation's metrics; least and
        greatest of the sites (``loss_min``, ``loss_max``), ``nodes``, ``failures`` and ``seconds``; what
        ``global_evaluate`` said, as ``central_loss``. Rounds ascend; of one there may be two
        calls, with other names."""
        ...

    def ended(self, state: str, reason: str, result: Result | None) -> None:
        """Once, after all else: ``completed`` with its result, ``failed``, ``rejected``, or ``left`` where nobody waits
        any more."""
        ...


class Relay:
    """Tells callbacks of one run."""

    def __init__(self, callbacks: Sequence[Callback], run: Begun) -> None:
        self._callbacks, self._of = list(callbacks), dict[int, list[Step]]()  # round to its steps, until it is told
        self._told, self._central = set[int](), 0
        self._each(lambda callback: callback.began(run))

    def step(self, step: Step) -> None:
        """A step has ended: what it measured is told."""
        if not self._callbacks:
            return
        if step.round is not None and step.round not in self._told:
            self._of.setdefault(step.round, []).append(step)
        number = records.evaluated(step)
        if number is None or number in self._told:
            return
        before = [one for one in self._of.get(number, ()) if one is not step]
        row = records.history([*before, step]).get(number)
        if row is not None:
            self._told.add(number)
            self._of.pop(number, None)
            self._measured(number, _flat(row))

    def central(self, entries: Sequence[Mapping[str, Json]]) -> None:
        """What ``global_evaluate`` said so far; what is new of it is told."""
        for entry in entries[self._central :]:
            said = {f"central_{name}": float(v) for name, v in entry.items() if name != "round" and v is not None}
            self._measured(int(entry["round"]), said)
        self._central = len(entries)

    def ended(self, state: str, reason: str, result: Result | None) -> None:
        """Nothing more comes."""
        self._each(lambda callback: callback.ended(state, reason, result))

    def _measured(self, round: int, metrics: Mapping[str, float]) -> None:
        self._each(lambda callback: callback.measured(round, metrics))

    def _each(self, tell: Callable[[Any], None]) -> None:
        for callback in list(self._callbacks):
            try:
                tell(callback)
            except Exception as error:
                self._callbacks.remove(callback)
                name = type(callback).__name__
                warnings.warn(f"{name} failed ({type(error).__name__}: {error}) and is told nothing more", stacklevel=4)


def _flat(row: Mapping[str, Any]) -> dict[str, float]:
    """One row of a history, its spread as numbers of their own."""
    spread = {f"{n}_{end}": v for n, ends in row["spread"].items() for end, v in zip(("min", "max"), ends, strict=True)}
    about = {name: float(row[name]) for name in ("nodes", "failures", "seconds")}
    own = {name: float(v) for name, v in row.items() if name not in records.ABOUT and isinstance(v, (int, float))}
    return {**own, **spread, **about}


def settings_of(run: Begun) -> dict[str, str | int | float | bool]:
    """The settings as flat values, ``{"model_options.alpha": 0.1}``; the source of a plan is left out."""
    flat: dict[str, str | int | float | bool] = {}

    def add(name: str, value: Json) -> None:
        if isinstance(value, Mapping):
            for inner, each in value.items():
                add(f"{name}.{inner}", each)
        elif value is not None and name != "plan.source":
            flat[name] = value if isinstance(value, (str, int, float, bool)) else str(value)

    for name, value in run.settings.items():
        add(name, value)
    return flat
