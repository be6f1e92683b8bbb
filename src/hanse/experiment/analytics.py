"""Federated statistics: what a pooled data frame would say.

Each query is a run like any other: frozen, consented to (as a rule by the owner's standing policy
``allow_federated_analytics``), guarded and audited.

>>> import hanse
>>> prices = {"ulm": {"price": [float(p) for p in range(50, 70)], "fuel": ["petrol", "diesel"] * 10},
...           "bonn": {"price": [float(p) for p in range(80, 95)], "fuel": ["petrol"] * 15}}
>>> exp = hanse.simulate(prices).experiment(target="price")
>>> exp.analytics.mean()
{'price': 71.28571428571429}
>>> exp.analytics.mean(dataset_schema=["price"])
{'price': 71.28571428571429}
>>> exp.analytics.fetch_stats("variance").global_stats("count")
{'count': {'price': 35}}
>>> result = exp.analytics.fetch_stats_with_args({"price": {"histogram": {"bin_edges": [50, 60, 70, 100]}}})
>>> result.global_stats()["histogram"]["price"]["counts"]
[10, 10, 15]
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hanse import features, registry
from hanse.config import RunConfig
from hanse.errors import ConfigError, Conflict, Refused, RunFailed
from hanse.experiment import noisy, table_one_parts
from hanse.experiment.analytics_result import FAResult, statistic_names
from hanse.experiment.by_name import ByName, basic, offered, refuse_elsewhere, summaries
from hanse.experiment.listing import Listing
from hanse.experiment.noisy import NoisyAnswers
from hanse.experiment.seam import Backend
from hanse.experiment.table_one import TableOne
from hanse.experiment.waiting import wait
from hanse.fetched import Fetched
from hanse.kinds import Combine
from hanse.messages import Json, dumps
from hanse.privacy.guarantee import LOCAL
from hanse.queries import LABELS, Item, make_item, parse_filter, plan, statistic
from hanse.table import ColumnKind

PLAIN, TOTAL = "statistics", "statistics_on_total"  # the two strategies
AT_NODE = "statistics_minimum: this node keeps its small cells back itself"
ON_TOTALS = "statistics_minimum: the minimum of this node holds on totals"
AUTO = "auto"
SAME = f"it can be asked of where {features.ALIKE}"
CHANNELS = 3  # of an image: more are not asked for, and those that no site has are left out
FRESH_S = 30.0  # how long the versions of the datasets are taken for known


@dataclass
class FederatedAnalytics:
    """The single entry point for statistics; caches what it got.

    The cache's key holds the nodes, the name and version of the dataset of each, the choice of rows,
    and each statistic with its columns, arguments and groups. So data that changes is asked for anew,
    an answer to many questions answers each of them, and an identical call asks nobody.

    Args:
        backend: the federation.
        tags, nodes: which datasets; all of the nodes that have one if ``nodes`` is None.
        by: one or two grouping columns for all that is asked here.
        where: ``[column, operation, value]`` conditions; only counts, means and variances of chosen
            rows can be had.
        require: ``any``: a node that fails is reported, and the others' answers count; ``all``: it
            raises.
        per_node: the values of each node too (one more run), where their owners allow it; the others are
            in the values over all sites, and the result says why they are not shown by themselves.
        purpose: shown to the data owners.
        gathering: ``secure``: nobody sees what a single node tells. Where their owners say so (``statistics_minimum``),
            the minimum of rows then holds on the total of all nodes, and what is told is that of the pooled rows
            wherever these are many enough; else each node keeps its own small cells back, as with ``plain``. A total
            is of all nodes: where one fails, there is none. ``auto``: ``secure`` where an owner's minimum holds on
            totals (who then answers nothing else), else ``plain``.
        target: tells which dataset is meant where a node has several.
        ranges: column to ``[least, most]``, between which its values are: what else bounds nothing of rows that sites
            keep back does so then. It is not sent, and nothing checks it but the means that are told. Of booleans it
            is known.
    """

    backend: Backend
    tags: Sequence[str] = ()
    nodes: Sequence[str] | None = None
    by: str | Sequence[str] = ()
    where: Sequence[Sequence[Any]] = ()
    require: str = "any"
    per_node: bool = False
    purpose: str = ""
    gathering: str = AUTO
    target: str = ""
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    requests: int = 0  # runs that were proposed; for tests and for the curious
    _cache: dict[tuple[Any, ...], list[Fetched]] = field(default_factory=dict, repr=False)
    _seen: tuple[float, Mapping[str, Mapping[str, Json]]] | None = field(default=None, repr=False)
    _way: str = field(default="plain", repr=False)  # how sums come together
    _untried: bool = field(default=False, repr=False)  # whether owners may yet agree to secure totals
    _total: bool = field(default=False, repr=False)  # whether the minimum is to hold on the total
    _guessed: bool = field(default=False, repr=False)  # whether that is taken from the question before

    def __post_init__(self) -> None:
        if self.require not in ("any", "all"):
            raise ConfigError(f"require is {self.require!r}; expected any or all")
        if self.gathering not in (known := (AUTO, *registry.names("gathering"))):
            raise ConfigError(f"gathering is {self.gathering!r}; expected {' or '.join(known)}")
        self._way = "plain" if self.gathering == AUTO else self.gathering
        self._untried = self.gathering == AUTO and not self.per_node
        self._total = getattr(registry.find("gathering", self._way), "HIDES", False)
        parse_filter([list(part) for part in self.where])
        for column, ends in self.ranges.items():
            if len(ends) != 2 or not -math.inf < ends[0] <= ends[1] < math.inf:
                raise ConfigError(f"ranges: {column!r} is {ends!r}; expected [least, most]")

    # ------------------------------------------------------------ the two ways to ask

    def fetch_stats(
        self,
        stats: str | Sequence[str] | None = None,
        dataset_schema: str | Sequence[str] | None = None,
        *,
        by: str | Sequence[str] | None = None,
    ) -> FAResult:
        """Statistics that need no arguments.

        Args:
            stats: one name or several; None: count, mean and variance.
            dataset_schema: columns; None: all that a statistic can be asked of.
            by: grouping columns, instead of this object's.

        Raises:
            ConfigError: an unknown statistic or column, or one that does not fit.
            RunFailed: no node answered (or with ``require="all"``, not all); says why, per node.
        """
        if stats is not None and not stats:
            raise ConfigError("stats is empty; name a statistic, or leave it out for count, mean and variance")
        listed = list(basic()) if stats is None else [stats] if isinstance(stats, str) else list(stats)
        kinds = self._kinds()
        wanted: list[Item] = []
        for name in listed:
            wanted += self._items(name, {}, dataset_schema, self._by(by), kinds)
        return self._fetch(wanted, self._left_out(dataset_schema))

    def fetch_stats_with_args(
        self, stats_args: Mapping[str, Any], *, by: str | Sequence[str] | None = None
    ) -> FAResult:
        """Statistics with arguments: ``{column: {statistic: {argument: value}}}``.

        Columns that belong together are written with a comma: ``{"sex, disease": {"crosstab": {}}}``.
        """
        if not isinstance(stats_args, Mapping) or not stats_args:
            raise ConfigError("stats_args is {column: {statistic: {argument: value}}}, and not empty")
        kinds = self._kinds()
        wanted: list[Item] = []
        for columns, asked in stats_args.items():
            if not isinstance(asked, Mapping) or not asked:
                raise ConfigError(f"stats_args[{columns!r}] is {asked!r}; expected {{statistic: {{argument: value}}}}")
            for name, options in asked.items():
                if options is not None and not isinstance(options, Mapping):
                    raise ConfigError(f"the arguments of {name} are {options!r}; expected {{argument: value}}")
                wanted += self._items(str(name), options or {}, _columns(columns, kinds), self._by(by), kinds)
        return self._fetch(wanted)

    def noisy(
        self, asked: Mapping[str, Any], epsilon: float = 1.0, delta: float = 1e-5, mode: str = LOCAL
    ) -> NoisyAnswers:
        """Statistics with differential privacy for each row (:mod:`hanse.noised`), each with an interval of the noise.

        Args:
            asked: ``{column: {statistic: {argument: value}}}``; the column "" for the number of all rows.
            epsilon, delta: of all that is asked here together. It is spent of each data set's budget.
            mode: ``local``: each node adds the noise; ``distributed``: all nodes of a secure sum together.

        Raises:
            ConfigError: an unknown statistic, or an argument that is missing.
            Refused: an owner said no, or a budget is used up.
        """
        if self.by or self.where or self.per_node:
            raise ConfigError("statistics with noise are of all rows of all nodes: leave by, where and per_node out")
        seeds = {k: v for k, v in self.backend.defaults.items() if k == "seed"}
        nodes = None if self.nodes is None else list(self.nodes)
        wanted = noisy.settings(asked, mode, {"epsilon": epsilon, "delta": delta})
        config = RunConfig.parse(
            {**seeds, **wanted, "tags": list(self.tags), "expected_client_ids": nodes, "purpose": self.purpose}
        )
        run_id = self.backend.propose(config)
        self.requests += 1
        result = wait(self.backend, run_id, config.num_rounds, progress=False)
        columns = {node: list(dataset.get("columns") or ()) for node, dataset in self._datasets().items()}
        return noisy.read(result, self.backend.configuration(run_id), columns)

    # ------------------------------------------------------------ by name

    def __getattr__(self, name: str) -> ByName:
        """Every statistic by its name: ``analytics.mean()``, ``analytics.kaplan_meier("time", "event")``."""
        if name.startswith("_") or name not in offered():
            raise AttributeError(f"there is no statistic {name!r}; known are {', '.join(offered())}")
        return ByName(name, self.ask, _SET_HERE)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *offered()})

    def ask(
        self, stat: str, columns: str | Sequence[str] | None = None, options: Mapping[str, Any] | None = None
    ) -> FAResult:
        """One statistic, as finely as can be had.

        Args:
            stat: its name.
            columns: None: all that are usual for it.
            options: its arguments; None: those that are usual for it.

        Raises:
            ConfigError: an unknown statistic, column or argument, or one that does not fit.
        """
        shown, kinds = statistic(stat).shown, self._kinds()
        given = {name: _listed(value) for name, value in (options or shown.asked).items()}
        if columns is None and isinstance(given.get("group"), str):
            kinds = {name: kind for name, kind in kinds.items() if name != given["group"]}
        pending = self._items(stat, given, columns, () if "group" in given else self._by(None), kinds)
        answered: dict[Item, FAResult] = {}
        while pending:
            found = self._fetch(pending)
            better = {item: found.finer(item) for item in pending}
            answered |= {item: found for item in pending if better[item] is None}
            pending = [item for item in better.values() if item is not None]
        fetched = {id(one): one for found in answered.values() for one in found.fetched}.values()
        single = {id(one): one for found in answered.values() for one in found.single}.values()
        kinds, left_out = self._kinds(), self._left_out(columns)
        ranges = self._ranges(kinds)
        return FAResult(list(answered), tuple(fetched), self.backend.simulated, tuple(single), kinds, left_out, ranges)

    def table_one(
        self, by: str | None = None, compare: str | None = None, dataset_schema: str | Sequence[str] | None = None
    ) -> TableOne:
        """How alike groups or sites are: standardised mean differences of all variables, with a love plot.

        Args:
            by: a column, whose labels make the groups (over all sites); None: the sites themselves, of
                which only those take part whose owners let them be shown alone.
            compare: ``rest``: each group against all others together, or ``pairs``. By default sites
                are compared with the rest, and labels in pairs.
            dataset_schema: variables; None: all but images.
        """
        kinds = self._kinds()
        if by is not None:
            self._chosen([by], kinds)
            if kinds[by] not in table_one_parts.GROUPING:
                raise ConfigError(f"by is {by!r}, which is {kinds[by]}; groups are the labels of a column")
        chosen = self._chosen(dataset_schema, kinds)
        if dataset_schema is None:
            chosen = [c for c in chosen if not (c.endswith("]") and _is_image(c, self._seen))]
        left_out = self._left_out(dataset_schema)
        ranges, simulated = self._ranges(kinds), self.backend.simulated
        return table_one_parts.make(self._bounded, by, compare, chosen, kinds, simulated, left_out, ranges)

    def describe(self, dataset_schema: str | Sequence[str] | None = None) -> Listing:
        """One row per column: count, missing, mean, std and quantiles; labels of categorical ones."""
        found = self._described(dataset_schema)
        return Listing(found.listing(), empty="there is no column to describe", notes=[*found.totals, *found.notes])

    def overview(self, dataset_schema: str | Sequence[str] | None = None, bins: int = 20) -> FAResult:
        """What :meth:`describe` has, with a histogram of each column of numbers: one picture of the data."""
        found = self._described(dataset_schema)
        drawn = self._described(dataset_schema, drawn=True, bins=bins)
        return drawn.merge(found) if drawn.wanted else found

    def _described(self, dataset_schema: str | Sequence[str] | None, drawn: bool = False, **options: Json) -> FAResult:
        """What statistics say of the columns in an overview: those that are ``drawn`` or those that are not."""
        kinds = self._kinds()
        chosen = self._described_columns(dataset_schema, kinds)
        wanted: list[Item] = []
        for name, summary in sorted(summaries().items(), key=lambda pair: pair[1].place):
            columns = [c for c in chosen if kinds[c] in summary.kinds]
            asked = {**summary.options, **{k: v for k, v in options.items() if k in summary.options}}
            if columns and summary.drawn is drawn:
                wanted += self._items(name, asked, columns, self._by(None), kinds)
        return self._fetch(wanted, self._left_out(dataset_schema))

    def _described_columns(self, schema: str | Sequence[str] | None, kinds: Mapping[str, str]) -> list[str]:
        chosen, by = self._chosen(schema, kinds), self._by(None)
        images = {c for c in chosen if by and schema is None and c.endswith("]") and _is_image(c, self._seen)}
        return [c for c in chosen if c not in images and c not in by]

    # ------------------------------------------------------------ from names to items

    def _by(self, by: str | Sequence[str] | None) -> tuple[str, ...]:
        given = self.by if by is None else by
        return (given,) if isinstance(given, str) else tuple(given)

    def _items(
        self,
        stat: str,
        options: Mapping[str, Json],
        schema: str | Sequence[str] | None,
        by: tuple[str, ...],
        kinds: Mapping[str, str],
    ) -> list[Item]:
        if stat not in statistic_names():
            raise ConfigError(f"there is no statistic {stat!r}; known are {', '.join(offered())}")
        refuse_elsewhere(stat, options, _SET_HERE)
        found = statistic(stat)
        together = found.columns != 1
        usual = found.kinds if found.shown.usual is None else found.shown.usual
        chosen = self._chosen(schema, kinds)
        for name in by:
            self._chosen([name], kinds)
            if kinds[name] not in LABELS:
                raise ConfigError(
                    f"by is {name!r}, which is {kinds[name]}; groups are the labels of "
                    f"{', '.join(sorted(LABELS))} columns"
                )
        fitting = [c for c in chosen if kinds[c] in (usual if schema is None else found.kinds) and c not in by]
        if schema is not None and (wrong := [c for c in chosen if kinds[c] not in found.kinds]):
            raise ConfigError(
                f"{stat} cannot be asked of {wrong[0]!r}, which is {kinds[wrong[0]]}; it takes "
                f"{', '.join(sorted(found.kinds))} columns"
            )
        if together or by or "group" in options:
            pixels = [c for c in (*fitting, *by) if c.endswith("]") and _is_image(c, self._seen)]
            if schema is None and not set(pixels) & set(by):
                fitting = [c for c in fitting if c not in pixels]
            elif pixels:
                raise ConfigError(
                    f"{stat} cannot be asked of {pixels[0]!r}: the pixels and shapes of images are told "
                    "by themselves, not by or beside another column"
                )
        if not fitting:
            raise ConfigError(f"there is no column that {stat} can be asked of")
        if found.matrix and len(fitting) < 2:
            raise ConfigError(f"{stat} needs two columns or more; there is only {fitting[0]}")
        if together:
            return [make_item(stat, fitting, options, by)]
        return [make_item(stat, [column], options, by) for column in fitting]

    def _chosen(self, schema: str | Sequence[str] | None, kinds: Mapping[str, str]) -> list[str]:
        """The columns of a schema. Raises ``ConfigError`` naming one that no site has, or that is of different kinds at
        several."""
        if schema is None:
            return list(kinds)
        found: list[str] = []
        for name in [schema] if isinstance(schema, str) else schema:
            if name in kinds:
                found.append(name)
            elif f"{name}[shape]" in kinds:  # a modality: all of its channels
                found += [f"{name}[{channel}]" for channel in range(CHANNELS)]
            elif where := self._conflicts().get(name):
                raise ConfigError(f"column {name!r} is of different kinds: {where}; {SAME}")
            else:
                raise ConfigError(f"no site has a column {name!r}; there are {', '.join(list(kinds)[:50])}")
        if not found:
            raise ConfigError("dataset_schema is empty; name columns, or leave it out for all")
        return list(dict.fromkeys(found))

    def _conflicts(self) -> dict[str, str]:
        """Columns that nothing is told of, and which kind they are at which sites."""
        return features.conflicts({node: d.get("columns") or {} for node, d in self._datasets().items()})

    def _left_out(self, schema: str | Sequence[str] | None) -> list[str]:
        """Where all columns are meant, those that are left out."""
        found = self._conflicts() if schema is None else {}
        return [f"{name!r} is left out, as it is of different kinds: {where}; {SAME}" for name, where in found.items()]

    def _kinds(self) -> dict[str, str]:
        """Column to kind over all sites, with channels and shape in place of an image column."""
        schemas = {node: d.get("columns") or {} for node, d in self._datasets().items()}
        found: dict[str, str] = {}
        for name, kind in features.survey(schemas).kinds.items():
            if kind == ColumnKind.IMAGE:
                found |= {f"{name}[{channel}]": "numeric" for channel in range(CHANNELS)}
                found[f"{name}[shape]"] = "categorical"
            else:
                found[name] = kind
        return dict(sorted(found.items()))  # not as the columns stand in a frame

    def _datasets(self) -> Mapping[str, Mapping[str, Json]]:
        now = time.monotonic()
        if self._seen is None or self.backend.simulated or now - self._seen[0] > FRESH_S:
            self._seen = (now, self.backend.fitting(self._config({})))
        return self._seen[1]

    def refresh(self) -> None:
        """Look at the datasets' versions at the next call, rather than within half a minute."""
        self._seen = None

    # ------------------------------------------------------------ from items to values

    def _fetch(self, wanted: Sequence[Item], left_out: Sequence[str] = ()) -> FAResult:
        wanted = list(dict.fromkeys(wanted))
        if not wanted:
            return FAResult([], (), left_out=left_out)
        fetched = self._bounded(wanted, per_node=False)
        single = self.fetched(wanted, per_node=True) if self.per_node else ()
        kinds = self._kinds()
        return FAResult(wanted, fetched, self.backend.simulated, single, kinds, left_out, self._ranges(kinds))

    def _ranges(self, kinds: Mapping[str, str]) -> dict[str, tuple[float, float]]:
        if self.ranges:
            self._chosen(list(self.ranges), kinds)  # a name that is none would bound nothing, without a word
        known = {name: (0.0, 1.0) for name, kind in kinds.items() if kind == ColumnKind.BOOLEAN}
        return known | {name: (float(least), float(most)) for name, (least, most) in self.ranges.items()}

    def _bounded(self, wanted: Sequence[Item], per_node: bool) -> tuple[Fetched, ...]:
        """What answers ``wanted``, and where sites keep groups of it back, what bounds how far off that makes it."""
        fetched = self.fetched(wanted, per_node)
        if per_node or self.where:
            return fetched
        of = {item: next((f for f in reversed(fetched) if f.answers(item)), None) for item in wanted}
        besides = dict.fromkeys(more for item, f in of.items() if f is not None for more in f.beside([item]))
        if not besides:
            return fetched
        more = self.fetched(list(besides), per_node=False)
        return tuple({id(one): one for one in (*more, *fetched)}.values())

    def fetched(self, wanted: Sequence[Item], per_node: bool) -> tuple[Fetched, ...]:
        """What answers ``wanted``: from the cache, else from a run for what is missing there."""
        versions = tuple(sorted((n, str(d["name"]), str(d["version"])) for n, d in self._datasets().items()))
        key = (versions, dumps([list(part) for part in self.where]), per_node)
        known = self._cache.setdefault(key, [])
        missing = [i for i in wanted if not any(f.answers(i) for f in known)]
        if not missing:
            return tuple(known)
        fetched = self._ask(missing, per_node)
        if not fetched.failures:
            known.append(fetched)
            return tuple(known)
        return (*known, fetched)

    def _ask(self, items: Sequence[Item], per_node: bool = False) -> Fetched:
        options: dict[str, Json] = {"items": [i.to_json() for i in items]}
        if self.where:
            options["where"] = [list(part) for part in self.where]
        if per_node:
            options["per_node"] = True
        if self._untried and items and self.nodes is None and not self.requests:
            self._as_before()
        config = self._config(options, items)
        refused: dict[str, str] = {}
        while True:
            try:
                run_id = self._proposed(config, options, items)
            except (ConfigError, Conflict) as error:
                if not refused:
                    raise
                why = "; ".join(f"{n}: {reason}" for n, reason in sorted(refused.items()))
                raise Refused(f"the statistics were refused. {why}. The others alone: {error.message}") from None
            self.requests += 1
            try:
                result = wait(self.backend, run_id, config.num_rounds, progress=False)
                break
            except RunFailed as error:
                raise RunFailed(f"the statistics were not computed: {error.message}") from None
            except Refused as error:
                said = _rejections(self.backend.status(run_id))
                if self._total and any(why.startswith(AT_NODE) for why in said.values()):
                    self._total = False  # an owner has the minimum at the node: then it holds at all of them
                    self._way = self._way if self.gathering == self._way else "plain"
                    config = self._config(options, items)
                    continue
                if self._untried and any(why.startswith(ON_TOTALS) for why in said.values()):
                    self._untried, self._way, self._total = False, "secure", True
                    config = self._config(options, items)
                    continue
                refused |= said
                rest = [n for n in self._datasets() if n not in refused]
                if self.require == "all" or not said or not rest:
                    why = "; ".join(f"{n}: {reason}" for n, reason in sorted(refused.items())) or error.message
                    raise Refused(f"the statistics were refused. {why}".strip()) from None
                config = self._config(options, items, rest)  # one no is not everybody's
        failures = {n: reason for step in result.rounds for n, reason in sorted(step.failures.items())} | refused
        if failures and self.require == "all":
            raise RunFailed("not all nodes answered. " + "; ".join(f"{n}: {r}" for n, r in failures.items()))
        asked = {n: int(d.get("most_rows") or d.get("rows") or 0) for n, d in self._datasets().items()}
        return Fetched.of(result.record, failures, result.run_id, asked)

    def _as_before(self) -> None:
        """Begins with totals where the last question to the same data was answered so.

        Who asks plainly each time is refused each time, by owners whose minimum holds on totals, and has one more
        rejected run."""
        if self.backend.latest((PLAIN, TOTAL), self.tags) == TOTAL:
            self._untried, self._way, self._total, self._guessed = False, "secure", True, True

    def _proposed(self, config: RunConfig, options: Mapping[str, Json], items: Sequence[Item]) -> str:
        try:
            return self.backend.propose(config)
        except (ConfigError, Conflict):
            if not self._guessed:
                raise
        # these nodes cannot be asked as those were
        self._untried, self._way, self._total, self._guessed = True, "plain", False, False
        return self.backend.propose(self._config(options, items))

    def _config(
        self, options: Mapping[str, Json], items: Sequence[Item] = (), rest: Sequence[str] | None = None
    ) -> RunConfig:
        where = {str(part[0]) for part in self.where}
        touched = {c for i in items for c in (*i.columns, *i.by, *_group(i))} | where
        seeds = {k: v for k, v in self.backend.defaults.items() if k == "seed"}
        nodes = list(rest) if rest is not None else None if self.nodes is None else list(self.nodes)
        there = len(rest) if rest is not None else len(self._seen[1]) if self._seen else 1
        asked = there if items and (self.require == "all" or self._total) else 1
        columns = sorted({_image(c) if c.endswith("]") and _is_image(c, self._seen) else c for c in touched})
        return RunConfig.parse(
            {
                **seeds,
                "federated_strategy": TOTAL if self._total else PLAIN,
                **self._gathered(items, there),
                "model_options": dict(options),
                "target_column": self.target if self.target not in columns else "",
                "sample_id_column": None,
                "num_rounds": 1,
                "tags": list(self.tags),
                "expected_client_ids": nodes,
                "features": columns or None,
                "max_failed_rounds": 2 if self._total else 0,
                "min_fit_nodes": asked,
                "min_completed": asked,
                "purpose": self.purpose,
                "name": "statistics"
                if not items
                else f"statistics: {', '.join(sorted({i.stat for i in items}))}"[:200],
            }
        )

    def _gathered(self, items: Sequence[Item], nodes: int) -> dict[str, Json]:
        """How sums come together. Names of labels are words: they are told as they are."""
        if self._way == "plain" or not items:
            return {}
        found: dict[str, Json] = {"gathering": self._way}
        if self._total:
            return found | {"secure_threshold": max(2, nodes)}
        merged = {i.stat for i in plan(tuple(items)).items if statistic(i.stat).combine is not Combine.SUM}
        return found | ({"gathering_fallback": "plain"} if merged == {"levels"} else {})


def _rejections(status: Mapping[str, Json]) -> dict[str, str]:
    """Node to why its owner said no."""
    found = {}
    for node, consent in (status.get("consents") or {}).items():
        if str(consent.get("decision")).startswith("reject"):
            found[str(node)] = str(consent.get("reason") or "its owner rejected it")
    return found


def _group(item: Item) -> list[str]:
    group = item.options.get("group")
    return [group] if isinstance(group, str) else []


def _image(column: str) -> str:
    return column.rsplit("[", 1)[0]


def _is_image(column: str, seen: Any) -> bool:
    return seen is not None and not any(column in (d.get("columns") or {}) for d in seen[1].values())


def _listed(value: Any) -> Any:
    """An array, a tuple or a series as a list of plain values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, (tuple, set, frozenset, range)) else value


_INNER = ("backend", "target", "requests")
_SET_HERE = tuple(f.name for f in fields(FederatedAnalytics) if f.name not in _INNER and not f.name.startswith("_"))


def _columns(given: str, kinds: Mapping[str, str]) -> list[str] | str:
    """``"sex, disease"`` are two columns, unless one is called so."""
    if given in kinds or not isinstance(given, str) or "," not in given:
        return given
    return [part.strip() for part in given.split(",")]


__all__ = ["FAResult", "FederatedAnalytics"]
