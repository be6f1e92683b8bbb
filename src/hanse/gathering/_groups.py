"""Nodes that are in the secure sums of a run together, or not at all.

Of each step one sum is told (:mod:`hanse.gathering._bound`). But a coordinator chooses what it asks: it can ask in the
next step what it asked in this one, or nearly, and say that a node was lost. The two sums then differ by this node's
numbers, or nearly, and no node can see that a question is nearly another. So where a run has groups, each sum is one of
whole groups, which are the same in all of its steps. What adding and subtracting makes of such sums is again one of
whole groups: no number of steps tells of fewer nodes than the smallest group has. A node that is lost takes its group
with it.

References: So, Ali, Güler, Jiao and Avestimehr 2023, "Securing secure aggregation: mitigating multi-round privacy
leakage in federated learning", where a group is a batch of users, and the guarantee is proved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence


def groups(nodes: Iterable[str], least: int) -> list[tuple[str, ...]]:
    """The nodes of a run, by name, in as many groups as hold ``least`` of them each; one, where they are fewer.

    >>> groups(["a", "b", "c", "d", "e"], 2)
    [('a', 'b', 'c'), ('d', 'e')]
    """
    names = sorted(nodes)
    count = max(1, len(names) // least)
    size, more = divmod(len(names), count)
    ends = [size * (k + 1) + min(k + 1, more) for k in range(count)]
    return [tuple(names[low:high]) for low, high in zip([0, *ends], ends, strict=False)]


def beside(node: str, nodes: Iterable[str], least: int) -> tuple[str, ...]:
    """The group of ``node``, itself among it.

    >>> beside("d", ["a", "b", "c", "d", "e"], 2)
    ('d', 'e')
    """
    return next(group for group in groups(nodes, least) if node in group)


def smallest(nodes: int, least: int) -> int:
    """How many nodes two sums of a run of so many nodes differ by at least, where they differ.

    >>> smallest(10, 3), smallest(3, 5), smallest(4, 1)
    (3, 3, 1)
    """
    return nodes // max(1, nodes // least)


def whole(nodes: Collection[str], group: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Those of ``nodes`` whose group is not here wholly, and who of it is missing.

    Args:
        group: of each of them.

    >>> whole({"a", "b", "c"}, {"a": "ab", "b": "ab", "c": "cd"})
    {'c': ['d']}
    """
    missing = {node: [other for other in group[node] if other not in nodes] for node in sorted(nodes)}
    return {node: others for node, others in missing.items() if others}
