"""The contributions of a step that are in: a few as they came, and where there are more, all in columns. So what waits
for the last of ten thousand takes little beside its arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hanse.by_node import ByPlace
from hanse.kinds import Answer
from hanse.messages import Array, Json, Record
from hanse.participants import AnswerColumns

Pair = tuple[Answer, Record]
FEW = 256
_NONE: Mapping[str, Array] = {}
SAID: Mapping[str, Json] = {}  # beside the arrays, once the answer holds it: replies wait without it


class Columns(ByPlace[Pair]):
    """The answers in columns, and the arrays of each."""

    __slots__ = ("_arrays", "answers")

    def __init__(self) -> None:
        self.answers = AnswerColumns()
        self._arrays: list[Mapping[str, Array]] = []

    def append(self, answer: Answer, record: Record) -> None:
        """One more; of the record its arrays."""
        self.answers.append(answer)
        self._arrays.append(record.arrays or _NONE)  # one object

    def at(self, place: int) -> Pair:
        """The answer at this place, and its arrays."""
        return self.answers[place], Record(SAID, self._arrays[place])

    def __len__(self) -> int:
        return len(self._arrays)


class Found:
    """What comes, one after the other."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._few: list[Pair] = []
        self._columns: Columns | None = None
        for pair in pairs:
            self.append(*pair)

    def append(self, answer: Answer, record: Record) -> None:
        """One more; of the record its arrays."""
        self._few.append((answer, record))
        if len(self._few) == FEW:
            self._columns = self._together()

    def _together(self) -> Columns:
        columns, few = self._columns or Columns(), self._few
        for pair in few:
            columns.append(*pair)
        few.clear()
        return columns

    def all(self) -> Sequence[Pair]:
        """What has come, as it came."""
        return tuple(self._few) if self._columns is None else self._together()

    def in_order(self) -> Sequence[Pair]:
        """What has come, in the order of nodes, and of one in that of the steps in which it was asked."""
        found = self.all()
        if isinstance(found, Columns):
            order = sorted(range(len(found)), key=found.answers.asked.__getitem__)
            order.sort(key=found.answers.nodes.__getitem__)
            return Found(found[place] for place in order).all()  # one after the other: not all are made at once
        return tuple(sorted(found, key=_place))


def _place(pair: Pair) -> tuple[str, int]:
    return pair[0].node, pair[0].asked
