"""What statistics give: the arrays of all nodes together, and the values that follow from them.

Final values are computed here, from what was asked: standard deviations, sums, correlations,
quantiles and tests are never sent by a node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hanse import tabulated
from hanse.errors import ConfigError
from hanse.experiment import analytics_drawing, pictures_figure
from hanse.experiment.listing import Listing
from hanse.fetched import Besides, Fetched
from hanse.messages import Json
from hanse.presentation import Picture
from hanse.queries import Item, closure, statistic
from hanse.registry import names
from hanse.rough import Figures, Scope, as_json, partial, some, spans


def statistic_names() -> tuple[str, ...]:
    """All statistics that can be asked for."""
    return names("statistics")


_MOST_ROWS = 24  # of a table, where a result is printed


@dataclass(frozen=True, slots=True)
class FAResult:
    """Statistics over all sites, and what is known of how they came about.

    Args:
        wanted: what was asked.
        fetched: the runs that answer it.
        simulated: all sites were in this process.
        single: the runs that answer it for each node by itself, where that was asked for.
        kinds: column to kind.
        left_out: which columns were meant, where all are, and are told nothing of; as sentences.
        ranges: column to between which numbers its values are, where that is known.
    """

    wanted: Sequence[Item]
    fetched: Sequence[Fetched]
    simulated: bool = False
    single: Sequence[Fetched] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    # ------------------------------------------------------------ values

    def value(self, item: Item, node: str = "") -> Json:
        """The value of one item, over all sites or at one ``node``. None where it was kept back, or too little is known
        of it; a number that may not be that of the pooled rows is :class:`hanse.rough.Rough`.

        Raises ``ConfigError`` where the node is not shown by itself, with the reason.
        """
        found = self._qualified(item, node)
        notes = [] if node or not isinstance(found, dict) else self.notes_of([item])
        return Figures(found, notes) if notes else found

    def _qualified(self, item: Item, node: str = "") -> Any:
        try:
            return self._of(item, node).qualified(item, node, self._besides)
        except ConfigError as error:
            why = [] if node else self.notes_of([item])
            raise ConfigError(". ".join([error.message, *why])) from None

    def values(self, stat: str, node: str = "") -> dict[str, Any]:
        """Column to value of one statistic; columns that no site has are left out."""
        found: dict[str, Any] = {}
        for item in self._shown(stat):
            if not self._of(item).absent(item):
                found[", ".join(item.columns)] = self._qualified(item, node)
        notes = [] if node else [*self.left_out, *self.notes_of(self._shown(stat))]
        return Figures(found, notes) if notes else found

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

    def scope(self, item: Item) -> Scope:
        """What its value over all sites rests on: rows, of how many that were asked, and the nodes that are missing."""
        return self._of(item).scope(item)

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
        return [*self.left_out, *self.notes_of(self.wanted)]

    def notes_of(self, items: Sequence[Item]) -> list[str]:
        """The same of some of them. What several nodes say alike is said once."""
        used = list({id(f): f for f in (self._of(i) for i in items)}.values())
        failures = {node: why for f in used for node, why in f.failures.items()}
        found = [f"{node} is not in it: {reason}" for node, reason in sorted(failures.items())]
        found += [
            f"{node} is not shown by itself: {reason}"
            for node, reason in sorted(self.alone.items())
            if node not in failures
        ]
        found += [note for fetched in used for note in fetched.notes(items, self._besides)]
        return [*dict.fromkeys(found), *self._parts(items)]

    def _parts(self, items: Sequence[Item]) -> list[str]:
        """Which values are only those of the rows that are told, and what bounds how far off they are."""
        found: dict[bool, list[str]] = {}
        for item in items:
            if (fetched := self._of(item)).whole:
                continue
            try:
                value = fetched.qualified(item, besides=self._besides)
            except ConfigError:  # there is no value, and who asks for it is told why
                continue
            if partial(value):
                ranged = statistic(item.stat).ranged and item.columns[0] not in self.ranges
                found.setdefault(ranged, []).append(item.name)
        help = {True: "; ranges={column: [least, most]} says between what values lie, and bounds it", False: ""}
        return [
            f"{some(names)}: of the rows that are told, with no bound on all{help[why]}" for why, names in found.items()
        ]

    @property
    def _besides(self) -> Besides:
        return Besides(self.ranges, tuple(self.fetched))

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
        left_out = tuple(dict.fromkeys([*self.left_out, *other.left_out]))
        simulated = self.simulated or other.simulated
        ranges = {**other.ranges, **self.ranges}
        return FAResult(list(wanted), tuple(fetched), simulated, tuple(single), self.kinds, left_out, ranges)

    # ------------------------------------------------------------ pictures

    def listing(self) -> Listing:
        """One row per column (and group): all that is one number, quantiles, and labels."""
        values = [
            (item, self.value(item))
            for stat in self._all()
            for item in self._shown(stat)
            if not self._of(item).absent(item) and (item in self.wanted or tabulated.usual(item, self.kinds))
        ]
        rows = tabulated.rows(values, self.kinds)
        return Listing(rows, empty="no statistic is one number per column; see global_stats()")

    def to_frame(self) -> Any:
        """:meth:`listing` as a pandas or Polars frame."""
        return self.listing().to_frame()

    def to_json(self) -> dict[str, Json]:
        """Values, on what they rest, and what one should know of them, as plain JSON. A number that may not be that of
        the pooled rows is an object (:meth:`hanse.rough.Rough.to_json`)."""
        plain: dict[str, Json] = {
            "statistics": as_json({stat: self.values(stat) for stat in self._all()}),
            "rests_on": {item.name: self.scope(item).to_json() for item in self.wanted},
            "nodes": list(self.nodes),
            "failures": self.failures,
            "notes": self.notes,
            "minimum": self.held,
            "simulated": self.simulated,
        }
        return plain | ({"alone": self.alone, "per_node": as_json(self.node_stats())} if self.single else {})

    def __repr__(self) -> str:
        what = "Simulated statistics" if self.simulated else "Statistics"
        parts = [f"{what} of {len(self.nodes)} sites ({', '.join(self.nodes)}){self._asked()}", *self.totals]
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
            self.nodes, self.pictures(), self.listing(), self.tables(), [*self.totals, *self.notes], self.simulated
        )

    def plot(self) -> Any:
        """The same as a ``matplotlib.figure.Figure``."""
        words = f"Statistics of {len(self.nodes)} sites: {', '.join(self.nodes)}"
        return pictures_figure.draw(
            words + (" (simulation)" if self.simulated else ""), self.pictures(), self.listing()
        )

    @property
    def held(self) -> list[str]:
        """Where the minimum of rows held, below which no cell is told: at each site, or on the total."""
        return sorted({fetched.held for fetched in self._used()})

    @property
    def totals(self) -> list[str]:
        """The same in a sentence, where the minimum held on the total of secure sums."""
        return [f"secure sums: {fetched.held}" for fetched in self._used() if fetched.minimum][:1]

    def _asked(self) -> str:
        """The rows that were asked, and where some values rest on fewer, on how many these do."""
        return spans([self.scope(item) for item in self.wanted])

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
            own = [i for i in closure(item) if len(i.columns) == 1 and i.by == item.by]
            basic = [i for i in own if statistic(i.stat).shown.basic]
            found |= dict.fromkeys([*basic, item])
            found |= dict.fromkeys(follows for i in basic for follows in statistic(i.stat).follows(i))
        return list(found)

    def _shown(self, stat: str) -> list[Item]:
        return [i for i in self._items() if i.stat == stat]

    def _all(self) -> list[str]:
        return list(dict.fromkeys(i.stat for i in self._items()))
