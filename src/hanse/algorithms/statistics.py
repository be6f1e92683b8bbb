"""Statistics: one query, answered by as few asks as its dependencies allow.

What adds over sites is asked as a SUM, what must be merged (sketches, sets of labels) as a MERGE. A
node looks at its rows once for all that can be observed at the same time, and keeps what it found
(in ``cache``), so a centred sum about the mean of all sites costs another ask but no other pass.

Every ask goes to the nodes that answered the first, so all numbers are of the same rows. Where one of them is lost
on the way, all is asked once more, of those that are left: a sum about a mean is of no use without it.

Run options (``model_options``): ``items`` as of :meth:`hanse.queries.Item.to_json`; ``where``, a list of
``[column, operation, value]``; ``per_node``, to have the values of each node besides those of all. A node
whose owner does not let it be shown by itself sends a sentence in place of numbers then, and is in neither.

The owner's settings come in ``Site.owner``: ``minimum_cell``, ``allow_extremes``, ``allow_node_statistics``,
``statistics_columns``, ``statistics_denied_columns``, ``most_filters``.
All that keeps something back happens at the node, before anything leaves; what a node sends is safe by
itself. What is sent as a SUM has bounded arrays of counts and sums with weight one, so a secure sum
or noise takes hold in the gathering, without another line here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hanse.algorithms._disclosure import disclosed
from hanse.algorithms._observation import Shown, observed
from hanse.algorithms._owner import base, owner_of
from hanse.algorithms._pairs_before import Earlier
from hanse.algorithms._query import (
    BESIDES,
    SITES,
    WITHHELD,
    ByItem,
    Query,
    bounds,
    fewer,
    finite,
    given,
    known_of,
    labels_by,
    one_group,
    sliced,
    stacked,
    unit,
    value,
    why,
)
from hanse.codec import encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, Unusable
from hanse.kinds import EVERYONE, Ask, Combine, Contribution, Done, Gathered, Site
from hanse.messages import Array, Json, Record
from hanse.queries import Arrays, Item, Plan, TableSource, statistic
from hanse.typed import Typed

AT_ONCE = True
MINIMUM = "node"  # where it holds (:mod:`hanse.policy.statistics_minimum`)
AGAIN = 3  # times that a query may begin anew; an owner consents to so many steps
ALONE = "its owner gives no statistics of it alone (allow_node_statistics = false)"


def ingredients(options: Mapping[str, Json]) -> list[str]:
    """Modules of the node's half that the query uses, for the bundle."""
    query = Query.of(options)
    files = sorted({f"hanse.statistics.{item.stat}" for item in query.plan.items})
    return ["hanse.queries", "hanse.suppression", *files]


def combines(options: Mapping[str, Json]) -> frozenset[Combine]:
    """The ways to combine that this query asks for."""
    query = Query.of(options)
    return frozenset(query.combine(index) for index in range(len(query.plan.asks)))


def most_steps(config: RunConfig) -> int:
    """One for each ask of the query, and as many again each time that it begins anew without a node that was lost."""
    return (1 + AGAIN) * len(Query.of(config.model_options).plan.asks)


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows of a query. An item stands under its place in the plan, as text.

    Args:
        query: the run's options, as they were asked.
        asked: so many asks are answered.
        again: so often all was asked once more, since a node was lost on the way.
        left: the nodes that the first ask goes to then; None: everyone.
        took: the nodes that answered each ask.
        withheld: item to node to the reason why it keeps all of it back.
        kept: item to node to the groups that it keeps back; ``single``: those taken out here, since one site alone
            told of them.
        lacking: column to the nodes that lack it.
        alone: node to the reason why it is not shown by itself.
        arrays: of all items that are in, ``<place>.<name>``, and with ``per_node`` ``@<node>@<place>.<name>``.
    """

    query: Mapping[str, Json]
    asked: int = 0
    again: int = 0
    left: tuple[str, ...] | None = None
    took: tuple[tuple[str, ...], ...] = ()
    withheld: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kept: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    single: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alone: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: the ask of this number of the plan, with the arrays of what it rests on."""

    ask: int
    again: int = 0
    arrays: Mapping[str, Array] = field(default_factory=dict)


class Statistics:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.SUM, Combine.MERGE})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        """Nothing is asked. Raises ``ConfigError`` for a query that is none."""
        Query.of(config["model_options"])
        return State(config["model_options"])

    def ask(self, state: State) -> Ask | Done:
        """The next ask of the plan."""
        query, index = Query.of(state.query), state.asked
        if index >= len(query.plan.asks):
            return Done("every statistic is in")
        if index and not state.took[-1]:
            return Done("no node is shown by itself")
        to = state.took[-1] if index else EVERYONE if state.left is None else state.left
        rows = [
            i for i in query.plan.asked(index) if not any(column.endswith("]") for column in i.columns)
        ]  # of images, pixels count
        counts = {f"{query.plan.place(i)}.{name}": None for i in rows for name in statistic(i.stat).counts}
        question = Question(index, state.again, query.arrays_for(index, state.arrays))
        return Ask(encode(question), query.combine(index), "statistics", None, to=to, counts=counts)

    # ------------------------------------------------------------ node

    def answer(self, site: Site, ask: Question) -> Contribution:
        """What this node tells of the items of one ask. Raises ``ConfigError`` where the query has none such."""
        query, index = Query.of(site.config["model_options"]), ask.ask
        if not 0 <= index < len(query.plan.asks):
            raise ConfigError("the query has no such ask")
        if query.per_node and site.owner.get("allow_node_statistics", False) is not True:
            return Contribution(Record({"alone": ALONE}), 1.0, combine=query.combine(index))
        ask = replace(ask, arrays=ByItem.of(ask.arrays))
        source = site.source if site.source is not None else TableSource(site.table)
        owner = owner_of(site, query, source.schema)
        lacking = [c for c in query.plan.columns() if base(c, source.schema) not in source.schema]
        arrays: dict[str, Array] = {}
        reasons: dict[str, str] = {}
        kept: dict[str, list[int]] = {}
        shown: Shown = dict(source.memory.get("edges") or {})
        before = dict(shown)
        asked = query.plan.asked(index)
        pairs = Earlier(source, query, asked, ask.arrays, owner.minimum)
        for item, scan in observed(site, source, query, asked, ask.arrays, owner, before, ask.again).items():
            place = query.plan.place(item)
            images = source.rows if item.columns[0] not in source.schema else None
            sent, reason = disclosed(item, scan, query.plan, ask.arrays, owner, images, shown, pairs)
            arrays.update((f"{place}.{name}", array) for name, array in sent.items())
            if reason:
                reasons[str(place)] = reason
            if groups := np.flatnonzero(sent[WITHHELD]).tolist():
                kept[str(place)] = groups
        if shown != before:
            source.memory["edges"] = shown
        pairs.remember()
        said = {"withheld": reasons, "kept": kept, "lacking": lacking}
        return Contribution(Record(said, arrays), 1.0, combine=query.combine(index))

    # ------------------------------------------------------------ coordinator

    def tell(self, state: State, gathered: Gathered) -> State:
        """The state with what these nodes told. Raises ``Unusable`` where what they sent is none."""
        query, index = Query.of(state.query), state.asked
        items = query.plan.asked(index)
        places = {item: query.plan.place(item) for item in items}
        arrays = dict(state.arrays)
        if query.combine(index) is Combine.SUM:
            arrays |= gathered.sum()
        else:
            arrays |= _merged(query, items, places, gathered)
        refused = {a.node: str(a.data["alone"])[:300] for a in gathered.answers if query.per_node and "alone" in a.data}
        took = tuple(a.node for a in gathered.answers if a.node not in refused)
        alone = {**state.alone, **refused}
        if index and took != state.took[-1]:  # each time fewer, so this ends
            return State(state.query, again=state.again + 1, left=took, alone=alone)
        known, came = ByItem.of(state.arrays), ByItem(arrays)
        for item, place in places.items() if took else ():
            _check_layout(query.plan, item, sliced(came, place), known, gathered)
        single: dict[str, tuple[int, ...]] = {}
        for item, place in places.items() if took and not query.per_node else ():
            if groups := _of_one_site(query.plan, item, place, sliced(came, place), arrays):
                single[str(place)] = groups
        withheld = {k: dict(v) for k, v in state.withheld.items()}
        kept = {k: dict(v) for k, v in state.kept.items()}
        lacking = dict(state.lacking)
        for answer in gathered.answers:
            for number, reason in _texts(answer.data.get("withheld")).items():
                withheld.setdefault(number, {})[answer.node] = reason[:300]
            for number, groups in _numbers(answer.data.get("kept")).items():
                kept.setdefault(number, {})[answer.node] = groups
            for column in answer.data.get("lacking") or ():
                lacking[str(column)] = tuple(sorted({*lacking.get(str(column), ()), answer.node}))
        return replace(
            state,
            asked=index + 1,
            withheld=withheld,
            kept=kept,
            single={**state.single, **single},
            lacking=lacking,
            took=(*state.took, took),
            alone=alone,
            arrays=arrays,
        )

    def result(self, state: State) -> Record:
        """The state's fields as data, and its arrays by their own names; :class:`hanse.fetched.Fetched` reads it."""
        data = encode(replace(state, arrays={})).data
        return Record(data, state.arrays)

    def metrics(self, state: State) -> Mapping[str, Json]:
        """How many asks are answered."""
        return {"asks": state.asked}


def _texts(found: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _numbers(found: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(found, Mapping):
        return {}
    listed = {str(k): v for k, v in found.items() if isinstance(v, (list, tuple))}
    return {k: tuple(int(g) for g in v if isinstance(g, int)) for k, v in listed.items()}


def _of_one_site(
    plan: Plan, item: Item, place: int, own: Mapping[str, Array], arrays: dict[str, Array]
) -> tuple[int, ...]:
    """Groups of which a single site tells something while others keep theirs back. What is left of all would be that
    site's own, so it is taken out: the group, or of labels and tables the cell."""
    mine = {name: np.array(array) for name, array in own.items()}
    sites, back = mine[SITES], mine[WITHHELD]
    if item.stat == "levels" or not (back.any() or mine.get("hidden", back).any()):
        return ()
    single = set(np.flatnonzero((sites == 1) & (back > 0)).tolist())
    for group in single:
        for name, array in unit(item, known_of(plan, arrays, item, group)).items():
            mine[name][group] = 0
            inside: tuple[int | slice, ...] = (group, *(slice(0, size) for size in array.shape))
            mine[name][inside] = array
        sites[group], back[group] = 0, back[group] + 1
    if "first" not in mine and mine.get("hidden", sites).shape == mine.get("counts", back).shape != sites.shape:
        cells, of = mine["hidden"], sites.reshape(-1, *[1] * (mine["hidden"].ndim - 1))
        alone = (cells > 0) & (cells == of - 1)
        mine["counts"][alone], mine["hidden"] = 0, np.where(alone, of, cells)
        single |= set(np.flatnonzero(alone.reshape(len(alone), -1).any(1)).tolist())
    arrays.update({f"{place}.{name}": array for name, array in mine.items()})
    return tuple(sorted(int(group) for group in single))


def _merged(query: Query, items: Sequence[Item], places: Mapping[Item, int], gathered: Gathered) -> dict[str, Array]:
    """Contributions merged in the order of node ids; with ``per_node``, those of each node too."""
    total: dict[Item, dict[str, Array]] = {}
    out: dict[str, Array] = {}
    guilty: dict[str, str] = {}
    for answer, record in gathered.each():
        if query.per_node and "alone" in answer.data:
            continue
        try:
            came = ByItem(record.arrays)
            own = {item: {k: np.array(v) for k, v in sliced(came, places[item]).items()} for item in items}
            for item in items:
                if statistic(item.stat).combine is Combine.SUM and not finite(own[item]):
                    raise ValueError
                total[item] = _joined(item, total[item], own[item]) if item in total else own[item]
        except (KeyError, ValueError, TypeError, IndexError) as error:
            guilty[answer.node] = f"its arrays cannot be merged ({type(error).__name__})"
            continue
        if query.per_node:
            out |= {f"@{answer.node}@{places[i]}.{k}": v for i in items for k, v in own[i].items()}
    if not guilty:
        large = [
            i.name for i in items if i in total and statistic(i.stat).combine is Combine.SUM and not finite(total[i])
        ]
        guilty = {
            a.node: f"{large[0]}: the sums of all nodes together are too large" for a in gathered.answers if large
        }
    if guilty:
        raise Unusable(guilty)
    return {**out, **{f"{places[i]}.{k}": v for i, found in total.items() for k, v in found.items()}}


def _joined(item: Item, a: Arrays, b: Arrays) -> dict[str, Array]:
    stat = statistic(item.stat)
    add = stat.combine is Combine.SUM
    if add:
        if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
            raise ValueError
        with np.errstate(over="ignore", invalid="ignore"):
            return {k: a[k] + b[k] for k in a}
    groups = [stat.merge(one_group(a, g), one_group(b, g)) for g in range(len(a["n"]))]
    return {**stacked(groups), **{name: a[name] + b[name] for name in BESIDES}}


def _check_layout(query: Plan, item: Item, found: Arrays, known: Mapping[str, Array], gathered: Gathered) -> None:
    """Whether a sum has the names and shapes that it must have. All nodes agree on them by now, so all
    of them are to blame where it has not."""
    groups = int(np.prod([len(labels) for labels in labels_by(query, known, item)], dtype=np.int64))
    units = [unit(item, known_of(query, known, item, g)) for g in range(groups if statistic(item.stat).before else 1)]
    shapes = {
        name: array.shape[1:] for name, array in stacked(units or [unit(item, known_of(query, known, item, 0))]).items()
    }
    wrong = set(found) != {*shapes, *BESIDES}
    for name, shape in shapes.items():
        wrong = wrong or (item.stat != "levels" and found[name].shape != (groups, *shape))
    if wrong:
        raise Unusable(
            {a.node: f"its answer to {item.name} has other arrays than were asked for" for a in gathered.answers}
        )


ALGORITHM = Typed(Statistics(), State, Question)
__all__ = [
    "ALGORITHM",
    "WITHHELD",
    "ByItem",
    "Query",
    "Question",
    "State",
    "Statistics",
    "bounds",
    "fewer",
    "given",
    "ingredients",
    "known_of",
    "labels_by",
    "most_steps",
    "one_group",
    "sliced",
    "value",
    "why",
]
