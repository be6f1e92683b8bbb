"""What boosted trees make small: a loss of the margins, its gradient and Hessian, and the margin to begin from
(:mod:`hanse.objectives`).

The gradient and the Hessian of a row are g = w ∂l(y, F)/∂F and h = w ∂²l(y, F)/∂F², with what XGBoost bounds them by.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from hanse.errors import ConfigError
from hanse.messages import Array, Json
from hanse.registry import find, names
from hanse.task import Task

SMALLEST = 1e-16  # of a Hessian, so that no sum of them is 0 where there are rows
_SHARED = ("max_delta_step",)  # a parameter of the trees too, whatever they make small


class Objective(Protocol):
    """An objective for a task. Made by ``build(task, options)`` of its file."""

    @property
    def name(self) -> str:
        """XGBoost's name of it."""
        ...

    @property
    def outputs(self) -> int:
        """Margins of a row, and trees of a round."""
        ...

    @property
    def quantile(self) -> float | None:
        """Where the gradient does not say how far to go: a leaf is this quantile of the residuals y - F of its rows,
        and the first margin that of y. None: leaves are Newton's steps -G / (H + λ), the first margin comes of sums."""
        ...

    @property
    def intervals(self) -> int:
        """Most intervals of time that gradients need sums over (:mod:`hanse.boosting.risk`); 0: a row's are its own.
        Where there are some, ``given(hazard)`` is the same objective for rows whose (n, 2) hazard is known."""
        ...

    @property
    def document(self) -> Mapping[str, Json]:
        """What a model of XGBoost says of it, under ``objective``."""
        ...

    def unfit(self, y: Array) -> str:
        """What is wrong with targets (n,); "" if nothing is."""
        ...

    def gradients(self, margin: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        """(n, outputs) float32 each.

        Args:
            margin: (n, outputs) float32.
            y: (n,) class indices, or numbers.
            weight: (n,) of the rows; None: 1 each.
        """
        ...

    def bounds(self) -> tuple[float | None, float | None]:
        """The largest |g| and h that a row of weight 1 can have; None where they have no bound."""
        ...

    def begin(self, y: Array) -> Array:
        """(n, m) float64: what the sites sum over their rows for :meth:`base`; (n, 0) where a :attr:`quantile` is."""
        ...

    def base(self, totals: Array, rows: float) -> Array:
        """(outputs,) float32: XGBoost's ``base_score``, from the sums of :meth:`begin` over so many rows; from the
        quantile of the targets where a :attr:`quantile` is."""
        ...

    def stated(self, base: float) -> Array:
        """(outputs,) float32: the base score that a run sets. Raises ``ConfigError`` where no margin belongs to it."""
        ...

    def margin(self, base: Array) -> Array:
        """(outputs,) float32: the margins of a base score, which every row begins with."""
        ...

    def predict(self, margin: Array) -> Array:
        """As :meth:`hanse.model.Model.predict`, of (n, outputs) float32 margins: what ``Booster.predict`` says."""
        ...


def chosen(task: Task, options: Mapping[str, Json]) -> Objective:
    """The objective that ``options`` name, or the default one of the task.

    Args:
        options: of :mod:`hanse.boosting.parameters`, with those of all objectives.

    Raises:
        ConfigError: there is none of the name, it does not learn the task, or the task has no default.
    """
    wanted = options.get("objective")
    if wanted is None:
        found = [m for m in _all() if task.kind in m.DEFAULT_FOR]
        if not found:
            fit = ", ".join(m.NAME for m in _all() if m.fits(task)) or "none"
            raise ConfigError(f"no objective is the default of a {task.kind} task; name one as objective: {fit}")
        module = found[0]
    else:
        module = named(str(wanted))
        if not module.fits(task):
            fit = ", ".join(m.NAME for m in _all() if m.fits(task)) or "none"
            raise ConfigError(f"objective {wanted} does not learn a {task.kind} task; those that do: {fit}")
    own = {name: options.get(name, setting.default) for name, setting in module.SETTINGS.items()}
    for other in _all():
        for name, setting in other.SETTINGS.items():
            if name not in own and options.get(name, setting.default) != setting.default and name not in _SHARED:
                raise ConfigError(
                    f"{name} is a parameter of {other.NAME}, and this run learns {module.NAME}; leave it out"
                )
    made: Objective = module.build(task, own)
    return made


def named(name: str) -> Any:
    """The file of an objective. Raises ``ConfigError`` with what may have been meant."""
    known = {m.NAME: m for m in _all()}
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        raise ConfigError(f"there is no objective {name!r} here; {meant}")
    return known[name]


def modules(options: Mapping[str, Json]) -> tuple[str, ...]:
    """The names of the files that a run with these options may use at a node: that of its objective, or those of all
    that are a default, as long as the task is not settled."""
    if options.get("objective") is not None:
        return (named(str(options["objective"])).__name__,)
    return tuple(m.__name__ for m in _all() if m.DEFAULT_FOR)


def _all() -> Sequence[Any]:
    return [find("objectives", name) for name in names("objectives")]


# ---------------------------------------------------------------- parts of objectives


def weighted(g: Array, h: Array, weight: Array | None) -> tuple[Array, Array]:
    """(n, 1) gradients and Hessians of (n,) ones, times the weights of rows."""
    if weight is not None:
        factor = np.asarray(weight, np.float32)
        g, h = g * factor, h * factor
    return g[:, None], h[:, None]


def steady(base: float, link: Callable[[np.float32], float]) -> np.float32:
    """The float32 next to ``base`` whose ``link`` every library rounds to the same float32.

    The margin that a booster begins with is the logarithm of its base score, in float32, by the machine's own library,
    whose error may be 0.82 units of the last place. So a base score is moved by some units of its last place, until its
    exact logarithm lies within 0.15 units of a float32.

    Args:
        link: the margin of a base score, in float64.

    >>> import math
    >>> float(steady(0.5, lambda p: math.log(p / (1 - p))))
    0.5
    """
    low = high = np.float32(base)
    for _ in range(64):
        for tried in (low, high):
            exact = link(tried)
            if abs(exact - float(np.float32(exact))) <= 0.15 * float(np.spacing(np.float32(abs(exact)))):
                return np.float32(tried)
        low, high = np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))
    return np.float32(base)
