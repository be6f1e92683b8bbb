"""Statistics whose minimum holds on the total: of all nodes together no small cell is told.

With :mod:`hanse.algorithms.statistics` every node keeps its own small cells back, and a curve of many small sites is a
rough one. Here nobody sees a single node's numbers at all: they are told in secure sums of *all* nodes of the run, so
a node sends what it counted as it is (``Statistic.whole``). Of the sum the coordinator keeps back what a single node
with all rows would (:func:`hanse.algorithms._disclosure.disclosed`), by the same rules, before anybody sees it, and
lets the sum itself go. **It is trusted with that**: it sees the small cells of the total, of no node.

What is told is made to add up to nobody's own over queries and runs:

- A node remembers with which nodes its data set was summed, and takes part in no sum with others from which these
  differ by fewer than the owner's ``secure_aggregation_nodes``: the same question without one node is refused
  (:mod:`hanse.algorithms._memory_of_totals`).
- The edges of histograms that were shown are remembered by all nodes before the result is there (the last ask), and
  told by them in the first one. Choices of rows are each node's, with its own minimum.
- What fewer sites have columns for than a total is of is not asked: everybody knows by the columns that sites declare
  whose sum that would be.
- Survival is told at the ends of runs that depend on the rows alone (:mod:`hanse.statistics._total_curve`).

Steps: *terms*, in words: each node's minimum, and of how many nodes its owner wants totals to be, of which the largest
hold, and the edges; where labels are needed, two
sums that find those of all rows, *labels* and *names* (:mod:`hanse.algorithms._label_sums`), the latter of those alone
that all rows together have in the minimum; one sum for each dependency, as in :mod:`hanse.algorithms.statistics`;
*remember*, where edges are shown.
Rank tests are computed by the coordinator from all rows (``Statistic.of_all``): they are one number of them all.

Run options (``model_options``): as of :mod:`hanse.algorithms.statistics`. The owner's settings: besides those, in
``statistics_minimum`` that the minimum may hold on the total.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hanse.algorithms import _labels_of_all as labels_of_all
from hanse.algorithms import _memory_of_totals as memory
from hanse.algorithms._disclosure import disclosed
from hanse.algorithms._observation import Scan, Shown, key_parts, observed
from hanse.algorithms._owner import base, owner_of
from hanse.algorithms._query import WITHHELD, ByItem, Query, empty, group_number, known_of, sliced, stacked
from hanse.codec import encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, DataError, NotAllowed, Unusable, WireError
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.messages import Array, Json, Record
from hanse.queries import Arrays, Item, Known, Owner, statistic, whole
from hanse.registry import find
from hanse.typed import Typed

AT_ONCE = True
MINIMUM = "total"  # where it holds
TOTAL = "the total"  # that something is kept back of, in place of a node


def ingredients(options: Mapping[str, Json]) -> list[str]:
    """Modules of the node's half that the query uses, for the bundle."""
    files = sorted({f"hanse.statistics.{item.stat}" for item in _query(options).plan.items})
    return ["hanse.queries", "hanse.suppression", *files]


def combines(options: Mapping[str, Json]) -> frozenset[Combine]:
    """Words, and sums. Raises ``ConfigError`` for what is neither."""
    _query(options)
    return frozenset({Combine.AGREE, Combine.SUM})


def most_steps(config: RunConfig) -> int:
    """One for each sum, one before and one after them."""
    return len(_steps(_query(config.model_options))) + 1


def unfit(config: RunConfig) -> str:
    """Why a run cannot be gathered so; "" where it can."""
    if not getattr(find("gathering", config.gathering), "HIDES", False):
        return "the minimum holds on the total only in sums that nobody sees in parts; set gathering to secure"
    return ""


def _query(options: Mapping[str, Json]) -> Query:
    query = Query.of(options)
    if query.per_node:
        raise ConfigError("values of single nodes are in no total; ask for them with the minimum at the node")
    for item in query.plan.items:
        stat = statistic(item.stat)
        adds = stat.observe is None or stat.whole or (stat.combine is Combine.SUM and whole(stat) is not None)
        if not adds and item.stat != labels_of_all.STAT:
            raise ConfigError(f"{item.name} is in no sum over sites: {stat.no_sum or 'it does not say how it adds up'}")
    return query


def _whole(item: Item, observed: Arrays, known: Known) -> Arrays:
    """What a node sends of what it observed. Raises ``ConfigError`` where that does not add."""
    make = whole(statistic(item.stat))
    if make is None:
        raise ConfigError(f"{item.name} is in no sum over sites")
    return make(observed, item.options, known)


def _sums(query: Query) -> list[int]:
    """The numbers of those asks of the plan that are sums of what was observed; labels are found before."""
    return [n for n in range(len(query.plan.asks)) if _asked(query, n)]


def _asked(query: Query, index: int) -> list[Item]:
    """The items of ask number ``index`` of the plan."""
    return [item for item in query.plan.asked(index) if item.stat != labels_of_all.STAT]


def _steps(query: Query) -> list[tuple[str, int]]:
    """What is asked in each step but the last, and which of the plan's asks that is."""
    found = [("labels", 0), ("names", 0)] if labels_of_all.items(query) else []
    return [("terms", 0), *found, *(("sum", index) for index in _sums(query))]


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows of a query: of all rows what may be told, and nothing else.

    Args:
        query: the run's options, as they were asked.
        asked: so many steps are done.
        minimum: rows of the smallest cell that is told; 0 before the nodes have said theirs.
        took: the nodes, for each step.
        withheld, kept: item to :data:`TOTAL` to why something of it is kept back, and which groups.
        lacking: column to the nodes that lack it.
        few: the items of which too few sites have the columns.
        edges: as they were shown of these nodes' total, and ``fresh`` whether some are new.
        sizes: of the table that finds the labels of an item.
        named: item to the hash, the rows and the bytes of the labels that are to be named, before they are.
        values: item to its value, where that does not follow from the arrays.
        arrays: of all items that are in, ``<place>.<name>``.
    """

    query: Mapping[str, Json]
    asked: int = 0
    minimum: int = 0
    took: tuple[tuple[str, ...], ...] = ()
    withheld: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kept: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    few: tuple[int, ...] = ()
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fresh: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    named: Mapping[str, Array] = field(default_factory=dict)
    values: Mapping[str, Json] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: for its terms, for a table of its labels, for how some are spelled, for sum number ``ask``
    of the plan, or to remember.

    Args:
        kind: ``terms``, ``labels``, ``names``, ``sum`` or ``remember``.
        few: the items of which nothing is summed.
        sizes: of each table of labels; or the most bytes of a label that is spelled.
        edges: those that were shown of the total: at them, rows are counted too; to be remembered.
        arrays: of all sites, what the sum rests on.
    """

    kind: str
    ask: int = 0
    few: tuple[int, ...] = ()
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


class OnTotal:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.AGREE, Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        """Nothing is asked. Raises ``ConfigError`` for a query that is none, or of what does not add up."""
        _query(config["model_options"])
        return State(config["model_options"])

    def ask(self, state: State) -> Ask | Done:
        """The next step."""
        query = _query(state.query)
        steps = _steps(query)
        kind, index = steps[state.asked] if state.asked < len(steps) else ("", 0)
        if kind == "terms":
            return Ask(encode(Question("terms")), Combine.AGREE, "statistics")
        to = state.took[0]
        if kind == "labels":
            return Ask(encode(Question(kind, sizes=state.sizes)), Combine.SUM, "statistics", to=to)
        if kind == "names":
            lengths, keys = labels_of_all.asked(state.named)
            return Ask(encode(Question(kind, sizes=lengths, arrays=keys)), Combine.SUM, "statistics", to=to)
        if kind == "sum":
            items = _asked(query, index)
            counts = {f"{query.plan.place(i)}.{name}": None for i in items for name in statistic(i.stat).counts}
            question = Question(kind, index, state.few, state.edges, arrays=query.arrays_for(index, state.arrays))
            return Ask(encode(question), Combine.SUM, "statistics", to=to, counts=counts)
        if state.fresh and state.asked == len(steps):
            return Ask(encode(Question("remember", edges=state.edges)), Combine.AGREE, "statistics", to=to)
        return Done("every statistic is in")

    # ------------------------------------------------------------ node

    def answer(self, site: Site, ask: Question) -> Contribution:
        """What this node says or counts. Raises ``NotAllowed`` where its owner keeps small cells back at the node, and
        where other nodes are in the sum than before."""
        query, ask = _query(site.config["model_options"]), replace(ask, arrays=ByItem.of(ask.arrays))
        source = site.source
        if source is None:
            raise DataError("there are no rows here that statistics can be of")
        if site.owner.get("statistics_minimum") != MINIMUM:
            raise NotAllowed(
                "the owner of this node keeps its small cells back at the node, whatever they are summed with"
            )
        owner = owner_of(site, query, source.schema)
        if not owner.rare and any(statistic(item.stat).sums for item in query.plan.items):
            raise NotAllowed(
                "the owner of this node keeps sums back that tell of a rare value (hide_rare_values), and nobody knows "
                "of a total which those are; ask for counts, value_counts, quantiles or histograms"
            )
        if images := sorted(c for c in query.plan.columns() if base(c, source.schema) != c):
            raise DataError(f"{images[0]!r} is of an image; pixels and shapes are told with the minimum at the node")
        memory.take_part(site, for_good=ask.kind in ("labels", "names", "sum"))
        if ask.kind == "remember":
            memory.remember(site, {item.columns for item in query.plan.items}, ask.edges)
            return Contribution(Record({"remembered": True}), combine=Combine.AGREE)
        if ask.kind == "terms":
            return Contribution(Record(_terms(site, query, owner)), combine=Combine.AGREE)
        if ask.kind in ("labels", "names"):
            return Contribution(
                Record({}, labels_of_all.answered(site, query, owner, ask.kind, ask.sizes, ask.arrays)),
                1.0,
                combine=Combine.SUM,
            )
        if ask.kind != "sum" or ask.ask not in _sums(query):
            raise ConfigError("the query has no such step")
        arrays: dict[str, Array] = {}
        shown: Shown = {k: list(v) for k, v in ask.edges.items()}
        asked = _asked(query, ask.ask)
        for item, scan in observed(site, source, query, asked, ask.arrays, owner, shown).items():
            place = query.plan.place(item)
            inner = _inner(query, ask.arrays, item)
            knows = [known_of(query.plan, ask.arrays, item, g or 0) for g in inner]
            found = [empty(item, k, scan.cuts[item]) for k in knows] if place in ask.few else scan.found[item]
            parts = [_whole(item, a, k) for a, k in zip(found, knows, strict=True)]
            arrays.update((f"{place}.{name}", array) for name, array in stacked(parts).items())
        return Contribution(Record({}, arrays), 1.0, combine=Combine.SUM)

    # ------------------------------------------------------------ coordinator

    def tell(self, state: State, gathered: Gathered) -> State:
        """The state with what may be told. Raises ``Unusable`` where a node is missing, or what came is none."""
        query = _query(state.query)
        steps = _steps(query)
        took = tuple(a.node for a in gathered.answers)
        missing = sorted({*(gathered.nodes or ()), *(state.took[0] if state.took else ())} - {*took})
        if missing:
            raise Unusable({node: f"a total is of all nodes of the run, without {', '.join(missing)}" for node in took})
        kind, index = steps[state.asked] if state.asked < len(steps) else ("", 0)
        state = replace(state, asked=state.asked + 1, took=(*state.took, took))
        if kind == "terms":
            return _with_terms(state, query, {a.node: a.data for a in gathered.answers})
        if kind == "labels":
            return _with_labels(state, gathered)
        if kind == "names":
            return _with_names(state, gathered.sum(), took)
        return _with_sum(state, query, index, gathered) if kind == "sum" else state

    def result(self, state: State) -> Record:
        """The state's fields as data, and its arrays by their own names; :class:`hanse.fetched.Fetched` reads it, also
        what is of single nodes, which is nothing here."""
        return Record({**encode(replace(state, arrays={}, named={})).data, "single": {}, "alone": {}}, state.arrays)

    def metrics(self, state: State) -> Mapping[str, Json]:
        """How many steps are done."""
        return {"asks": state.asked}


# ---------------------------------------------------------------- the node


def _terms(site: Site, query: Query, owner: Owner) -> dict[str, Json]:
    source = site.source
    assert source is not None
    labels: dict[str, Json] = {}
    withheld: dict[str, Json] = {}
    for place, item in labels_of_all.items(query).items():
        labels[place], why = labels_of_all.terms(site, query, owner, item)
        if why:
            withheld[place] = why
    mine: dict[str, Json] = {**memory.edges(source, {item.columns for item in query.plan.items})}
    lacking = [c for c in query.plan.columns() if c not in source.schema]
    nodes = int(site.owner.get("secure_aggregation_nodes", memory.NODES))
    return {
        "minimum": owner.minimum,
        "nodes": nodes,
        "labels": labels,
        "withheld": withheld,
        "edges": mine,
        "lacking": lacking,
    }


# ---------------------------------------------------------------- the coordinator


def _with_terms(state: State, query: Query, said: Mapping[str, Mapping[str, Json]]) -> State:
    guilty: dict[str, str] = {}
    minimum, least, edges = 1, 1, dict[str, set[float]]()
    labels: dict[str, int] = {}
    withheld: dict[str, dict[str, str]] = {}
    lacking: dict[str, list[str]] = {}
    for node, terms in said.items():
        try:
            if any(not isinstance(terms[name], int) or terms[name] < 1 for name in ("minimum", "nodes")):
                raise ValueError
            minimum, least = max(minimum, terms["minimum"]), max(least, terms["nodes"])
            for place in labels_of_all.items(query):
                labels[place] = labels.get(place, 0) + labels_of_all.said(terms["labels"][place])
            for place, why in terms["withheld"].items():
                withheld.setdefault(place, {})[node] = str(why)[:300]
            for key, found in terms["edges"].items():
                key_parts(key)
                edges.setdefault(key, set()).update(float(e) for e in found if math.isfinite(e))
            for column in terms["lacking"]:
                lacking.setdefault(str(column), []).append(node)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, WireError):
            guilty[node] = "what it says of its terms is none"
    if guilty:
        raise Unusable(guilty)
    few = _of_few_sites(query, lacking, len(said), least)
    for number in few:
        withheld[str(number)] = {TOTAL: f"fewer than {least} sites have what it is of, so it would be their own"}
    told, too_many = labels_of_all.sizes(labels, withheld)
    for place, why in too_many.items():
        withheld.setdefault(place, {})[TOTAL] = why
    nothing: dict[str, Array] = {}
    for place in labels_of_all.items(query).keys() & withheld:
        nothing |= labels_of_all.agreed(place, ())
    return replace(
        state,
        minimum=minimum,
        edges={key: tuple(sorted(found)) for key, found in edges.items()},
        withheld=withheld,
        lacking={column: tuple(sorted(nodes)) for column, nodes in lacking.items()},
        few=few,
        sizes=told,
        arrays=nothing,
        asked=state.asked + (2 if labels_of_all.items(query) and not told else 0),
    )


def _of_few_sites(query: Query, lacking: Mapping[str, Collection[str]], nodes: int, least: int) -> tuple[int, ...]:
    """The items of which fewer nodes have the columns than a total is to be of, and not all of them."""
    without = {
        item: set[str]().union(*(lacking.get(c, ()) for c in (*item.columns, *item.by))) for item in query.plan.items
    }
    return tuple(
        sorted(query.plan.place(item) for item, lack in without.items() if lack and 0 < nodes - len(lack) < least)
    )


def _with_labels(state: State, gathered: Gathered) -> State:
    """Which labels all rows have in the minimum; of the others nothing goes further."""
    nodes = [answer.node for answer in gathered.answers]
    named, unknown = labels_of_all.counted(gathered.sum(), state.sizes, state.minimum, nodes)
    withheld, arrays = {place: dict(why) for place, why in state.withheld.items()}, dict(state.arrays)
    for place, why in unknown.items():
        withheld.setdefault(place, {})[TOTAL] = why
        arrays |= labels_of_all.agreed(place, ())
    state = replace(state, named=named, sizes={}, withheld=withheld, arrays=arrays)
    return state if any(map(len, named.values())) else _with_names(replace(state, asked=state.asked + 1), {}, nodes)


def _with_names(state: State, total: Mapping[str, Array], nodes: Sequence[str]) -> State:
    """The labels that are told, in words."""
    return replace(state, named={}, arrays={**state.arrays, **labels_of_all.named(total, state.named, nodes)})


def _with_sum(state: State, query: Query, index: int, gathered: Gathered) -> State:
    """What may be told of a sum; the sum itself goes no further."""
    plan, items = query.plan, _asked(query, index)
    state, total = replace(state, arrays=ByItem.of(state.arrays)), ByItem(gathered.sum())
    owner = Owner(state.minimum, False, total=True)
    edges: Shown = {k: list(v) for k, v in state.edges.items()}
    scan = Scan(plan, items, state.arrays, edges)
    arrays, exact = dict(state.arrays), dict(state.arrays)
    withheld, kept = {k: dict(v) for k, v in state.withheld.items()}, {k: dict(v) for k, v in state.kept.items()}
    for item in items:
        place, stat = plan.place(item), statistic(item.stat)
        sums = _groups_of(item, sliced(total, place), scan, gathered)
        scan.found[item] = [stat.of_whole(w, item.options, k) for w, k in zip(sums, scan.known[item], strict=True)]
        sent, reason = disclosed(item, scan, plan, state.arrays, owner, None, edges)
        if place in state.few:
            sent, reason = {**sent, WITHHELD: np.ones_like(sent[WITHHELD])}, ""
        arrays.update((f"{place}.{name}", array) for name, array in sent.items())
        inner = _inner(query, state.arrays, item)
        named = [w for w, group in zip(sums, inner, strict=True) if group is not None]
        told = [
            {n: np.zeros_like(a) for n, a in one.items()} if back else one
            for one, back in zip(named, sent[WITHHELD], strict=True)
        ]
        exact.update((f"{place}.{name}", array) for name, array in stacked(told).items())
        if reason:
            withheld.setdefault(str(place), {})[TOTAL] = reason.replace("this node's minimum", "the minimum")
        if groups := np.flatnonzero(sent[WITHHELD]).tolist():
            kept.setdefault(str(place), {})[TOTAL] = tuple(groups)
    return replace(
        state,
        arrays=arrays,
        withheld=withheld,
        kept=kept,
        edges={k: tuple(v) for k, v in edges.items()},
        fresh=state.fresh or any(tuple(v) != state.edges.get(k) for k, v in edges.items()),
        values={**state.values, **_values(query, items, ByItem(arrays), ByItem(exact))},
    )


def _values(
    query: Query, items: Sequence[Item], arrays: Mapping[str, Array], exact: Mapping[str, Array]
) -> dict[str, Json]:
    """Of each wanted item that is computed from all rows, and rests on these last: its value."""
    found: dict[str, Json] = {}
    for item in query.plan.wanted:
        stat = statistic(item.stat)
        needs = [need for need in stat.needs(item) if need.stat != "levels"]
        if stat.of_all is None or not {*needs} & {*items}:
            continue
        everything, told = (known_of(query.plan, part, item, 0) for part in (exact, arrays))
        if not all(everything):  # no label is told, as of a column that few sites have
            continue
        try:
            found[str(query.plan.place(item))] = stat.of_all(item.options, everything, told)
        except ConfigError:
            continue  # no two groups are there to compare: who asks for the value is told
    return found


def _inner(query: Query, arrays: Mapping[str, Array], item: Item) -> list[int | None]:
    """The number of each group among those with labels; None: rows without one."""
    levels = [sliced(arrays, query.plan.place(level)) for level in query.plan.groups(item)]
    shape = [int(found["n"][0]) + 1 for found in levels]
    return [group_number(g, shape) for g in range(int(np.prod(shape, dtype=np.int64)))]


def _groups_of(item: Item, total: Mapping[str, Array], scan: Scan, gathered: Gathered) -> list[dict[str, Array]]:
    """The sum of each group. Raises ``Unusable`` where it has not the arrays that were asked for."""
    found = []
    for group, known in enumerate(scan.known[item]):
        form = _whole(item, empty(item, known, scan.cuts[item]), known)
        part: dict[str, Array] = {}
        for name, array in form.items():
            everyone = total.get(name)
            if everyone is None or len(everyone) != len(scan.known[item]) or everyone[group].ndim != array.ndim:
                break
            part[name] = everyone[group][tuple(slice(0, size) for size in array.shape)]
        if any(name not in part or part[name].shape != array.shape for name, array in form.items()):
            raise Unusable({a.node: f"its answer to {item.name} has other arrays than asked" for a in gathered.answers})
        found.append(part)
    return found


ALGORITHM = Typed(OnTotal(), State, Question)
