"""What a node remembers of the totals that its data set was in, so that several queries add up to nobody's own numbers:
with which nodes it was summed, and the edges of histograms that were shown."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hanse.algorithms._observation import Shown, key_parts
from hanse.errors import NotAllowed
from hanse.kinds import Site, Source
from hanse.suppression import isolates

NODES = 3  # that a total is of at least, where the owner says nothing else
_TURN = threading.Lock()  # a node has one worker, a simulation threads: what is compared and kept is one step
_PEERS, _EDGES = "peers", "edges of totals"


def take_part(site: Site, for_good: bool) -> None:
    """Remembers the nodes of this sum, where it is made (``for_good``). Raises ``NotAllowed`` where those of an earlier
    one were others, but for few, or where earlier sums and this one, each taken any number of times, make up one of
    few."""
    assert site.source is not None
    mine, least = {*site.nodes}, int(site.owner.get("secure_aggregation_nodes", NODES))
    if site.node not in mine or len(mine) < least:
        raise NotAllowed(
            f"the minimum of this node holds on totals of at least {least} nodes, and this run is of {len(mine)}"
        )
    with _TURN:
        known: list[list[str]] = [list(map(str, nodes)) for nodes in site.source.memory.get(_PEERS) or []]
        if sorted(mine) in known:
            return  # it was agreed to, and others may have been since
        for nodes in known:
            if any(0 < len(part) < least for part in (mine - {*nodes}, {*nodes} - mine)):
                raise NotAllowed(
                    f"this data set was summed with those of {', '.join(nodes)} before. A sum without, or with, fewer "
                    f"than {least} of them would show theirs by subtraction; ask the same nodes again"
                )
        if _some_sum_is_of_few([*map(set, known), mine], least):
            raise NotAllowed(
                f"with the sums that this data set was in before, this one would make up a sum of fewer than {least} "
                "nodes; ask the nodes of an earlier one again"
            )
        if for_good:
            site.source.memory[_PEERS] = [*known, sorted(mine)]


def _some_sum_is_of_few(sets: Sequence[set[str]], least: int) -> bool:
    """Whether the totals of these sets of nodes add up, each taken any number of times, to one of fewer nodes.

    >>> _some_sum_is_of_few([{*"abcd"}, {*"aefg"}, {*"abcdefg"}], 3)  # the first two, less the third, are a alone
    True
    >>> _some_sum_is_of_few([{*"abcd"}, {*"abcdefg"}], 3)
    False
    """
    everyone = sorted(set().union(*sets))
    inside = np.array([[node in nodes for nodes in sets] for node in everyone])
    patterns, counts = np.unique(inside, axis=0, return_counts=True)
    return isolates(patterns, counts, least)


def edges(source: Source, columns: Collection[tuple[str, ...]]) -> Shown:
    """Those of these columns that were shown."""
    return {key: found for key, found in _edges(source).items() if key_parts(key)[0] in columns}


def remember(site: Site, columns: Collection[tuple[str, ...]], fresh: Mapping[str, Sequence[float]]) -> None:
    """Keeps the edges that are about to be shown. Raises ``NotAllowed`` where others were since this query began, with
    which nobody compared these: two that are asked side by side would show who stands between them."""
    assert site.source is not None
    with _TURN:
        if any(not {*found} <= {*fresh.get(key, ())} for key, found in edges(site.source, columns).items()):
            raise NotAllowed("other edges of these columns were shown while this was asked; ask again")
        before = _edges(site.source)
        site.source.memory[_EDGES] = before | {k: sorted({*before.get(k, ()), *v}) for k, v in fresh.items()}


def _edges(source: Source) -> Shown:
    return {str(key): list(found) for key, found in (source.memory.get(_EDGES) or {}).items()}
