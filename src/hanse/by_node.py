"""What is known of each of many nodes, without an object for each of them: it is made when it is looked at, so ten
thousand virtual sites take the memory of a few columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

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


def place_of(nodes: Sequence[str], node: object) -> int | None:
    """Where a node stands in ``nodes``, which are sorted; None where it does not."""
    place = bisect_left(nodes, node) if isinstance(node, str) else len(nodes)
    return place if place < len(nodes) and nodes[place] == node else None
