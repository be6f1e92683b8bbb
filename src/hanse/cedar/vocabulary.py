"""What policies can ask about: the types of facts (:mod:`hanse.facts`), as Cedar's schema, and facts as its values.

The schema is made from the types, so a fact that is added can be asked at once, and one that is misspelt in a policy
is an error when the policy is read. A fact that may be None is an attribute that may be absent.

>>> from hanse.facts import Data
>>> print(Vocabulary({"look": Data}).schema())
entity Person;
entity Run;
action "look" appliesTo { principal: Person, resource: Run, context: {
  name: String,
  version: String,
  tags: Set<String>,
} };
"""

from __future__ import annotations

import dataclasses
import math
import operator
import types
import typing
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hanse.facts import PER_BILLION
from hanse.messages import Json

if TYPE_CHECKING:
    from decimal import Decimal

_LONG = 1 << 63


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of what policies look at.

    Args:
        name: as policies write it.
        fact: the name of the fact that it is.
        optional: whether it may be absent.
        kind: its type in Cedar's schema, where it is no record.
        value: a fact as Cedar's JSON, where it is no record. Raises ``TypeError``, ``ValueError`` or ``OverflowError``
            for what does not fit.
        inner: the attributes of a record.
        get: reads one of those from the fact.
    """

    name: str
    fact: str
    optional: bool
    kind: str = ""
    value: Callable[[Any], Json] = id
    inner: tuple[Attribute, ...] | None = None
    get: Callable[[Any, str], Any] = getattr

    @property
    def type(self) -> str:
        """In Cedar's schema."""
        return self.kind if self.inner is None else "{ " + ", ".join(a.declaration for a in self.inner) + " }"

    @property
    def declaration(self) -> str:
        """Its line in a schema."""
        return f"{self.name}{'?' if self.optional else ''}: {self.type}"


class Vocabulary:
    """What can be asked about each action.

    Args:
        actions: an action, as policies write it in ``Action::"..."``, to the type of the facts about it.
    """

    def __init__(self, actions: Mapping[str, Any]) -> None:
        self.facts = dict(actions)
        self.actions = {action: _attributes(kind) for action, kind in actions.items()}
        self._optional: dict[str, tuple[tuple[str, ...], ...]] = {}
        self._readers: dict[str, tuple[Callable[[Any], tuple[Any, ...]], bool]] = {}

    def naming(self, words: Collection[str]) -> Vocabulary:
        """The same with no other attributes than those of these names."""
        made = Vocabulary({})
        made.facts = self.facts
        made.actions = {action: _naming(attributes, words) for action, attributes in self.actions.items()}
        return made

    def schema(self) -> str:
        """In Cedar's own syntax."""
        lines = ["entity Person;", "entity Run;"]
        for action, attributes in self.actions.items():
            lines.append(f'action "{action}" appliesTo {{ principal: Person, resource: Run, context: {{')
            lines += [f"  {attribute.declaration}," for attribute in attributes]
            lines.append("} };")
        return "\n".join(lines)

    def context(self, action: str, facts: Any) -> dict[str, Json]:
        """The facts about an action as Cedar's JSON.

        Raises:
            AttributeError: a fact is not there. TypeError, ValueError, OverflowError: it is not of its type.
        """
        return _values(self.actions[action], getattr, facts)

    def shape(self, action: str, context: Mapping[str, Json]) -> Hashable:
        """Equal for contexts (:meth:`context`) that have the same attributes, of those that may be absent.

        >>> from hanse.facts import Data
        >>> Vocabulary({"look": Data}).shape("look", {"name": "x", "version": "1", "tags": []})
        ('look',)
        """
        if action not in self._optional:
            self._optional[action] = tuple(_optional(self.actions[action]))
        return (action, *(_has(context, path) for path in self._optional[action]))

    def alike(self, action: str, facts: Any) -> Hashable | None:
        """Equal for facts of which the context is the same, in less time than it takes to make one; None where it has
        to be made: a fact is not there, or is of a kind that cannot be compared so.

        Types are compared too: a true is equal to a one, and is another thing in a policy.
        """
        read, timed = self._readers[action] if action in self._readers else self._reader(action)
        try:
            values = read(facts)
        except AttributeError:
            return None
        if not timed:
            return values, tuple(map(type, values))
        time = values[-1]
        if type(time) is not datetime or time.tzinfo is not UTC:
            return None
        values = values[:-1]
        return values, tuple(map(type, values)), time.timestamp() // 60

    def _reader(self, action: str) -> tuple[Callable[[Any], tuple[Any, ...]], bool]:
        """What reads the facts, the time last; and whether there is one."""
        attributes = sorted(self.actions[action], key=lambda a: a.get is _of_time)
        names = [attribute.fact for attribute in attributes]
        read: Callable[[Any], tuple[Any, ...]]
        if len(names) > 1:
            read = operator.attrgetter(*names)
        else:
            read = lambda facts: tuple(getattr(facts, name) for name in names)  # noqa: E731
        timed = bool(attributes) and attributes[-1].get is _of_time
        self._readers[action] = (read, timed)
        return self._readers[action]


def _optional(attributes: tuple[Attribute, ...], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where those are that may be absent."""
    for attribute in attributes:
        path = (*above, attribute.name)
        if attribute.optional:
            yield path
        yield from _optional(attribute.inner or (), path)


def _has(context: Mapping[str, Json], path: tuple[str, ...]) -> bool:
    for name in path:
        if name not in context:
            return False
        context = context[name]
    return True


def _naming(attributes: tuple[Attribute, ...], words: Collection[str]) -> tuple[Attribute, ...]:
    named = (a for a in attributes if a.name in words)
    return tuple(a if a.inner is None else dataclasses.replace(a, inner=_naming(a.inner, words)) for a in named)


def _values(attributes: tuple[Attribute, ...], get: Callable[[Any, str], Any], of: Any) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for attribute in attributes:
        value = get(of, attribute.fact)
        if value is None and attribute.optional:
            continue
        inner = attribute.inner
        found[attribute.name] = attribute.value(value) if inner is None else _values(inner, attribute.get, value)
    return found


def _attributes(kind: Any) -> tuple[Attribute, ...]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = (field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else hints
    made = (_attribute(name, hints[name]) for name in fields)
    return tuple(attribute for attribute in made if attribute is not None)


def _attribute(name: str, hint: Any) -> Attribute | None:
    """None for an object of anything, which has no type."""
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        optional = True
        [hint] = (kind for kind in typing.get_args(hint) if kind is not type(None))
    if hint in _PLAIN:
        return Attribute(name, name, optional, *_PLAIN[hint])
    if hint is datetime:
        return Attribute(name, name, optional, inner=_TIME, get=_of_time)
    if dataclasses.is_dataclass(hint):
        return Attribute(name, name, optional, inner=_attributes(hint))
    for told in getattr(hint, "__metadata__", ()):
        if told == PER_BILLION:
            return Attribute(f"{name}_per_billion", name, optional, "Long", _billionths)
        return Attribute(name, name, optional, inner=_attributes(told), get=_entry)
    return None


def _entry(value: Any, name: str) -> Any:
    return value.get(name)


def _text(value: Any) -> Json:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _boolean(value: Any) -> Json:
    if value is not True and value is not False:
        raise TypeError("neither true nor false")
    return value


def _whole(value: Any) -> Json:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    if not -_LONG <= value < _LONG:
        raise OverflowError("too large a number")
    return value


def _decimal(value: Any) -> Json:
    """Cedar's decimals have four places; what has more is told as a little more than it is."""
    from decimal import ROUND_CEILING, Decimal

    number = _number(value)
    if abs(number) >= Decimal("922337203685477"):
        raise OverflowError("too large a number")
    return {"__extn": {"fn": "decimal", "arg": f"{number.quantize(Decimal('0.0001'), ROUND_CEILING):f}"}}


def _billionths(value: Any) -> Json:
    from decimal import ROUND_CEILING

    return _whole(int((_number(value) * 10**9).to_integral_value(ROUND_CEILING)))


def _number(value: Any) -> Decimal:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError("not a finite number")
    from decimal import Decimal

    return Decimal(repr(value))


def _texts(value: Any) -> Json:
    if not isinstance(value, (tuple, list)):
        raise TypeError("not a list")
    return [_text(v) for v in value]


def _of_time(value: Any, name: str) -> Any:
    """To the minute, in UTC: facts of one minute are equal, and so is what is decided of them."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError("not a time with its zone")
    there = value if value.tzinfo is UTC else value.astimezone(UTC)
    return there.isoweekday() if name == "weekday" else there if name == "at" else getattr(there, name)


def _moment(value: Any) -> Json:
    return {"__extn": {"fn": "datetime", "arg": f"{value:%Y-%m-%dT%H:%M:00Z}"}}


_PLAIN: dict[Any, tuple[str, Callable[[Any], Json]]] = {
    str: ("String", _text),
    bool: ("Bool", _boolean),
    int: ("Long", _whole),
    float: ("decimal", _decimal),
    tuple[str, ...]: ("Set<String>", _texts),
}
_TIME = (
    Attribute("at", "at", False, "datetime", _moment),
    *(Attribute(name, name, False, "Long", _whole) for name in ("hour", "minute", "weekday")),
)
