"""Who is asked: what a selection sees, what it says (:mod:`hanse.selection`), and who may be asked at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hanse.kinds import Ask
from hanse.messages import Json


@dataclass(frozen=True, slots=True)
class Past:
    """What an earlier step of the run was like, as its durable record says.

    Args:
        step, round, label: which step it was; ``round`` is None where it trained nothing.
        asked: the nodes that were asked.
        answered: node to its metrics, and ``seconds`` and ``weight`` of its answer.
        failures: node to why it gave nothing usable.
        lines: node to what the coordinator measured of the line to it, as far as it did: ``latency_ms``,
            ``packet_loss``, ``up_mbit_s``, ``down_mbit_s``. Apart from what nodes say themselves.
    """

    step: int
    round: int | None
    label: str
    asked: Sequence[str]
    answered: Mapping[str, Mapping[str, Json]]
    failures: Mapping[str, str]
    lines: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)

    @staticmethod
    def of(record: Mapping[str, Json]) -> Past:
        """From the record of a step (:class:`hanse.rounds.Step` as JSON)."""
        parts: Mapping[str, Mapping[str, Json]] = record.get("participants") or {}
        asked, failures = record.get("asked") or (), dict(record.get("failures") or {})
        lines = {node: line for node, part in parts.items() if (line := part.get("line"))}
        answered = _Answered(parts)
        return Past(record["step"], record.get("round"), record.get("label", ""), asked, answered, failures, lines)


class _Answered(Mapping[str, Mapping[str, Json]]):
    """:attr:`Past.answered` of a record's participants, put together when it is looked at: most selections never do,
    and of ten thousand nodes a copy takes megabytes a step."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Mapping[str, Mapping[str, Json]]) -> None:
        self._parts = parts

    def __getitem__(self, node: str) -> Mapping[str, Json]:
        part = self._parts[node]
        return {**(part.get("metrics") or {}), "seconds": part.get("seconds"), "weight": part.get("weight")}

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True, slots=True)
class Situation:
    """What a selection chooses by.

    Args:
        eligible: nodes that can be asked, sorted.
        count: so many are to be asked; fewer than there are.
        rng: keyed by the run's seed and the step.
        facts: what is known about each node.
        past: the steps that were done before, in order. A run that is resumed sees the same.
        settings: all that the selection's file brings along (``SETTINGS``), by name.
    """

    eligible: Sequence[str]
    count: int
    rng: np.random.Generator
    facts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    past: Sequence[Past] = ()
    settings: Mapping[str, Json] = field(default_factory=dict)

    def latest(self, metric: str) -> dict[str, float]:
        """Node to what it measured last of a metric, of those that ever told a finite number.

        >>> past = [Past(0, 1, "train", ["a"], {"a": {"loss": said}}, {}) for said in (0.5, 0.25, None)]
        >>> Situation(["a", "b"], 1, np.random.default_rng(0), past=past).latest("loss")
        {'a': 0.25}
        """
        return _latest(metric, (step.answered for step in self.past))

    def latest_of_line(self, what: str) -> dict[str, float]:
        """Node to what was measured last of the line to it, of those where it was."""
        return _latest(what, (step.lines for step in self.past))


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is asked. ``reason`` is for people; ``reasons`` of single nodes, where they differ; ``left_out``: the nodes
    that may not be asked, and why."""

    nodes: Sequence[str]
    reason: str
    reasons: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


class Admission(Protocol):
    """Which nodes may be sent a step, before any of them is chosen for it."""

    async def refused(self, ask: Ask, step: int, nodes: Sequence[str]) -> Mapping[str, str]:
        """Those of ``nodes`` that may not be sent this now, and why. Raises ``NotNow`` where nobody can say."""
        ...

    def seen(self, failures: Mapping[str, str]) -> None:
        """A step is over; these nodes gave nothing usable, for these reasons."""
        ...


def _latest(what: str, told: Iterable[Mapping[str, Mapping[str, Json]]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for step in told:
        for node, said in step.items():
            value = said.get(what)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                found[node] = float(value)
    return found
