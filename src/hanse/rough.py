"""Numbers that are not, or may not be, those of the pooled rows: they say so when they are printed and compared.

>>> mean = Partial(54.3, missing={"ulm": "fewer rows than this node's minimum"}, rows=240)
>>> mean
54.3 (of 240 rows, without ulm)
>>> f"{mean:.2f}", float(mean) + 1
('54.30 of 240 rows', 55.3)
>>> Rough(12, 10.0, 15.0)
12 (10 to 15)
>>> f"{Rough(12, 10.0, 15.0):.1f}"
'≈12.0'
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hanse.errors import NotPooled

NARROW = 1e-6  # bounds that are so close, by rounding and cells of all rows, are one number


class Unsure(UserWarning):
    """A comparison that the pooled value may decide otherwise."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a value rests on.

    Args:
        rows: that are in it; None where that is not one number.
        missing: node to why its rows are not in it.
        asked: rows of all nodes that were asked, at most, as their owners tell when they register; None: not known.

    >>> str(Scope(36, {"bonn": "few rows"}, 230)), str(Scope(650, {}, 650))
    ('of 36 of at most 230 rows, without bonn', 'of 650 of at most 650 rows')
    """

    rows: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    asked: int | None = None

    def __str__(self) -> str:
        without = f"without {some(list(self.missing))}" if self.missing else ""
        whole = "" if self.asked is None else f" of at most {self.asked}"
        return ", ".join(filter(None, ["" if self.rows is None else f"of {self.rows}{whole} rows", without]))

    def joined(self, other: Scope) -> Scope:
        """What rests on other rows besides, of the same that were asked.

        >>> str(Scope(36, {"bonn": "few rows"}, 230).joined(Scope(50, {"ulm": "it failed"}, 230)))
        'of 86 of at most 230 rows, without bonn, ulm'
        """
        rows = None if self.rows is None or other.rows is None else self.rows + other.rows
        asked = self.asked if other.asked is None else other.asked
        return Scope(rows, dict(sorted({**self.missing, **other.missing}.items())), asked)

    def to_json(self) -> dict[str, Any]:
        """``{rows, asked, missing}``."""
        return {"rows": self.rows, "asked": self.asked, "missing": dict(self.missing)}


class Rough(float):
    """A number with between which numbers the pooled one lies, and on what it rests. It computes as any float; what is
    computed from it is a plain one."""

    least: float | None
    most: float | None
    rows: int | None
    missing: Mapping[str, str]
    asked: int | None

    def __new__(
        cls,
        value: float,
        least: float | None = None,
        most: float | None = None,
        missing: Mapping[str, str] | None = None,
        rows: int | None = None,
        asked: int | None = None,
    ) -> Rough:
        made = super().__new__(cls, value)
        made.least, made.most, made.missing, made.rows, made.asked = least, most, dict(missing or {}), rows, asked
        return made

    @property
    def about(self) -> str:
        """Between what the pooled number lies, and on what rows this one rests; as it is printed."""
        span = "" if self.least is None or self.most is None else f"{digits(self.least)} to {digits(self.most)}"
        return "; ".join(filter(None, [span, self.rests_on]))

    @property
    def rests_on(self) -> str:
        """On how many rows of how many, and whose are missing; nothing where none are."""
        return str(Scope(self.rows, self.missing, self.asked)) if self.missing else ""

    def to_json(self) -> dict[str, Any]:
        """The number; between what the pooled one lies, null where it is the number; on what it rests; and its text."""
        scope = Scope(self.rows, self.missing, self.asked).to_json()
        return {"value": float(self), "least": self.least, "most": self.most, **scope, "text": str(self)}

    def __repr__(self) -> str:
        return f"{digits(self)} ({self.about})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return f"≈{format(float(self), spec)}" if spec else str(self)

    def __abs__(self) -> Rough:
        """Its size, as unsure as it is itself."""
        least, most = self.least, self.most
        if least is not None and most is not None:
            least, most = max(least, -most, 0.0), max(-least, most)
        else:
            least = most = None
        return type(self)(float.__abs__(self), least, most, self.missing, self.rows, self.asked)

    def __round__(self, ndigits: int | None = None) -> Rough:  # type: ignore[override]
        """With so many decimals, as unsure as it is itself."""
        value = float(round(float(self), ndigits or 0))
        return type(self)(value, self.least, self.most, self.missing, self.rows, self.asked)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (float(self), self.least, self.most, self.missing, self.rows, self.asked)

    def __hash__(self) -> int:
        return float.__hash__(self)

    def _compared(self, other: object) -> None:
        if other is self or not isinstance(other, (int, float)):  # itself: whether it is NaN is asked so
            return
        if self.least is None or self.most is None or self.least <= float(other) <= self.most:
            warnings.warn(f"{self!r} is compared with {other!r}: of the pooled rows it may be otherwise", Unsure, 3)

    def __eq__(self, other: object) -> bool:
        self._compared(other)
        return float.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: float) -> bool:
        self._compared(other)
        return float.__lt__(self, other)

    def __le__(self, other: float) -> bool:
        self._compared(other)
        return float.__le__(self, other)

    def __gt__(self, other: float) -> bool:
        self._compared(other)
        return float.__gt__(self, other)

    def __ge__(self, other: float) -> bool:
        self._compared(other)
        return float.__ge__(self, other)


class Partial(Rough):
    """A number of the rows that are told, where nobody knows how far that of all rows is from it: other sites keep
    theirs back or failed. It is no estimate of the pooled number, so it is not computed with or compared by itself:
    ``float(it)`` takes it for what it is, that of the rows it names. ``least`` and ``most`` are of these rows too."""

    def to_json(self) -> dict[str, Any]:
        """As of :class:`Rough`, but the number is ``of_told``, and ``value``, which is that of all rows, null."""
        return {**super().to_json(), "value": None, "of_told": float(self)}

    @property
    def of(self) -> str:
        """Of how many rows it is, or where that is not one number, without whose; as it stands in a table."""
        return f"of {self.rows} rows" if self.rows is not None else f"without {some(list(self.missing), 2)}"

    def __format__(self, spec: str) -> str:
        return f"{format(float(self), spec)} {self.of}" if spec else str(self)

    def _refused(self, *others: object) -> NoReturn:
        raise NotPooled(
            f"{self!r} is not that of all rows, and nobody knows how far off: float(...) takes it for that of the rows "
            "it names, and nodes=[...] asks some sites alone"
        )

    def _compared(self, other: object) -> None:
        if other is not self and isinstance(other, (int, float)):
            self._refused()

    def __eq__(self, other: object) -> bool:
        return float.__eq__(self, other)

    __hash__ = Rough.__hash__
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refused
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _refused
    __neg__ = __pos__ = __divmod__ = __rdivmod__ = __floor__ = __ceil__ = _refused


class RoughDate(str):
    """A date that may not be that of the pooled rows, with between which dates it lies.

    Args:
        text: all of it.
        short: what stands of it in a table, as of a number.

    >>> RoughDate("2020-01-01 (2019-12-30 to 2020-01-09)", "≈2020-01-01").short
    '≈2020-01-01'
    """

    short: str

    def __new__(cls, text: str, short: str) -> RoughDate:
        found = super().__new__(cls, text)
        found.short = short
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.short)


def some(names: Sequence[str], most: int = 6) -> str:
    """The first of many names, and how many more there are.

    >>> some(["ulm", "bonn"]), some([f"s{i}" for i in range(50)], 2)
    ('ulm, bonn', 's0, s1 and 48 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def digits(value: float, many: int = 6) -> str:
    """A number with so many digits; a whole one with all of them, as it may count rows.

    >>> digits(1234567.0), digits(1234567.8), digits(1e300)
    ('1234567', '1.23457e+06', '1e+300')
    """
    found = float(value)
    return f"{found:.0f}" if found.is_integer() and abs(found) < 2**53 else f"{found:.{many}g}"


class Figures(dict[Any, Any]):
    """A dictionary of values with what one should know of them, which is printed with it.

    >>> Figures({"age": None}, ["mean of age: kept back at ulm"])
    {'age': None}
    ! mean of age: kept back at ulm
    """

    def __init__(self, values: Mapping[Any, Any], notes: Sequence[str] = (), scope: Scope | None = None) -> None:
        super().__init__(values)
        self.notes, self.scope = list(notes), scope or Scope()

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), *(f"! {note}" for note in self.notes)])


def qualified(value: Any, bounds: Any, scope: Any, holds: bool = False) -> Any:
    """``value``, in which each number that is not sure is :class:`Rough`, or :class:`Partial`.

    Args:
        bounds: (least, most) of a number, a list or a dictionary of them for one of numbers; None: exact. Of a
            dictionary that has ``p`` and ``p_range``, the latter is that of the former.
        scope: of all of them; of a list, it may be a list of them.
        holds: whether these bounds hold the number of all rows although some are missing; else they are of the others.
    """
    if isinstance(value, Mapping):
        inner = bounds if isinstance(bounds, Mapping) else {}
        return {
            key: qualified(one, inner.get(key, value.get(f"{key}_range")), scope, holds) for key, one in value.items()
        }
    if isinstance(value, list):
        each = bounds if isinstance(bounds, list) else [None] * len(value)
        scopes = scope if isinstance(scope, list) else [scope] * len(value)
        return [qualified(*one, holds) for one in zip(value, each, scopes, strict=True)]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    least, most = bounds if bounds is not None else (None, None)
    unknown = [end for end in (least, most) if end is None]
    if scope.missing and (unknown or not holds):
        return Partial(value, least, most, scope.missing, scope.rows, scope.asked)
    near = (
        0.0 if scope.missing or isinstance(value, int) else NARROW
    )  # rows that are not in it are named, and counts exact
    one = least is not None and most is not None and most - least <= near * max(abs(least), abs(most))
    return value if one or len(unknown) == 2 else Rough(value, least, most, scope.missing, scope.rows, scope.asked)


def partial(value: Any) -> bool:
    """Whether a number in it is only that of some of the rows.

    >>> partial({"at": [Rough(12, 10, 15), Partial(12.0, missing={"ulm": "it failed"})]})
    True
    """
    if isinstance(value, Mapping):
        return any(partial(one) for one in value.values())
    return any(partial(one) for one in value) if isinstance(value, (list, tuple)) else isinstance(value, Partial)


def total(values: Sequence[Any]) -> Any:
    """The sum of numbers of the same rows, unsure where one of them is.

    >>> total([3, 4]), total([3, Rough(12, 10, 15)])
    (7, 15 (13 to 18))
    """
    unsure = [value for value in values if isinstance(value, Rough)]
    if not unsure:
        return sum(values)
    ends = [
        (float(v), float(v)) if not isinstance(v, Rough) or v.least is None or v.most is None else (v.least, v.most)
        for v in values
    ]
    least, most = (sum(side) for side in zip(*ends, strict=True))
    scope = Scope(unsure[0].rows, unsure[0].missing, unsure[0].asked)
    return qualified(sum(map(float, values)), (least, most), scope, holds=not partial(values))


def spans(scopes: Sequence[Scope]) -> str:
    """Of several values, on how many rows they rest and how many were asked; nothing where that is not known.

    >>> spans([Scope(36, {}, 40), Scope(38, {}, 40)])
    ': 36 to 38 of at most 40 rows'
    """
    asked, rows = [s.asked for s in scopes if s.asked], [s.rows for s in scopes if s.rows is not None]
    if not asked or not rows:
        return ""
    span = f"{min(rows)}" if min(rows) == max(rows) else f"{min(rows)} to {max(rows)}"
    return f": {span} of at most {max(asked)} rows"


def as_json(value: Any) -> Any:
    """With pairs of labels as one text, since JSON has no other keys, and each number with what is not sure of it.

    >>> as_json({("a", "b"): [1, None]})
    {'a, b': [1, None]}
    """
    if isinstance(value, Mapping):
        return {", ".join(k) if isinstance(k, tuple) else str(k): as_json(one) for k, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    return value.to_json() if isinstance(value, Rough) else value


def bare(value: Any) -> Any:
    """With plain numbers: for what is drawn, where ranges are drawn too.

    >>> bare({"at": [Rough(12, 10, 15), None]})
    {'at': [12.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: bare(one) for key, one in value.items()}
    if isinstance(value, list):
        return [bare(one) for one in value]
    return float(value) if isinstance(value, Rough) else value
