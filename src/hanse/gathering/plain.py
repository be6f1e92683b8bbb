"""Plain gathering: the coordinator sees each contribution and adds them up.

Contributions wait in memory or, when large, in a spool file until the step's last one is in; then
they are added block by block in the order of node ids, in float64. So the sum has the same bits for
every order of arrival, a node that dies half way through its upload leaves no trace in it, and the
coordinator's memory does not grow with the number of nodes. Whole numbers that an algorithm checks add exactly in any
order, so a moderate number of them is checked and added up as it comes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from hanse import spans
from hanse.alike import Alike
from hanse.allocator import give_back
from hanse.errors import RunFailed, Unusable
from hanse.gather import Exchange, Party
from hanse.gathering import _checks, _narrow
from hanse.gathering._found import SAID, Columns, Found, Pair
from hanse.kinds import Answer, Ask, Combine, Contribution, Gathered, Shapes
from hanse.large_arrays import puts, several
from hanse.messages import Array, ArrayPlace, Json, Layout, Record, Row, Together, block, each_prefixed, prefixed, under

LARGE_BYTES = 8 << 20  # of all contributions: their transfer took ten times as long as giving back
HUGE_BYTES = 64 << 20  # of one: beside it, what transfers hold is little
_AT_ONCE_BYTES = 8 << 20  # of the sum: it and one contribution stay in a processor's caches, or nearly
_MEANWHILE_BYTES = 4 << 20  # of a sum that is added up as it comes; one contribution then takes less than 1 ms
_SMALL = 1 << 14  # numbers of all contributions: their products fit into a processor's first caches
_METRICS = 1000  # of one node in one step; they are kept and shown


COMBINES = frozenset(Combine)
HIDES = False


class Plain:
    """The default gather."""

    async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Gathered:
        found = Found()
        failures: dict[str, str] = {}
        running = _Running.of(ask)
        async for reply in exchange(asks, need=ask.need):
            if reply.body is None:
                failures[reply.node] = reply.error
                continue
            try:
                pair = came(reply.node, reply.asked, reply.body)
            except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                failures[reply.node] = f"its reply is not a contribution: {error}"
                continue
            found.append(*pair)
            if running is not None:
                running.enter(*pair)
        expected = {"a.": ask.arrays, "s.": ask.sums}
        return Contributions(found.in_order(), failures, ask.combine, expected, fault=ask.fault, running=running)

    def reply(self, op: str, ask: Record, answer: Callable[[Record], Contribution], party: Party) -> Record:
        if op != "answer":
            raise Unusable(f"plain gathering has no operation {op!r}")
        contribution = answer(ask)
        arrays = prefixed(contribution.record.arrays, "a.")
        if contribution.sums:
            arrays = {**arrays, **prefixed(contribution.sums, "s.")}
        return _reply(contribution, arrays, contribution.weight, contribution.metrics)

    def replies(self, op: str, found: Alike) -> list[Record]:
        """What :meth:`reply` gives for each of these."""
        if op != "answer":
            raise Unusable(f"plain gathering has no operation {op!r}")
        of, arrays = found.of, each_prefixed(found.arrays, "a.")
        return [_reply(of, *own) for own in zip(arrays, found.weights, found.metrics, strict=True)]


GATHER = Plain


@dataclass(slots=True)
class _Running:
    """The sum of whole numbers, as they come: each contribution is checked and added while others are waited for, so
    that little is left to do when the last one is in. Nobody's turn changes it, since they add exactly.

    Args:
        layout: name (with its prefix) to type and shape of what is asked for.
        fault: of :class:`hanse.kinds.Ask`.
        entered: those that are in ``total``; ``guilty``: those that are not, and why.
        total: None before the first; and once something was odd, as then all is looked at when all are in.
    """

    layout: Mapping[str, tuple[np.dtype[Any], tuple[int | None, ...]]]
    fault: Callable[[Mapping[str, Array]], str]
    entered: set[tuple[str, int]] = field(default_factory=set)
    guilty: dict[tuple[str, int], str] = field(default_factory=dict)
    total: dict[str, Array] | None = None
    odd: bool = False

    @staticmethod
    def of(ask: Ask) -> _Running | None:
        """For what is asked; None where these are no whole numbers of known lengths, or so many that others would wait
        while one is added."""
        if ask.combine is not Combine.SUM or ask.fault is None or not ask.arrays:
            return None
        layout = {f"a.{name}": (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in ask.arrays.items()}
        numbers = 0
        for dtype, shape in layout.values():
            if dtype != np.int64 or None in shape:
                return None
            numbers += math.prod(n or 0 for n in shape)
        return _Running(layout, ask.fault) if 8 * numbers <= _MEANWHILE_BYTES else None

    def enter(self, answer: Answer, record: Record) -> None:
        """One that has come."""
        if self.odd:
            return
        try:
            self._add(answer, record)
        except Exception:  # whatever it is, it is said in its order when all are in
            self.odd, self.total = True, None

    def _add(self, answer: Answer, record: Record) -> None:
        places = Layout.of(record.arrays).places
        forms = {name: (place.dtype, place.shape) for name, place in places.items() if name.startswith("a.")}
        if answer.weight != 1 or forms != self.layout:
            self.odd, self.total = True, None
            return
        own, key = {name[2:]: record.arrays[name] for name in self.layout}, (answer.node, answer.asked)
        if said := self.fault(own):
            self.guilty[key] = said
            return
        if self.total is None:
            self.total = own
        else:  # numbers of 64 bits go round; the first are the contribution's own
            into = self.total if len(self.entered) > 1 else dict.fromkeys(own)
            self.total = {name: np.add(self.total[name], array, out=into[name]) for name, array in own.items()}
        self.entered.add(key)

    def taken(self, answers: Sequence[Answer]) -> dict[str, Array] | None:
        """The sum, if it is that of just these answers, each of which weighs 1; once, as it may be written to. Raises
        ``Unusable`` where some of them cannot be true."""
        keys = {(answer.node, answer.asked) for answer in answers}
        guilty = {node: said for (node, asked), said in self.guilty.items() if (node, asked) in keys}
        if self.total is None or keys != self.entered | {key for key in self.guilty if key in keys}:
            return None
        if guilty:
            raise Unusable(guilty)
        if len(self.entered) == 1:
            return None  # still the contribution's own
        total, self.total, self.odd = self.total, None, True
        return total


def of_one(node: str, contribution: Contribution, ask: Ask, step: int) -> Gathered:
    """What is gathered where one node takes part, as where it computes for itself what a federation would."""
    body = Plain().reply("answer", ask.record, lambda record: contribution, Party(node))
    expected = {"a.": ask.arrays, "s.": ask.sums}
    found = (came(node, step, body),)
    return Contributions(found, {}, ask.combine, expected, fault=ask.fault).among([node], step)


def _products(record: Record, whole: Mapping[str, Array]) -> tuple[float, float]:
    inner = square = 0.0
    for name, array in whole.items():
        flat = array.reshape(-1)
        for low in range(0, flat.size, spans.BLOCK):
            high = min(low + spans.BLOCK, flat.size)
            values = block(record.arrays, f"a.{name}", low, high).astype(np.float64)
            inner, square = inner + float(values @ flat[low:high]), square + float(values @ values)
    return inner, square


def _nbytes(layout: Mapping[str, ArrayPlace]) -> int:
    return 8 * sum(place.size for place in layout.values())


def _type_of_sum(one: np.dtype[Any], weighted: bool, keep: bool) -> np.dtype[Any]:
    """Whole numbers add up exactly unless they have weights; ``keep``: others stay as they are."""
    if one.kind in "iub":
        return np.dtype(np.float64 if weighted or keep else np.int64)
    return one if keep else np.dtype(np.float64)


def _reply(of: Contribution, arrays: Mapping[str, Array], weight: float, said: Mapping[str, float]) -> Record:
    """The reply with a contribution that has these arrays, under the names by which they travel, and metrics."""
    metrics: dict[str, Json] = dict(said)
    try:
        finite = math.isfinite(sum(said.values()))  # then each of them is
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        metrics = {name: _finite(value) for name, value in said.items()}
    data = {"weight": float(weight), "data": of.record.data, "metrics": metrics}
    if of.combine is Combine.SUM and type(arrays) is not Row:  # which lies in this process
        arrays, narrow = _narrow.narrowed(arrays)
        if narrow:
            data[_narrow.NARROW] = narrow
    return Record(data, arrays)


def _finite(value: float) -> Json:
    return value if not isinstance(value, (float, np.floating)) or math.isfinite(value) else None


def came(node: str, asked: int, body: Record) -> tuple[Answer, Record]:
    """What a reply says, and its arrays as the node made them. Raises ``ValueError`` and the like where it is no
    contribution."""
    whole = _narrow.widened(body)
    return _answer(node, asked, whole.data), Record(SAID, whole.arrays)


def _answer(node: str, asked: int, data: Mapping[str, Json]) -> Answer:
    weight, metrics, more = data["weight"], data["metrics"], data["data"]
    if type(weight) is not float and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
        raise ValueError("the weight is not a number")
    weight = float(weight)
    if not 0.0 <= weight < math.inf:
        raise ValueError(f"the weight is {weight}; expected a finite number of at least 0")
    if not isinstance(metrics, dict) or not isinstance(more, dict):
        raise ValueError("metrics and data must be objects")
    if len(metrics) > _METRICS or not _printable(tuple(metrics)):
        raise ValueError(f"metrics are at most {_METRICS} numbers with printable names")
    for value in metrics.values():
        if type(value) is not float and value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError("a metric is a number or null")
    return Answer(node, weight, more, metrics, asked, weight)


@lru_cache(64)  # all answers of many rounds have the same names
def _printable(names: tuple[str, ...]) -> bool:
    return all(len(name) <= 200 and name.isprintable() for name in names)


@dataclass(frozen=True, slots=True)
class Contributions:
    """:class:`hanse.kinds.Gathered` over whole contributions."""

    found: Sequence[Pair]
    failures: Mapping[str, str]
    combine: Combine
    expected: Mapping[str, Shapes | None] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    step: int = 0
    fault: Callable[[Mapping[str, Array]], str] | None = None
    running: _Running | None = None
    _checked: dict[str, Mapping[str, ArrayPlace]] = field(default_factory=dict)

    @property
    def answers(self) -> Sequence[Answer]:
        return self.found.answers if isinstance(self.found, Columns) else tuple([answer for answer, _ in self.found])

    @property
    def weight(self) -> float:
        return math.fsum([answer.weight for answer, _ in self.found])

    @property
    def nbytes(self) -> int:
        if self.running is not None and self.running.total is not None:
            return sum([array.nbytes for array in self.running.total.values()])
        return sum([record.nbytes for _, record in self.found])

    def among(self, nodes: Sequence[str], step: int) -> Contributions:
        return replace(self, nodes=tuple(nodes), step=step)

    def without(self, nodes: Mapping[str, str]) -> Contributions:
        kept = Found(pair for pair in self.found if pair[0].node not in nodes).all()
        return replace(self, found=kept, failures={**self.failures, **nodes}, _checked={})

    def weighted(self, weights: Sequence[float]) -> Contributions:
        found = Found((a._replace(weight=w), record) for (a, record), w in zip(self.found, weights, strict=True))
        return replace(self, found=found.all(), _checked={})

    def beyond(self, counts: Mapping[str, int | None], rows: Mapping[str, float]) -> dict[str, str]:
        return _checks.beyond(self.found, counts, rows)

    @property
    def unchecked(self) -> tuple[str, ...]:
        return ()

    @property
    def told(self) -> Mapping[str, Json]:
        return {}

    def sum(self) -> dict[str, Array]:
        self._may_add()
        ones = all(answer.weight == 1 for answer, _ in self.found)
        if ones and self.running is not None and (total := self.running.taken(self.answers)) is not None:
            places = Layout.of(self.found[0][1].arrays).places
            self._checked["a."] = {name: place for name, place in places.items() if name.startswith("a.")}
            return total
        if ones and self.fault is not None and "a." not in self._checked:
            layout = _checks.layout(self.found, "a.", self.expected.get("a."))
            if all(p.dtype.kind in "iub" for p in layout.values()) and _nbytes(layout) <= _AT_ONCE_BYTES:
                return self._added_at_once(layout, self.fault)
        return self._reduce("a.", weighted=not ones, divide=1.0, keep=False)

    def mean(self) -> dict[str, Array]:
        self._may_add()
        weight = self.weight
        if not weight > 0:
            raise RunFailed(
                "the weights of all contributions are zero, so there is no mean; are there training rows at any site?"
            )
        return self._reduce("a.", weighted=True, divide=weight, keep=True)

    def sums(self) -> dict[str, Array]:
        return self._reduce("s.", weighted=False, divide=1.0, keep=False)

    def products(self, whole: Mapping[str, Array]) -> list[tuple[float, float]]:
        return [_products(record, whole) for _, record in self.found]

    def each(self) -> Iterator[tuple[Answer, Record]]:
        if self.combine is Combine.SUM:
            raise RunFailed("this step asked for sums only; single contributions are not to be looked at")
        if self.combine is Combine.EACH or self.expected.get("a.") is not None:
            guilty = _checks.unsound(self.found, self._common("a."))
            if guilty:
                raise Unusable(guilty)
        for answer, record in self.found:
            yield answer, Record(answer.data, under(record.arrays, "a."))  # a spooled one is read when it is looked at

    def _may_add(self) -> None:
        if self.combine is not Combine.SUM:
            raise RunFailed(f"this step asked for {self.combine}, so its contributions do not add")

    def _reduce(self, prefix: str, *, weighted: bool, divide: float, keep: bool) -> dict[str, Array]:
        layout = self._common(prefix)
        self._known_lengths(prefix)
        each = sum(place.nbytes for place in layout.values())
        if each < HUGE_BYTES and each * len(self.found) >= LARGE_BYTES:
            give_back()  # what the transfer held: the sum needs room now
        weights = [answer.weight if weighted else 1.0 for answer, _ in self.found]
        dtypes = {name: _type_of_sum(place.dtype, weighted, keep) for name, place in layout.items()}
        totals = several({name: (place.size, dtypes[name]) for name, place in layout.items()})
        numbers = sum(place.size for place in layout.values()) * len(self.found)
        if 0 < numbers <= _SMALL and np.int64 not in dtypes.values():
            return self._added_in_order(layout, weights, divide, totals)
        return {
            name[2:]: self._add(name, place, weights, divide, totals[name], dtypes[name] == np.int64)
            for name, place in layout.items()
        }

    def _added_at_once(
        self, layout: Mapping[str, ArrayPlace], fault: Callable[[Mapping[str, Array]], str]
    ) -> dict[str, Array]:
        """The sum of whole numbers, of which each contribution is read once: it is checked and added before the next
        one is looked at. (What makes these from what travelled would be done twice.)"""
        self._known_lengths("a.")
        guilty: dict[str, str] = {}
        total: dict[str, Array] = {}
        for place, (answer, record) in enumerate(self.found):
            own = {name[2:]: record.arrays[name] for name in layout}
            if said := fault(own):
                guilty[answer.node] = said
            elif place == 0:
                total = own
            elif not guilty:  # numbers of 64 bits go round, in every way to add
                into = total if place > 1 else dict.fromkeys(total)
                total = {n: np.add(total[n], a, out=into[n], dtype=np.int64, casting="unsafe") for n, a in own.items()}
        if guilty:
            raise Unusable(guilty)
        self._checked["a."] = layout
        return total if len(self.found) > 1 else {n: np.array(a, np.int64) for n, a in total.items()}

    def _known_lengths(self, prefix: str) -> None:
        if any(None in shape for _, shape in (self.expected.get(prefix) or {}).values()):
            raise RunFailed("this step asked for arrays of any length, which do not add; name their lengths")

    def _add(
        self, name: str, place: ArrayPlace, weights: Sequence[float], divide: float, total: Array, whole: bool
    ) -> Array:
        inner, put = np.int64 if whole else np.float64, puts(total)
        # The inverse of a power of two is exact, and a product is much quicker than a quotient
        exact = 1.0 / divide if divide != 1.0 and math.frexp(divide)[0] == 0.5 else None

        def part(start: int, stop: int) -> bool:
            fine = True
            accumulator = np.empty(min(spans.BLOCK, stop - start), inner)
            scratch = np.empty_like(accumulator)
            for low in range(start, stop, spans.BLOCK):
                high = min(low + spans.BLOCK, stop)
                into, product = accumulator[: high - low], scratch[: high - low]
                empty = True
                for (_, record), weight in zip(self.found, weights, strict=True):
                    values = block(record.arrays, name, low, high)
                    if empty and whole:
                        np.copyto(into, values, casting="unsafe")
                    elif empty:
                        np.multiply(values, weight, out=into, dtype=inner)  # else in the type of the values
                    elif whole:
                        np.add(into, values, out=into, casting="unsafe")
                    elif weight == 1.0:
                        np.add(into, values, out=into)
                    else:
                        np.multiply(values, weight, out=product, dtype=inner)
                        np.add(into, product, out=into)
                    empty = False
                if exact is not None:
                    np.multiply(into, exact, out=into)
                elif divide != 1.0:
                    np.divide(into, divide, out=into)
                if not whole:
                    fine = fine and math.isfinite(float(np.sum(into)))
                put(low, into)
            return fine

        with np.errstate(over="ignore", invalid="ignore"):
            if not spans.over(part, place.size):
                self._blame(name, place, total)
        return total.reshape(place.shape)

    def _added_in_order(
        self,
        layout: Mapping[str, ArrayPlace],
        weights: Sequence[float],
        divide: float,
        totals: Mapping[str, Array],
    ) -> dict[str, Array]:
        """The same sums, bit by bit, of so few numbers that each call takes longer than its arithmetic."""
        together, found = Together([record.arrays for _, record in self.found]), dict[str, Array]()
        ends = list(itertools.accumulate(place.size for place in layout.values()))
        each = np.empty((len(self.found), ends[-1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for (name, place), end in zip(layout.items(), ends, strict=True):
                together.put(name, 0, each[:, end - place.size : end])
            each *= np.array(weights)[:, None]
            total = np.add.accumulate(each, axis=0, out=each)[-1]
            if divide != 1.0:
                total /= divide
            fine = math.isfinite(float(np.sum(total)))
            for (name, place), end in zip(layout.items(), ends, strict=True):
                puts(totals[name])(0, total[end - place.size : end])
                if not fine:
                    self._blame(name, place, totals[name])
                found[name[2:]] = totals[name].reshape(place.shape)
        return found

    def _blame(self, name: str, place: ArrayPlace, total: Array) -> None:
        guilty = _checks.not_finite(self.found, name, place)
        if guilty:
            raise Unusable(guilty)
        if not np.all(np.isfinite(total)):
            raise RunFailed(f"the sum of {name[2:]!r} over the nodes is too large for its type")

    def _common(self, prefix: str) -> Mapping[str, ArrayPlace]:
        if prefix not in self._checked:
            self._checked[prefix] = _checks.layout(self.found, prefix, self.expected.get(prefix))
            if prefix == "a." and self.fault is not None:
                _checks.sound(self.found, prefix, self.fault)
        return self._checked[prefix]
