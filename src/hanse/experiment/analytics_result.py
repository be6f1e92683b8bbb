"""What statistics give: the arrays of all nodes together, and the values that follow from them.

Final values are computed here, from what was asked: standard deviations, sums, correlations,
quantiles and tests are never sent by a node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from hanse import tabulated
from hanse.algorithms import statistics as algorithm
from hanse.errors import ConfigError, WireError
from hanse.experiment import analytics_drawing, pictures_figure
from hanse.experiment.listing import Listing
from hanse.experiment.rough import Answer, Scope, qualified
from hanse.messages import Array, Json, Record
from hanse.presentation import Picture
from hanse.queries import Item, Known, Plan, levels_of, statistic
from hanse.registry import names


def statistic_names() -> tuple[str, ...]:
    """All statistics that can be asked for."""
    return names("statistics")


_MOST_ROWS = 24  # of a table, where a result is printed


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one run of statistics gave.

    Args:
        failures: node to why it gave nothing, or not all.
        withheld: item to node to why something was kept back there.
        kept: item to node to the groups that were kept back there as a whole.
        single: item to the groups that only one site told, so that they are not shown.
        lacking: column to the nodes that have no such column.
        took: nodes of each ask.
        alone: node to why it is not shown by itself, where single nodes were asked for.
    """

    plan: Plan
    arrays: Mapping[str, Array]
    failures: Mapping[str, str] = field(default_factory=dict)
    withheld: Mapping[Item, Mapping[str, str]] = field(default_factory=dict)
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    took: Sequence[Sequence[str]] = ()
    run_id: str = ""
    alone: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[Item, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    single: Mapping[Item, Sequence[int]] = field(default_factory=dict)

    @staticmethod
    def of(record: Record, failures: Mapping[str, str], run_id: str) -> Fetched:
        """From the result of a run of statistics. Raises ``WireError`` where it is none."""
        try:
            data = record.data
            plan = algorithm.Query.of(data["query"]).plan
            withheld = {plan.items[int(place)]: dict(why) for place, why in data["withheld"].items()}
            arrays = {name: np.asarray(record.arrays[name]) for name in record.arrays}
            kept = {plan.items[int(place)]: dict(nodes) for place, nodes in data["kept"].items()}
            single = {plan.items[int(place)]: list(groups) for place, groups in data["single"].items()}
            lacking, took, alone = dict(data["lacking"]), list(data["took"]), dict(data["alone"])
            return Fetched(plan, arrays, failures, withheld, lacking, took, run_id, alone, kept, single)
        except (KeyError, TypeError, AttributeError, IndexError):
            raise WireError(f"run {run_id} is no run of statistics") from None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those whose rows are in every statistic."""
        return tuple(sorted(set.intersection(*map(set, self.took)))) if self.took else ()

    def finds(self, item: Item) -> Item | None:
        """The item that answers ``item``: itself, what it can be derived from, or a larger matrix."""
        stat = statistic(item.stat)
        larger = [i.columns for i in self.plan.items if stat.matrix and set(item.columns) <= set(i.columns)]
        for columns in dict.fromkeys([item.columns, *larger]):
            found = replace(item, columns=columns)
            needs = [*stat.needs(found), *(levels_of(name) for name in item.by)]
            if found in self.plan.items:
                return found
            if stat.observe is None and needs and all(n in self.plan.items for n in needs):
                return found
        return None

    def absent(self, item: Item) -> bool:
        """Whether no site has one of the columns: of an image, a channel that none of its pictures has."""
        if any(set(self.lacking.get(c, ())) >= set(self.nodes) for c in item.columns):
            return True
        if not item.columns[0].endswith("]"):
            return False
        found = [self._sliced(i) for i in _closure(item) if i in self.plan.shared and i != levels_of(i.columns[0])]
        return not any(arrays["n"].any() or arrays[algorithm.WITHHELD].any() for arrays in found)

    def answers(self, item: Item) -> bool:
        """Whether the item, or a larger one that holds it, is among what was fetched."""
        return self.finds(item) is not None

    def value(self, item: Item, node: str = "") -> Json:
        """The value; by label (one grouping column) or tuple of labels (two) where there are groups."""
        found = self.finds(item)
        if found is None:
            raise ConfigError(f"{item.name} was not asked for")
        prefix = f"@{node}@" if node else ""
        value = tabulated.value_of(self.plan, self.arrays, found, prefix)
        if not item.by or not isinstance(value, dict):
            return _part(value, found, item)
        return {label: _part(one, found, item) for label, one in value.items()}

    def scope(self, item: Item, group: int | None = None) -> Scope:
        """What its value over all sites rests on; of one group, or of all of them."""
        missing, rows = dict(self.failures), []
        for carrier in (i for i in _closure(item) if i in self.plan.shared and i != levels_of(i.columns[0])):
            same = group is not None and carrier.by == item.by
            for node, groups in self.kept.get(carrier, {}).items():
                if not same or group in groups:
                    missing[node] = self.withheld.get(carrier, {}).get(node, "kept back")
            n = self._sliced(carrier)["n"]
            rows.append(int(np.sum(n[group] if same else n)))
        return Scope(rows[-1] if rows else None, dict(sorted(missing.items())))

    def bounds(self, item: Item, node: str = "") -> Json:
        """Between which numbers the pooled value lies, as :meth:`value` has the values; None: it is the value."""
        found = self.finds(item)
        if found is None or statistic(item.stat).bounds is None:
            return None
        prefix = f"@{node}@" if node else ""
        if not item.by:
            return algorithm.bounds(self.plan, self.arrays, found, 0, prefix)
        labels = product(*algorithm.labels_by(self.plan, self.arrays, found))
        return {
            label[0] if len(label) == 1 else label: algorithm.bounds(self.plan, self.arrays, found, group, prefix)
            for group, label in enumerate(labels)
        }

    def _sliced(self, item: Item, prefix: str = "") -> dict[str, Array]:
        if item not in self.plan.items:
            return {}
        return algorithm.sliced(self.arrays, self.plan.items.index(item), prefix)

    def error(self, item: Item) -> float:
        """The largest error of its value over all groups, by the statistic's own bound; 0 where it has none."""
        stat = statistic(item.stat)
        return max([0.0, *(stat.error(item.options, known) for known in self._known(item))]) if stat.error else 0.0

    def finer(self, item: Item) -> Item | None:
        """What answers better, where the answer of some group is too rough."""
        stat = statistic(item.stat)
        if stat.finer is None or self.absent(item):
            return None
        return next((better for known in self._known(item) if (better := stat.finer(item, known))), None)

    def _known(self, item: Item) -> Iterator[Known]:
        """Of each group, what the item follows from."""
        groups = math.prod(len(labels) for labels in algorithm.labels_by(self.plan, self.arrays, item))
        return (algorithm.known_of(self.plan, self.arrays, item, group) for group in range(groups))


def _part(value: Json, found: Item, item: Item) -> Json:
    """The rows and columns of a larger matrix that were asked for."""
    if found.columns == item.columns or not isinstance(value, list):
        return value
    at = [found.columns.index(name) for name in item.columns]
    return [[value[i][j] for j in at] for i in at]


@dataclass(frozen=True, slots=True)
class FAResult:
    """Statistics over all sites, and what is known of how they came about.

    Args:
        wanted: what was asked.
        fetched: the runs that answer it.
        simulated: all sites were in this process.
        single: the runs that answer it for each node by itself, where that was asked for.
        kinds: column to kind.
    """

    wanted: Sequence[Item]
    fetched: Sequence[Fetched]
    simulated: bool = False
    single: Sequence[Fetched] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)

    # ------------------------------------------------------------ values

    def value(self, item: Item, node: str = "") -> Json:
        """The value of one item, over all sites or at one ``node``. None where it was kept back, or too little is known
        of it; a number that may not be that of the pooled rows is :class:`hanse.experiment.rough.Rough`.

        Raises ``ConfigError`` where the node is not shown by itself, with the reason.
        """
        found = self._qualified(item, node)
        notes = [] if node or not isinstance(found, dict) else self.notes_of([item])
        return Answer(found, notes) if notes else found

    def _qualified(self, item: Item, node: str = "") -> Any:
        fetched = self._of(item, node)
        try:
            value, bounds = fetched.value(item, node), fetched.bounds(item, node)
        except ConfigError as error:
            why = [] if node else self.notes_of([item])
            raise ConfigError(". ".join([error.message, *why])) from None
        if node:
            return qualified(value, bounds, Scope())
        if not item.by or not isinstance(value, dict):
            return qualified(value, bounds, fetched.scope(item))
        return {
            label: qualified(one, bounds and bounds[label], fetched.scope(item, group))
            for group, (label, one) in enumerate(value.items())
        }

    def values(self, stat: str, node: str = "") -> dict[str, Any]:
        """Column to value of one statistic; columns that no site has are left out."""
        found: dict[str, Any] = {}
        for item in self._shown(stat):
            if not self._of(item).absent(item):
                found[", ".join(item.columns)] = self._qualified(item, node)
        notes = [] if node else self.notes_of(self._shown(stat))
        return Answer(found, notes) if notes else found

    def global_stats(self, stats: str | Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Statistic to column to value, over all sites.

        Args:
            stats: some of them; None: all that was asked, what it needed (count, mean, variance), and
                what follows (sum, std).
        """
        listed = [stats] if isinstance(stats, str) else list(stats) if stats is not None else self._all()
        found = {}
        for name in listed:
            if not self._shown(name):
                raise ConfigError(f"{name} was not asked for; there are {', '.join(self._all())}")
            found[name] = self.values(name)
        return found

    def node_stats(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Node to statistic to column to value, of the nodes whose owners let them be shown by themselves.

        Empty unless it was asked with ``per_node=True``; :attr:`alone` says who is not in it, and why. A
        node's own minimum holds for what is shown of it alone: what stands for fewer rows is None.
        """
        nodes = sorted({node for fetched in self.single for node in fetched.nodes} - set(self.alone))
        return {node: {stat: self.values(stat, node) for stat in self._all()} for node in nodes}

    @property
    def alone(self) -> dict[str, str]:
        """Node to why it is not shown by itself, where single nodes were asked for."""
        found = {n: reason for f in self.single for n, reason in f.failures.items()}
        return found | {n: reason for f in self.single for n, reason in f.alone.items()}

    def rank_error(self, item: Item) -> float:
        """The bound on the error of its value that the statistic itself gives (of a quantile: a share of all rows)."""
        return self._of(item).error(item)

    def finer(self, item: Item) -> Item | None:
        """What answers better than ``item``, where its answer is too rough and a better one can be had."""
        return self._of(item).finer(item)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those whose rows are in every statistic here."""
        sets = [set(self._of(i).nodes) for i in self.wanted]
        return tuple(sorted(set.intersection(*sets))) if sets else ()

    @property
    def failures(self) -> dict[str, str]:
        """Node to why it is not in it."""
        return {node: reason for f in self._used() for node, reason in f.failures.items()}

    @property
    def notes(self) -> list[str]:
        """What one should know of these values: what was kept back, which site lacks a column, who failed."""
        return self.notes_of(self.wanted)

    def notes_of(self, items: Sequence[Item]) -> list[str]:
        """The same of some of them. What several nodes say alike is said once."""
        mine = {i for w in items for i in _closure(w)}
        used = list({id(f): f for f in (self._of(i) for i in items)}.values())
        failures = {node: why for f in used for node, why in f.failures.items()}
        found = [f"{node} is not in it: {reason}" for node, reason in sorted(failures.items())]
        found += [
            f"{node} is not shown by itself: {reason}"
            for node, reason in sorted(self.alone.items())
            if node not in failures
        ]
        for fetched in used:
            columns = {c for i in mine for c in (*i.columns, *i.by)}
            for column, nodes in sorted(fetched.lacking.items()):
                if column in columns and not set(nodes) >= set(fetched.nodes):
                    found.append(f"{column!r} is not at {', '.join(nodes)}")
            told = sorted(fetched.withheld.items(), key=lambda pair: pair[0].name)  # whatever the runs that asked
            back = {item: reasons for item, reasons in told if item in mine}
            found += tabulated.kept_back((i.name, n, why) for i, those in back.items() for n, why in those.items())
            single = [item.name for item in fetched.single if item in mine]
            if single:
                found.append(f"not told where a single site tells it and others keep theirs back: {', '.join(single)}")
        return list(dict.fromkeys(found))

    def merge(self, other: FAResult) -> FAResult:
        """Both results as one. Raises ``ConfigError`` where they are of different nodes."""
        if set(self.nodes) != set(other.nodes):
            raise ConfigError(
                f"results of different nodes cannot be merged ({', '.join(self.nodes) or 'none'}; "
                f"{', '.join(other.nodes) or 'none'})"
            )
        wanted = dict.fromkeys([*self.wanted, *other.wanted])
        fetched, single = (
            {id(f): f for f in both}.values()
            for both in ([*self.fetched, *other.fetched], [*self.single, *other.single])
        )
        return FAResult(list(wanted), tuple(fetched), self.simulated or other.simulated, tuple(single), self.kinds)

    # ------------------------------------------------------------ pictures

    def listing(self) -> Listing:
        """One row per column (and group): all that is one number, quantiles, and labels."""
        values = [
            (item, self.value(item))
            for stat in self._all()
            for item in self._shown(stat)
            if not self._of(item).absent(item)
        ]
        rows = tabulated.rows(values, self.kinds)
        return Listing(rows, empty="no statistic is one number per column; see global_stats()")

    def to_frame(self) -> Any:
        """:meth:`listing` as a pandas or Polars frame."""
        return self.listing().to_frame()

    def to_json(self) -> dict[str, Json]:
        """Values, tables and what one should know of them, as plain JSON."""
        found = {stat: {_key(k): v for k, v in self.values(stat).items()} for stat in self._all()}
        plain: dict[str, Json] = {
            "statistics": {stat: {k: _keyed(v) for k, v in values.items()} for stat, values in found.items()},
            "nodes": list(self.nodes),
            "failures": self.failures,
            "notes": self.notes,
            "simulated": self.simulated,
        }
        return plain | ({"alone": self.alone, "per_node": self.node_stats()} if self.single else {})

    def __repr__(self) -> str:
        what = "Simulated statistics" if self.simulated else "Statistics"
        parts = [f"{what} of {len(self.nodes)} sites ({', '.join(self.nodes)})"]
        rows, tables = self.listing(), self.tables()
        if len({item.stat for item in self.wanted}) > 1:  # of an overview, pictures are enough
            drawn = {title for title, _, _ in self.pictures()}
            tables = [(name, table) for name, table in tables if name not in drawn]
        if len(rows) or not tables:
            parts.append(repr(rows))
        for name, table in tables:
            more = [f"... and {len(table) - _MOST_ROWS} more rows"] if len(table) > _MOST_ROWS else []
            parts += ["", name, repr(table[:_MOST_ROWS]), *more]
        return "\n".join([*parts, *(f"! {note}" for note in self.notes)])

    def tables(self) -> list[tuple[str, Listing]]:
        """What is more than a number per column, each as a table with its name."""
        return [(name, Listing(rows)) for name, rows in tabulated.tables(self._values(), self.kinds)]

    def pictures(self) -> list[tuple[str, Picture, bool]]:
        """Title and description of each picture, and whether its column is one of dates."""
        return tabulated.pictures(self._values(), self.kinds)

    def _values(self) -> list[tuple[Item, Json]]:
        return [(item, self.value(item)) for item in self.wanted]

    def _repr_html_(self) -> str:
        return analytics_drawing.page(
            self.nodes, self.pictures(), self.listing(), self.tables(), self.notes, self.simulated
        )

    def plot(self) -> Any:
        """The same as a ``matplotlib.figure.Figure``."""
        words = f"Statistics of {len(self.nodes)} sites: {', '.join(self.nodes)}"
        return pictures_figure.draw(
            words + (" (simulation)" if self.simulated else ""), self.pictures(), self.listing()
        )

    # ------------------------------------------------------------ where things are

    def _of(self, item: Item, node: str = "") -> Fetched:
        if node in self.alone:
            raise ConfigError(f"{node} is not shown by itself: {self.alone[node]}")
        for fetched in reversed(self.single if node else self.fetched):
            if fetched.answers(item) and (not node or node in fetched.nodes):
                return fetched
        raise ConfigError(f"{item.name} was not asked for" + (f" of {node} by itself" if node else ""))

    def _used(self) -> list[Fetched]:
        return list({id(f): f for f in (self._of(i) for i in self.wanted)}.values())

    def _items(self) -> list[Item]:
        """What was asked, what it needed, and what follows from that."""
        found: dict[Item, None] = {}
        for item in self.wanted:
            own = [i for i in _closure(item) if len(i.columns) == 1 and i.by == item.by]
            basic = [i for i in own if statistic(i.stat).shown.basic]
            found |= dict.fromkeys([*basic, item])
            found |= dict.fromkeys(follows for i in basic for follows in statistic(i.stat).follows(i))
        return list(found)

    def _shown(self, stat: str) -> list[Item]:
        return [i for i in self._items() if i.stat == stat]

    def _all(self) -> list[str]:
        return list(dict.fromkeys(i.stat for i in self._items()))


def _closure(item: Item) -> list[Item]:
    found: dict[Item, None] = {}
    for need in statistic(item.stat).needs(item):
        found |= dict.fromkeys(_closure(need))
        found[need] = None
    return [*found, item]


def _key(key: Any) -> str:
    return ", ".join(key) if isinstance(key, tuple) else str(key)


def _keyed(value: Any) -> Any:
    """With pairs of labels as one text, since JSON has no other keys."""
    return {_key(k): _keyed(v) for k, v in value.items()} if isinstance(value, dict) else value
