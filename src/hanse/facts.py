"""What is known of a task before it is answered: what rules decide by and what ledgers count.

A fact is read as an attribute. A rule that reads a fact that is not there raises, and what raises is a no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypedDict

from hanse.messages import Json

PER_BILLION = "per billion"  # a share so small that it is told as a whole number of billionths


class Ways(TypedDict):
    """How contributions come together: the gathering of each kind that a run has. For whoever needs the types of what
    stands in an object (:mod:`hanse.cedar.vocabulary`)."""

    sum: str | None
    merge: str | None
    each: str | None
    agree: str | None


class Promised(TypedDict):
    """What of a promise of differential privacy can be compared with what an owner wants."""

    mode: str
    unit: str
    epsilon: float
    delta: Annotated[float, PER_BILLION]
    releases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The data set that a task is approved for, as this node has registered it."""

    name: str
    version: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)  # without slots: see Facts.of_another
class RunFacts:
    """All that is known of a run, whoever looks at it. None has a default: who makes facts has to know them all.

    Args:
        proposer, purpose: who proposed it, and what for. study: the one that it is part of; None: none.
        run, bundle: the run, and the SHA-256 of what was proposed.
        algorithm, model: files that compute; ``model`` counts only where one is learned.
        settings: the run's configuration.
        rounds, steps: its training rounds, and the most steps that the algorithm takes for them.
        nodes: how many nodes take part.
        features: columns that are read besides the target.
        plan: whether code of the data scientist runs at the nodes.
        at_once: whether owners answer all such questions in their settings, so that none waits for a decision.
        needs_data: whether data is touched at all.
        countries: where the nodes whose data are used declare to be, by ISO 3166-1; "" among them where one does not.
        gathering, transforms: how contributions come together; names of what changes them before they leave.
        privacy: what differential privacy the run promises (``to_json`` of :mod:`hanse.privacy.guarantee`); None: none.
    """

    proposer: str
    purpose: str
    study: str | None
    run: str
    bundle: str
    algorithm: str
    model: str
    settings: Mapping[str, Json]
    rounds: int
    steps: int
    nodes: int
    features: tuple[str, ...]
    plan: bool
    at_once: bool
    needs_data: bool
    countries: tuple[str, ...]
    gathering: Annotated[Mapping[str, Json], Ways]
    transforms: tuple[str, ...]
    privacy: Annotated[Mapping[str, Json], Promised] | None


@dataclass(frozen=True, kw_only=True)
class Facts(RunFacts):
    """All that is known of one task, at a node.

    Args:
        sender: who asks, by its certificate.
        dataset: None where it is not.
        rows: of the data set (the persons that they are of, where it names them): as registered before the work, as
            found after it. None without data.
        step, exchange, operation, combine: of the loop, from 0; within the step, from 0; of the gathering; how what
            the nodes answer comes together.
        round: the training round that the ask names, from 1; None where it names none.
        bytes: of the ask's arrays.
        exposed: what code of a stranger could reach here besides the data set, in words; nothing where the
            worker is shut in.
        time: when it was asked, UTC.
    """

    sender: str
    dataset: Data | None
    rows: int | None
    step: int
    exchange: int
    operation: str
    combine: str
    round: int | None
    bytes: int
    exposed: tuple[str, ...]
    time: datetime

    def of_another(
        self, *, step: int, exchange: int, operation: str, combine: str, round: int | None, bytes: int, time: datetime
    ) -> Facts:
        """The facts of another task of the same run, of which these differ. The others are copied as a whole: to set
        each of them anew for each task takes longer than most rules do."""
        found: Facts = object.__new__(Facts)
        found.__dict__.update(
            self.__dict__,
            step=step,
            exchange=exchange,
            operation=operation,
            combine=combine,
            round=round,
            bytes=bytes,
            time=time,
        )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposing(RunFacts):
    """All that the coordinator knows of a run that somebody proposes. ``role``: theirs; ``time``: UTC."""

    role: str
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Participation(RunFacts):
    """All that the coordinator knows of a node that would take part in a run, or be sent a step of it.

    Args:
        role: of who proposed the run.
        node, rows: whom it is about, and the most rows that its data set has (None: no data).
        country: where it declares to be, as the proposal has it; None: it does not, or no data are used.
        tags: that the data sets of the run carry.
        failures: how many steps of this run it was asked and gave nothing usable in.
        step, round, label: of the loop; None and "" before the run begins.
        bytes: that it would be sent.
        time: UTC.
    """

    role: str
    node: str
    country: str | None
    tags: tuple[str, ...]
    rows: int | None
    failures: int
    step: int | None
    round: int | None
    label: str
    bytes: int
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(RunFacts):
    """All that the coordinator knows when somebody wants to see what a run gave.

    Args:
        role: of who reads.
        own: whether who reads proposed the run.
        result: ``model``, ``card`` or ``statistics``.
        time: UTC.
    """

    role: str
    own: bool
    result: str
    time: datetime


def told_in_json(said: Mapping[str, Json]) -> dict[str, Json]:
    """Facts by name, as a bundle tells them (:meth:`hanse.bundle.Bundle.facts`): JSON has lists where facts are tuples.

    >>> told_in_json({"features": ["age"], "rounds": 3})
    {'features': ('age',), 'rounds': 3}
    """
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def now() -> datetime:
    """The time of a fact."""
    return datetime.now(UTC)


def round_of(ask: Mapping[str, Json]) -> Json:
    """The training round that an ask names: of the stage at work, else its own; None where it names none.

    >>> round_of({"stage": 1, "of": {"phase": "train", "round": 3}}), round_of({"ask": 0})
    (3, None)
    """
    inner = ask.get("of", ask)
    return inner.get("round") if isinstance(inner, (dict, Mapping)) else None
