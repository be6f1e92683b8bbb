"""Statistics with noise, asked and read: ``analytics.noisy({"age": {"mean": {"range": [0, 120]}}}, epsilon=0.5)``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hanse import noised, protection
from hanse.config import RunConfig
from hanse.errors import ConfigError
from hanse.experiment.listing import Listing
from hanse.experiment.results import Result
from hanse.features import canonical
from hanse.messages import Json
from hanse.privacy.guarantee import CENTRAL, DISTRIBUTED, Guarantee
from hanse.privacy.release import deviation_of
from hanse.rough import some


class NoisyAnswers(Listing):
    """A row for each statistic: what, of which column, its value with noise, and the interval of that noise (95 %).

    ``guarantee`` is what was promised to the rows, ``nodes`` whose rows they are, and ``notes`` whose are not among
    them."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], guarantee: Guarantee, nodes: Sequence[str], notes: Sequence[str] = ()
    ) -> None:
        super().__init__(rows, ("stat", "column", "value", "interval"), notes=notes)
        self.guarantee, self.nodes = guarantee, tuple(nodes)

    def to_json(self) -> dict[str, Json]:
        """The rows, what was promised to whom, whose rows they are, and notes."""
        told: dict[str, Json] = {"values": [dict(row) for row in self], "privacy": self.guarantee.to_json()}
        return {**told, "nodes": list(self.nodes), "notes": list(self.notes)}

    def plot(self) -> Any:
        """There is no picture of them. Raises ``ConfigError``."""
        raise ConfigError("statistics with noise have no picture; their values and intervals are rows")


def entries(asked: Mapping[str, Any]) -> list[dict[str, Json]]:
    """The entries of ``{column: {statistic: {argument: value}}}``. Raises ``ConfigError``."""
    if not isinstance(asked, Mapping) or not asked:
        raise ConfigError("name what is asked, as {column: {statistic: {argument: value}}}; '' for all rows")
    found = [
        {"stat": stat, "column": column, **(options or {})}
        for column, stats in asked.items()
        for stat, options in stats.items()
    ]
    noised.entries(found)
    return found


def settings(asked: Mapping[str, Any], mode: str, privacy: Mapping[str, Json]) -> dict[str, Json]:
    """Those of the run that asks it."""
    items = entries(asked)
    return {
        "federated_strategy": "noisy_statistics",
        "model_options": {"items": items},
        "features": sorted({column for entry in noised.entries(items) for column in entry.columns}) or None,
        "target_column": "",
        "sample_id_column": None,
        "num_rounds": 1,
        "max_failed_rounds": 0,
        "privacy": {"mode": mode, **privacy},
        "gathering": "secure" if mode == DISTRIBUTED else "plain",
        "name": "statistics with noise",
    }


def read(result: Result, config: RunConfig, columns: Mapping[str, Collection[str]]) -> NoisyAnswers:
    """The statistics of a run.

    Args:
        columns: node to those of its dataset, of all nodes that were asked.
    """
    data, question = result.record.data, noised.entries(config.model_options["items"])
    promised = protection.of(config, len(columns))
    if promised is None:
        raise ConfigError("this run promised no differential privacy, so its numbers have no noise")
    sums, took = result.record.arrays["sums"], list(data["took"])
    each = deviation_of(promised, noised.sensitivity(question), sums.size)
    noises = 1 if promised.mode == CENTRAL else len(took)
    rows = noised.told(question, sums, each * noises**0.5)
    why = {row["node"]: row["reason"] for row in result.failures}
    notes = [f"{node} is not in these numbers: {why.get(node, 'it gave none')}" for node in columns if node not in took]
    for name in sorted({name for entry in question for name in entry.columns}):
        if lacking := [node for node in took if name not in canonical(columns.get(node, (name,)))]:
            notes.append(f"{some(lacking)} has no column {name!r}, and no row in what is told of it")
    return NoisyAnswers(rows, promised, took, [*notes, *noised.notes(question, rows)])
