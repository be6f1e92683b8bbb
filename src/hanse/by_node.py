"""What is known of each of many nodes, without an object for each of them: it is made when it is looked at, so ten
thousand virtual sites take the memory of a few columns."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, overload

V = TypeVar("V")


class ByNode(Mapping[str, V]):
    """Node to what ``made`` gives of it.

    Args:
        nodes: sorted, each once.

    >>> lengths = ByNode(["bonn", "ulm"], len)
    >>> lengths["ulm"], "kiel" in lengths, dict(lengths)
    (3, False, {'bonn': 4, 'ulm': 3})
    """

    __slots__ = ("_made", "nodes")

    def __init__(self, nodes: Sequence[str], made: Callable[[str], V]) -> None:
        self.nodes, self._made = nodes, made

    def __getitem__(self, node: str) -> V:
        if place_of(self.nodes, node) is None:
            raise KeyError(node)
        return self._made(node)

    def __contains__(self, node: object) -> bool:  # Mapping's own would make it
        return place_of(self.nodes, node) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)


class ByPlace(Sequence[V]):
    """Of nodes in some order, what :meth:`at` gives of the one at a place."""

    __slots__ = ()

    @abstractmethod
    def at(self, place: int) -> V:
        """What is known of the one at this place, counted from 0 and below the length."""

    @overload
    def __getitem__(self, place: int) -> V: ...
    @overload
    def __getitem__(self, place: slice) -> list[V]: ...

    def __getitem__(self, place: int | slice) -> V | list[V]:
        places = range(len(self))[place]
        return self.at(places) if isinstance(places, int) else [self.at(one) for one in places]

    def __iter__(self) -> Iterator[V]:
        return map(self.at, range(len(self)))


def place_of(nodes: Sequence[str], node: object) -> int | None:
    """Where a node stands in ``nodes``, which are sorted; None where it does not."""
    place = bisect_left(nodes, node) if isinstance(node, str) else len(nodes)
    return place if place < len(nodes) and nodes[place] == node else None
