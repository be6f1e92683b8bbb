"""Statistics by their names, as methods: what there is of them is what the folder of statistics has.

>>> ByName("quantile", None)
quantile(q=None, dataset_schema=None, *, depth=None, bin_edges=None): quantiles
>>> ByName("kaplan_meier", None)
kaplan_meier(time, event, grid=None, level=None): survival curve
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from hanse.errors import ConfigError
from hanse.presentation import Summary
from hanse.queries import statistic
from hanse.registry import names
from hanse.rough import Figures

Ask = Callable[[str, "str | Sequence[str] | None", Mapping[str, Any]], Any]


def offered() -> tuple[str, ...]:
    """All statistics that people ask for; others are parts of these."""
    return tuple(name for name in names("statistics") if statistic(name).shown.offered)


def basic() -> tuple[str, ...]:
    """Those that are told where nothing is named."""
    return tuple(name for name in offered() if statistic(name).shown.basic)


def summaries() -> dict[str, Summary]:
    """Those that have a place in the overview of all columns."""
    found = {name: statistic(name).shown.summary for name in offered()}
    return {name: summary for name, summary in found.items() if summary is not None}


def refuse_elsewhere(stat: str, given: Iterable[str], elsewhere: Collection[str]) -> None:
    """Raises ``ConfigError`` where an argument of a statistic is none of it, but one of who asks.

    Args:
        stat: the statistic.
        given: names of arguments.
        elsewhere: arguments of ``analytics(...)``, which hold for all that is asked there. ``group`` is ``by`` to them.

    >>> refuse_elsewhere("kaplan_meier", ["group"], ["by", "where"])
    Traceback (most recent call last):
    ...
    hanse.errors.ConfigError: kaplan_meier has no argument 'group'; give it as analytics(by=...).kaplan_meier(...)
    """
    for name in given:
        there = "by" if name in ("group", "groups", "groupby", "group_by") else name
        if there in elsewhere and name not in statistic(stat).shown.arguments:
            raise ConfigError(f"{stat} has no argument {name!r}; give it as analytics({there}=...).{stat}(...)")


class ByName:
    """One statistic as a function: of its columns where these have parts to play, else of a choice of columns.

    Args:
        name: of the statistic.
        ask: :meth:`hanse.experiment.analytics.FederatedAnalytics.ask`.
        elsewhere: arguments of who asks, which people may take for those of the statistic.
    """

    def __init__(self, name: str, ask: Ask, elsewhere: Collection[str] = ()) -> None:
        stat = statistic(name)
        self._name, self._ask, self._stat, self._elsewhere = name, ask, stat, elsewhere
        self.__name__ = name
        self.__signature__ = _signature(stat.shown.roles, stat.shown.first, list(stat.shown.arguments))
        lines = [f"{word}: {help}." for word, help in stat.shown.arguments.items()]
        self.__doc__ = "\n\n".join([f"{stat.doc[0].upper()}{stat.doc[1:]}.", *lines])

    def __call__(self, *columns: Any, **options: Any) -> Any:
        """The value where the columns have parts to play; of a matrix, columns by columns; else column to value.

        Raises:
            ConfigError: an argument is unknown or missing, a column does not fit, or nothing is told; says why.
        """
        shown = self._stat.shown
        refuse_elsewhere(self._name, options, self._elsewhere)
        try:
            bound = self.__signature__.bind(*columns, **options).arguments
        except TypeError as error:
            raise ConfigError(f"{self._name}: {error}; expected {self!r}") from None
        given = {name: value for name, value in bound.items() if name in shown.arguments and value is not None}
        if shown.roles:
            return self._told(self._ask(self._name, [bound[role] for role in shown.roles], given))
        result = self._ask(self._name, bound.get("dataset_schema"), given)
        if self._stat.columns:
            return result.values(self._name)
        item, value = result.wanted[0], self._told(result)
        if not self._stat.matrix or item.by:
            return value
        table = {a: dict(zip(item.columns, row, strict=True)) for a, row in zip(item.columns, value, strict=True)}
        notes = result.notes_of([item])
        return Figures(table, notes) if notes else table

    def _told(self, result: Any) -> Any:
        """The value of all columns together; None has no room for why, so there is an error in its place."""
        value = result.value(result.wanted[0])
        if value is None:
            raise ConfigError(". ".join([f"{result.wanted[0].name}: nothing is told", *result.notes]))
        return value

    def __repr__(self) -> str:
        return f"{self._name}{self.__signature__}: {self._stat.doc}"


def _signature(roles: Sequence[str], first: Sequence[str], arguments: Sequence[str]) -> inspect.Signature:
    def parameter(name: str, only: bool = False, default: Any = None) -> inspect.Parameter:
        kind = inspect.Parameter.KEYWORD_ONLY if only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Parameter(name, kind, default=default)

    if roles:
        needed = [parameter(role, default=inspect.Parameter.empty) for role in roles]
        return inspect.Signature([*needed, *(parameter(name) for name in arguments)])
    rest = [parameter(name, only=True) for name in arguments if name not in first]
    return inspect.Signature([*(parameter(name) for name in first), parameter("dataset_schema"), *rest])
