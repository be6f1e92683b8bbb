"""What nodes answered and had to do with a step, without an object for each of them: a step in which ten thousand
virtual sites take part."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hanse.by_node import ByPlace, place_of
from hanse.kinds import Answer
from hanse.messages import Json

_SAYINGS = 256  # of the latest answers, which others may repeat


class NumberColumn(ByPlace[Any]):
    """Numbers; as long as all are the same, one of them.

    >>> steps = NumberColumn("q")
    >>> for step in (3, 3, 4):
    ...     steps.append(step)
    >>> list(steps), steps.nbytes
    ([3, 3, 4], 24)
    """

    __slots__ = ("_length", "_values")

    def __init__(self, typecode: str) -> None:
        self._values, self._length = array(typecode), 0

    def append(self, number: float) -> None:
        """One more."""
        if len(self._values) == 1 and number != self._values[0]:
            self._values *= self._length
            self._values.append(number)  # type: ignore[arg-type]
        elif len(self._values) != 1:
            self._values.append(number)  # type: ignore[arg-type]
        self._length += 1

    def at(self, place: int) -> Any:
        """The number at this place."""
        return self._values[place if len(self._values) > 1 else 0]

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Of what is kept."""
        return len(self._values) * self._values.itemsize


class AnswerColumns(ByPlace[Answer]):
    """Answers in columns; each is made when it is looked at.

    >>> of = AnswerColumns([Answer("bonn", 2.0, {}, {"loss": 0.5}, 3), Answer("ulm", 1.0, {}, {"loss": 0.5}, 3)])
    >>> of[1], list(of.weights)
    (Answer(node='ulm', weight=1.0, data={}, metrics={'loss': 0.5}, asked=3, claimed=0.0), [2.0, 1.0])
    """

    __slots__ = ("_claimed", "_data", "asked", "metrics", "nodes", "weights")

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.nodes: list[str] = []
        self._data: list[Mapping[str, Json]] = []
        self.weights, self._claimed, self.asked = NumberColumn("d"), NumberColumn("d"), NumberColumn("q")
        self.metrics = Metrics()
        for answer in answers:
            self.append(answer)

    def append(self, answer: Answer) -> None:
        """One more."""
        self.nodes.append(answer.node)
        self._data.append(answer.data)
        self.weights.append(answer.weight)
        self._claimed.append(answer.claimed)
        self.asked.append(answer.asked)
        self.metrics.append(answer.metrics)

    def at(self, place: int) -> Answer:
        """The answer at this place."""
        node, weight, data = self.nodes[place], self.weights[place], self._data[place]
        return Answer(node, weight, data, self.metrics.at(place), self.asked[place], self._claimed[place])

    def __len__(self) -> int:
        return len(self.nodes)


class Metrics:
    """Metrics in columns: many say the same names, and some say all the same."""

    __slots__ = ("_known", "_names", "_odd", "_of", "_said", "_start", "_values")

    def __init__(self) -> None:
        self._names: list[tuple[str, ...]] = []
        self._known: dict[tuple[str, ...], int] = {}  # where each stands there
        self._of, self._start, self._values = NumberColumn("i"), array("q"), array("d")
        self._odd: dict[int, Mapping[str, Json]] = {}  # place to metrics that are not all floats
        self._said: dict[tuple[int, bytes], int] = {}  # what the latest said to where its values begin

    def append(self, metrics: Mapping[str, Json]) -> None:
        """Those of one more."""
        if any(type(value) is not float for value in metrics.values()):
            self._odd[len(self._of)], metrics = metrics, {}
        names, values = tuple(metrics), array("d", metrics.values())
        if names not in self._known:
            self._known[names] = len(self._names)
            self._names.append(names)
        said = self._known[names], values.tobytes()
        if said not in self._said:
            if len(self._said) >= _SAYINGS:
                self._said.clear()
            self._said[said] = len(self._values)
            self._values.extend(values)
        self._of.append(said[0])
        self._start.append(self._said[said])

    def at(self, place: int) -> dict[str, Json]:
        """Those of the one at this place."""
        if place in self._odd:
            return dict(self._odd[place])
        names, start = self._names[self._of[place]], self._start[place]
        return dict(zip(names, self._values[start : start + len(names)], strict=True))

    @property
    def nbytes(self) -> int:
        """Of the columns."""
        return self._of.nbytes + sum(len(column) * column.itemsize for column in (self._start, self._values))


class Participants(Mapping[str, dict[str, Json]]):
    """Node to ``{weight, metrics, asked, seconds}`` (:class:`hanse.rounds.Step`), made when it is looked at.

    Args:
        nodes: sorted, each once.
        answers: of these nodes, in their order.
        seconds: how long each took.
        hidden: whether nobody saw weights; each is null then.

    >>> of = Participants(["bonn"], [Answer("bonn", 2.0, {}, {"loss": 0.5}, 3)], [0.25], hidden=False)
    >>> of["bonn"], "ulm" in of
    ({'weight': 2.0, 'metrics': {'loss': 0.5}, 'asked': 3, 'seconds': 0.25}, False)
    """

    __slots__ = ("_asked", "_metrics", "_nodes", "_seconds", "_weights")

    def __init__(self, nodes: Sequence[str], answers: Sequence[Answer], seconds: Iterable[float], hidden: bool) -> None:
        columns = answers if isinstance(answers, AnswerColumns) else AnswerColumns(answers)
        self._nodes, self._seconds = nodes, array("d", seconds)
        self._weights, self._asked = None if hidden else columns.weights, columns.asked
        self._metrics = columns.metrics

    def __getitem__(self, node: str) -> dict[str, Json]:
        if (place := place_of(self._nodes, node)) is None:
            raise KeyError(node)
        return {
            "weight": None if self._weights is None else self._weights[place],
            "metrics": self._metrics.at(place),
            "asked": self._asked[place],
            "seconds": self._seconds[place],
        }

    def __contains__(self, node: object) -> bool:
        return place_of(self._nodes, node) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def nbytes(self) -> int:
        """Of the columns, without the names of the nodes."""
        kept = self._metrics.nbytes + self._asked.nbytes + (0 if self._weights is None else self._weights.nbytes)
        return kept + len(self._seconds) * self._seconds.itemsize
