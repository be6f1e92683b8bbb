"""Statistics with differential privacy for each row: sums of bounded parts, with noise, in one exchange.

Run options (``model_options``): ``items``, the entries of a question (:mod:`hanse.noised`). The noise of the run's
promise (``privacy``) is over all of them together: a question of k entries has √k times the noise of one. In mode
``local`` each node adds it; in mode ``distributed`` all nodes of the secure sum have one between them.

Where the owner of a data set says whose each row is, every person counts once in it (:mod:`hanse.subjects`).

What small cells are kept back for elsewhere, the noise does here: no count is told exactly, and none is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hanse import noised
from hanse.codec import encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, NotAllowed
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site
from hanse.messages import Array, Json, Record
from hanse.privacy.guarantee import ROW
from hanse.queries import TableSource
from hanse.typed import Typed

AT_ONCE = True
UNIT = ROW


def ingredients(options: Mapping[str, Json]) -> list[str]:
    """Modules of the node's half that the question uses, for the bundle."""
    stats = {entry.stat for entry in noised.entries(options.get("items"))}
    return ["hanse.noised", *(f"hanse.{noised.FOLDER}.{stat}" for stat in sorted(stats))]


def most_steps(config: RunConfig) -> int:
    """One."""
    return 1


def unfit(config: RunConfig) -> str:
    """A question that is none; without noise there are the exact statistics."""
    if config.privacy is None:
        return "noisy_statistics are for runs with differential privacy; set privacy, or ask the exact statistics"
    noised.entries(config.model_options.get("items"))
    return ""


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        items: the question.
        took: the nodes whose sums are in.
        sums: theirs, with noise.
    """

    items: tuple[Mapping[str, Json], ...]
    took: tuple[str, ...] = ()
    sums: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: that of its bundle, and nothing besides."""

    ask: int = 0


class NoisyStatistics:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.SUM})

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        """Nothing is asked. Raises ``ConfigError`` for a question that is none."""
        items = config["model_options"].get("items")
        noised.entries(items)
        return State(tuple(items))

    def ask(self, state: State) -> Ask | Done:
        """All of it, of everybody."""
        if state.took:
            return Done("every statistic is in")
        size = sum(entry.size for entry in noised.entries(list(state.items)))
        return Ask(encode(Question()), Combine.SUM, "statistics", arrays={"sums": ("float64", (size,))}, sums={})

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half: one pass over the rows. Raises ``NotAllowed`` for columns that the proposal did not name."""
        question = noised.entries(site.config["model_options"].get("items"))
        source = site.source if site.source is not None else TableSource(site.table)
        asked = {column for entry in question for column in entry.columns}
        if unnamed := sorted(asked - set(site.config["features"] or ())):
            raise NotAllowed(f"the question is of {', '.join(unnamed)}, which the proposal does not name as features")
        here = sorted(asked & set(source.schema))
        parts, seen = [np.zeros(entry.size) for entry in question], 0
        for batch in source.batches(here or sorted(source.schema)[:1]):
            site.progress()
            shares = None if site.shares is None else site.shares[seen : seen + batch.rows]
            seen += batch.rows
            found = {name: batch[name] for name in here}
            for part, entry in zip(parts, question, strict=True):
                part += entry.observe(found, batch.rows, shares)
        sums = Record({}, {"sums": noised.vector(question, parts)})
        return Contribution(sums, combine=Combine.SUM, sensitivity=noised.sensitivity(question))

    def tell(self, state: State, gathered: Gathered) -> State:
        """All is in."""
        if not gathered.answers:
            raise ConfigError("no node answered")
        return replace(state, took=tuple(a.node for a in gathered.answers), sums=gathered.sum())

    def result(self, state: State) -> Record:
        """The state's fields as data, and its array ``sums``."""
        return Record({"items": list(state.items), "took": list(state.took)}, dict(state.sums))

    def metrics(self, state: State) -> Mapping[str, Json]:
        """How many nodes it is of."""
        return {"nodes": len(state.took)}


ALGORITHM = Typed(NoisyStatistics(), State, Question)
