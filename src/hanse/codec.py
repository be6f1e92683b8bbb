"""Values that travel: a frozen dataclass becomes a :class:`Record` and is checked when it comes back.

States and asks are JSON and named arrays on the wire and on disk. An algorithm speaks of them as values, so
that a wrong name is found by the type checker, and a wrong value of somebody else's by :func:`decode`, which
says where it stands.

A field may be a ``str``, ``int``, ``float``, ``bool``, ``Literal``, ``StrEnum``, another dataclass, a tuple or
``Mapping[str, ...]`` of those, each of them ``| None``; ``Json`` and ``Record``, which are taken as they are; and an
``Array`` (:class:`ArrayOf` says of which type and shape), also in tuples and mappings. An array is named by its path:
``model`` of type ``Mapping[str, Array]`` gives ``model.coef`` and ``model.intercept``.

>>> @dataclass(frozen=True)
... class Round:
...     number: int
...     model: Mapping[str, Array]
>>> record = encode(Round(3, {"coef": np.zeros(2)}))
>>> record.data, list(record.arrays)
({'number': 3}, ['model.coef'])
>>> decode(Round, record).number
3
>>> decode(Round, Record({"number": "three"}, record.arrays))
Traceback (most recent call last):
...
hanse.errors.WireError: number of Round is text; expected a whole number
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from hanse.errors import WireError
from hanse.messages import Array, Buffered, Json, Record

T = TypeVar("T")
_KEPT_PATHS = 16  # at which a dataclass stands in others


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """Of what type and shape an array field is: ``Annotated[Array, ArrayOf("float64", "features", 2)]``.

    Args:
        dtype: as numpy names it; "" for any.
        shape: a length for each dimension: a number; a name, which stands for one length everywhere in
            the dataclass (not in others that it holds); None for any. Without a shape, any shape.
    """

    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __init__(self, dtype: str = "", *shape: int | str | None) -> None:
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "shape", shape or None)


Known = dict[str, tuple[Any, Json, Mapping[str, Array]]]  # of a field: its value, and how that was encoded


def encode(value: Any, known: Known | None = None) -> Record:
    """The record of a dataclass instance. Raises ``TypeError`` where a field holds what its type does not allow.

    Args:
        known: of the fields of an instance before, with which this one may share most values; what is shared is not
            encoded again. It is brought up to date.
    """
    arrays: dict[str, Array] = {}
    kind: Any = type(value)
    coder = _coder(kind)
    try:
        if known is not None and isinstance(coder, _Dataclass):
            data = coder.encode_again(value, arrays, known)
        else:
            data = coder.encode(value, "", arrays)
    except _Wrong as wrong:
        raise TypeError(wrong.told(kind)) from None
    return Record(data, arrays)


def decode(kind: type[T], record: Record) -> T:
    """The value of type ``kind`` in a record. Its arrays are those of the record, without a copy.

    Raises:
        WireError: a field is missing or unknown, or of another type or shape; names its path.
    """
    arrays, wanted = record.arrays, cast(Any, kind)
    if type(arrays) is Buffered:  # each of them is wanted
        arrays = arrays.every()
    source = _Source(arrays, set(), {})
    try:
        found: T = _coder(wanted).decode(record.data, "", source)
        if len(source.used) != len(arrays):
            raise _Wrong(min(set(arrays) - source.used), "not known", "no array of this name")
    except _Wrong as wrong:
        raise WireError(wrong.told(kind)) from None
    return found


# ---------------------------------------------------------------- one coder a type


class _Wrong(Exception):
    """Something at ``path`` is ``found`` where it should be ``expected``."""

    def __init__(self, path: str, found: str, expected: str) -> None:
        super().__init__(path)
        self.path, self.found, self.expected = path, found, expected

    def told(self, kind: type) -> str:
        where = f"{self.path} of {kind.__name__}" if self.path else kind.__name__
        return f"{where} is {self.found}; expected {self.expected}"


@dataclass(slots=True)
class _Source:
    """The arrays that a value is read from, which of them were, and the lengths of named dimensions."""

    arrays: Mapping[str, Array]
    used: set[str]
    lengths: dict[str, int]

    def under(self, path: str) -> list[str]:
        return [n for n in self.arrays if n.startswith(f"{path}.")]


class _Coder(Protocol):
    arrays_only: bool  # nothing of it stands in the JSON

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json: ...

    def decode(self, data: Json, path: str, source: _Source) -> Any: ...


class _Plain:
    """What is JSON itself: ``check`` gives the value, or raises ``ValueError``."""

    arrays_only = False

    def __init__(
        self,
        expected: str,
        check: Callable[[Json], Json],
        built: Callable[[Json], Any] | None = None,
        always: type | None = None,
    ) -> None:
        self._expected, self._check, self._built = expected, check, built
        self._always = always  # what is of just this type needs no check

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        try:
            return self._check(value)
        except ValueError:
            raise _Wrong(path, _said(value), self._expected) from None

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        if type(data) is self._always:
            return data
        try:
            found = self._check(data)
        except ValueError:
            raise _Wrong(path, _said(data), self._expected) from None
        return found if self._built is None else self._built(found)


class _Anything:
    """JSON as it is."""

    arrays_only = False

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        return value

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        return data


class _Array:
    arrays_only = True

    def __init__(self, of: ArrayOf) -> None:
        self._of, self._dtype = of, np.dtype(of.dtype) if of.dtype else None
        self._ndim = None if of.shape is None else len(of.shape)
        self._fixed = [(axis, n) for axis, n in enumerate(of.shape or ()) if isinstance(n, int)]
        self._named = [(axis, n) for axis, n in enumerate(of.shape or ()) if isinstance(n, str)]

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        if not isinstance(value, np.ndarray):
            raise _Wrong(path, _said(value), "an array")
        plain = not self._fixed and (self._dtype is None or value.dtype == self._dtype)
        if not (plain and value.ndim == self._ndim) and not self._fits(value):
            raise self._odd(value, path, {})
        if path in arrays:
            raise _Wrong(path, "named twice", "names that differ")
        arrays[path] = value
        return None

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        try:
            array, lengths = source.arrays[path], source.lengths
        except KeyError:
            raise _Wrong(path, "missing", "an array") from None
        shape, dtype = array.shape, self._dtype
        if not (len(shape) == self._ndim and array.dtype is dtype and not self._fixed) and not self._fits(array):
            raise self._odd(array, path, lengths)  # else its length and its type have been looked at
        for axis, name in self._named:
            if lengths.setdefault(name, shape[axis]) != shape[axis]:
                raise self._odd(array, path, lengths)
        source.used.add(path)
        return array

    def _fits(self, array: Array) -> bool:
        """But for the lengths that have names."""
        if self._dtype is not None and array.dtype != self._dtype:
            return False
        if self._ndim is None:
            return True
        shape = array.shape
        if len(shape) != self._ndim:
            return False
        return not self._fixed or all(shape[axis] == n for axis, n in self._fixed)

    def _odd(self, array: Array, path: str, lengths: Mapping[str, int]) -> _Wrong:
        dtype, shape = self._of.dtype, self._of.shape
        known = tuple(lengths.get(s, s) if isinstance(s, str) else s for s in shape or ())
        kind = f"{dtype or 'any type'}" + (f" of shape {known}" if shape is not None else "")
        return _Wrong(path, f"{array.dtype} of shape {array.shape}", kind)


class _Record:
    """A record as it is: its JSON under the path, and all arrays below it."""

    arrays_only = False

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        if not isinstance(value, Record):
            raise _Wrong(path, _said(value), "a record")
        arrays.update((f"{path}.{name}", value.arrays[name]) for name in value.arrays)
        return value.data

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        names = source.under(path)
        source.used.update(names)
        return Record(_object(data, path), {name[len(path) + 1 :]: source.arrays[name] for name in names})


class _Maybe:
    """``X | None``. An array that is not there is None."""

    def __init__(self, inner: _Coder) -> None:
        self.inner, self.arrays_only = inner, inner.arrays_only

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        return None if value is None else self.inner.encode(value, path, arrays)

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        absent = path not in source.arrays if self.arrays_only else data is None
        return None if absent else self.inner.decode(data, path, source)


class _Tuple:
    arrays_only = False  # how many there are stands in the JSON

    def __init__(self, inner: tuple[_Coder, ...], endless: bool) -> None:
        self._inner, self._endless = inner, endless

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        if not isinstance(value, tuple):
            raise _Wrong(path, _said(value), "a tuple")
        return [c.encode(v, f"{path}.{i}", arrays) for i, (c, v) in enumerate(self._paired(value, path))]

    def encode_longer(self, value: Any, path: str, before: tuple[Any, Json, Mapping[str, Array]] | None) -> Json | None:
        """Of one that another was the beginning of, such as a history; None where it was not, or holds arrays."""
        if before is None or before[2] or not self._endless or not isinstance(value, tuple):
            return None
        old, said = before[0], before[1]
        if len(old) > len(value) or not all(map(operator.is_, old, value)):
            return None
        arrays: dict[str, Array] = {}
        more = [self._inner[0].encode(v, f"{path}.{i}", arrays) for i, v in enumerate(value[len(old) :], len(old))]
        return None if arrays else [*said, *more]

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        if not isinstance(data, list):
            raise _Wrong(path, _said(data), "a list")
        return tuple(c.decode(v, f"{path}.{i}", source) for i, (c, v) in enumerate(self._paired(data, path)))

    def _paired(self, values: Any, path: str) -> Iterator[tuple[_Coder, Any]]:
        coders = self._inner * len(values) if self._endless else self._inner
        if len(coders) != len(values):
            raise _Wrong(path, f"a list of {len(values)}", f"one of {len(coders)}")
        return zip(coders, values, strict=True)


class _Mapping:
    """Names to values. Where they hold arrays alone, the names are those of the arrays."""

    def __init__(self, inner: _Coder) -> None:
        self._inner, self.arrays_only = inner, inner.arrays_only
        self._deep = inner.arrays_only and not isinstance(inner, _Array)
        self._as_it_is = isinstance(inner, _Anything)  # such as each round's numbers, in the state of every later round

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        if self._as_it_is:
            return dict(_object(value, path))
        found = {}
        for name, item in _object(value, path).items():
            if self._deep and ("." in name or not item):
                raise _Wrong(f"{path}.{name}", "empty or named with a dot", "arrays under a name without one")
            found[name] = self._inner.encode(item, f"{path}.{name}", arrays)
        return found

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        if self._as_it_is:
            return dict(_object(data, path))
        if not self.arrays_only:
            return {n: self._inner.decode(v, f"{path}.{n}", source) for n, v in _object(data, path).items()}
        rests = [n[len(path) + 1 :] for n in source.under(path)]
        names = dict.fromkeys(r.partition(".")[0] for r in rests) if self._deep else rests
        return {n: self._inner.decode(None, f"{path}.{n}", source) for n in names}


class _Dataclass:
    def __init__(self, kind: type) -> None:
        if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"{kind.__name__} is not frozen; a value that travels does not change")
        hints = get_type_hints(kind, include_extras=True)
        self._kind = kind
        self._fields = {f.name: _coder(hints[f.name]) for f in dataclasses.fields(kind)}
        self._needed = {f.name for f in dataclasses.fields(kind) if not _optional(f)}
        self._unsaid = {f.name for f in dataclasses.fields(kind) if f.default is None}  # where they are None
        self._in_json = {name for name, coder in self._fields.items() if not coder.arrays_only}
        self._under = {name for name, coder in self._fields.items() if isinstance(coder, _Mapping)}  # stand below it
        self._below: dict[str, list[tuple[str, _Coder, str]]] = {}  # of some paths: its fields, and where they stand
        self.arrays_only = False

    def _places(self, path: str) -> list[tuple[str, _Coder, str]]:
        found = self._below.get(path)
        if found is None:
            if len(self._below) >= _KEPT_PATHS:  # those of a long tuple are many
                self._below.clear()
            found = [(name, coder, _joined(path, name)) for name, coder in self._fields.items()]
            self._below[path] = found
        return found

    def encode(self, value: Any, path: str, arrays: dict[str, Array]) -> Json:
        if type(value) is not self._kind:
            raise _Wrong(path, _said(value), f"a {self._kind.__name__}")
        found = {}
        for name, coder, here in self._places(path):
            item = getattr(value, name)
            if item is None and name in self._unsaid:
                continue
            said = coder.encode(item, here, arrays)
            if not coder.arrays_only:
                found[name] = said
        return found

    def encode_again(self, value: Any, arrays: dict[str, Array], known: Known, path: str = "") -> Json:
        found = {}
        for name, coder, here in self._places(path):
            item = getattr(value, name)
            if item is None and name in self._unsaid:
                known.pop(here, None)
                continue
            before = known.get(here)
            if before is None or before[0] is not item:
                own: dict[str, Array] = {}
                if isinstance(coder, _Dataclass) and type(item) is coder._kind:
                    said: Json = coder.encode_again(item, own, known, here)
                else:
                    longer = coder.encode_longer(item, here, before) if isinstance(coder, _Tuple) else None
                    said = coder.encode(item, here, own) if longer is None else longer
                before = known[here] = item, said, own
            arrays.update(before[2])
            if not coder.arrays_only:
                found[name] = before[1]
        return found

    def decode(self, data: Json, path: str, source: _Source) -> Any:
        given = _object(data, path)
        if not self._in_json.issuperset(given):
            unknown = min(name for name in given if name not in self._in_json)
            raise _Wrong(_joined(path, unknown), "not known", f"one of {', '.join(self._fields)}")
        found, arrays = {}, source.arrays
        if path:  # names of dimensions are each dataclass's own
            source = _Source(arrays, source.used, {})
        for name, maybe, here in self._below.get(path) or self._places(path):
            coder = maybe.inner if type(maybe) is _Maybe else maybe  # whose None is seen here
            if coder.arrays_only:
                if here in arrays:
                    found[name] = coder.decode(None, here, source)
                elif name in self._needed or (name in self._under and source.under(here)):
                    found[name] = maybe.decode(None, here, source)
            elif name in given:
                item = given[name]  # most that an ask may say, it does not
                found[name] = None if item is None and coder is not maybe else coder.decode(item, here, source)
            elif name in self._needed:
                raise _Wrong(here, "missing", "a value")
        return self._kind(**found)


def _optional(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


_TEXT = {str}


def _object(value: Any, path: str) -> Mapping[str, Any]:
    # a dict is told at a glance; whether something else is a Mapping, takes longer than all else here
    if not isinstance(value, (dict, Mapping)):
        raise _Wrong(path, _said(value), "an object")
    if not set(map(type, value)) <= _TEXT and not all(isinstance(name, str) for name in value):
        raise _Wrong(path, _said(value), "an object")
    return value


def _said(value: Any) -> str:
    """What kind of thing it is, without what it holds, which may be data."""
    if value is None:
        return "null"
    known = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return known.get(type(value), type(value).__name__)


def _whole(value: Json) -> Json:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError
    return int(value)


def _number(value: Json) -> Json:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError
    try:
        found = float(value)
    except OverflowError:
        raise ValueError from None
    if not math.isfinite(found):
        raise ValueError
    return found


def _text(value: Json) -> Json:
    if not isinstance(value, str):
        raise ValueError
    return str(value)


def _truth(value: Json) -> Json:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _among(allowed: tuple[Json, ...]) -> Callable[[Json], Json]:
    def check(value: Json) -> Json:
        for one in allowed:
            if type(one) is type(value) and one == value:
                return value
        raise ValueError

    return check


def _enumerated(kind: type[StrEnum]) -> Callable[[Json], Json]:
    def check(value: Json) -> Json:
        if not isinstance(value, str):
            raise ValueError
        return str(kind(value))

    return check


_SCALARS: dict[Any, _Coder] = {
    str: _Plain("text", _text, always=str),
    bool: _Plain("true or false", _truth, always=bool),
    int: _Plain("a whole number", _whole, always=int),
    float: _Plain("a finite number", _number),
    Any: _Anything(),
}


@functools.cache
def _coder(kind: Any) -> _Coder:
    """The coder of a type. Raises ``TypeError`` for one that cannot travel."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    origin, args = get_origin(kind), get_args(kind)
    if kind is Record:
        return _Record()
    if origin is np.ndarray:
        return _Array(ArrayOf())
    if origin is Annotated and get_origin(args[0]) is np.ndarray:
        return _Array(next((a for a in args[1:] if isinstance(a, ArrayOf)), ArrayOf()))
    if origin is Literal:
        return _Plain("one of " + ", ".join(map(str, args)), _among(args))
    if origin in (Union, types.UnionType) and len(args) == 2 and types.NoneType in args:
        inner = _coder(next(a for a in args if a is not types.NoneType))
        if isinstance(inner, _Mapping) and inner.arrays_only:
            raise TypeError(f"{kind}: no arrays and None look alike; leave None out")
        return _Maybe(inner)
    if origin is tuple:
        endless = len(args) == 2 and args[1] is Ellipsis
        return _Tuple(tuple(_coder(a) for a in (args[:1] if endless else args)), endless)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping) and args[0] is str:
        return _Mapping(_coder(args[1]))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _Plain("one of " + ", ".join(kind), _enumerated(kind), kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _Dataclass(kind)
    raise TypeError(f"{kind} does not travel; see hanse.codec for what does")
