"""What nodes had to do with a step, without an object for each of them: the record of a step in which ten thousand
virtual sites took part."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hanse.kinds import Answer
from hanse.messages import Json


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

    __slots__ = ("_asked", "_names", "_nodes", "_odd", "_of", "_seconds", "_start", "_values", "_weights")

    def __init__(self, nodes: Sequence[str], answers: Sequence[Answer], seconds: Iterable[float], hidden: bool) -> None:
        self._nodes, self._seconds = nodes, array("d", seconds)
        self._weights = None if hidden else array("d", [answer.weight for answer in answers])
        self._asked = array("q", [answer.asked for answer in answers])
        # many say the same names, and some say all the same
        self._names: list[tuple[str, ...]] = []
        self._of, self._start, self._values = array("i"), array("q"), array("d")
        self._odd: dict[int, Mapping[str, Json]] = {}  # place to metrics that are not all floats
        names, starts = dict[tuple[str, ...], int](), dict[int, int]()
        for place, answer in enumerate(answers):
            metrics: Mapping[str, Json] = answer.metrics
            if any(type(value) is not float for value in metrics.values()):
                self._odd[place], metrics = metrics, {}
            said = tuple(metrics)
            if said not in names:
                names[said] = len(self._names)
                self._names.append(said)
            if id(answer.metrics) not in starts:
                starts[id(answer.metrics)] = len(self._values)
                self._values.extend(metrics.values())
            self._of.append(names[said])
            self._start.append(starts[id(answer.metrics)])

    def _place(self, node: object) -> int | None:
        place = bisect_left(self._nodes, node) if isinstance(node, str) else len(self._nodes)
        return place if place < len(self._nodes) and self._nodes[place] == node else None

    def __getitem__(self, node: str) -> dict[str, Json]:
        if (place := self._place(node)) is None:
            raise KeyError(node)
        names, start = self._names[self._of[place]], self._start[place]
        return {
            "weight": None if self._weights is None else self._weights[place],
            "metrics": dict(self._odd.get(place) or zip(names, self._values[start : start + len(names)], strict=True)),
            "asked": self._asked[place],
            "seconds": self._seconds[place],
        }

    def __contains__(self, node: object) -> bool:
        return self._place(node) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)
