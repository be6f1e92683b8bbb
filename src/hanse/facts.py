"""What is known of a task before it is answered: what rules decide by and what ledgers count.

A fact is read as an attribute. A rule that reads a fact that is not there raises, and what raises is a no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hanse.messages import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The data set that a task is approved for, as this node has registered it."""

    name: str
    version: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of one task. None has a default: who makes facts has to know them all.

    Args:
        sender: who asks, by its certificate.
        proposer, purpose: who proposed the run, and what for.
        run, bundle: the run, and the SHA-256 of what was approved.
        algorithm, model: files that compute; ``model`` counts only where one is learned.
        settings: the run's configuration.
        rounds, steps: its training rounds, and the most steps that the algorithm takes for them.
        nodes: how many nodes take part.
        features: columns that are read besides the target.
        plan: whether code of the data scientist runs here.
        at_once: whether owners answer all such questions in their settings, so that none waits for a decision.
        needs_data: whether data is touched at all.
        gathering, transforms: how contributions come together; names of what changes them before they leave.
        privacy: what differential privacy the run promises (``to_json`` of :mod:`hanse.privacy.guarantee`); None: none.
        dataset: None where it is not.
        rows: of the data set: as registered before the work, as found after it. None without data.
        step, exchange, operation, combine: of the loop, from 0; within the step, from 0; of the gathering; how what
            the nodes answer comes together.
        round: the training round that the ask names, from 1; None where it names none.
        bytes: of the ask's arrays.
        exposed: what code of a stranger could reach here besides the data set, in words; nothing where the
            worker is shut in.
        time: when it was asked, UTC.
    """

    sender: str
    proposer: str
    purpose: str
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
    gathering: Mapping[str, Json]
    transforms: tuple[str, ...]
    privacy: Mapping[str, Json] | None
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


def now() -> datetime:
    """The time of a fact."""
    return datetime.now(UTC)


def round_of(ask: Mapping[str, Json]) -> Json:
    """The training round that an ask names: of the stage at work, else its own; None where it names none.

    >>> round_of({"stage": 1, "of": {"phase": "train", "round": 3}}), round_of({"ask": 0})
    (3, None)
    """
    inner = ask.get("of", ask)
    return inner.get("round") if isinstance(inner, Mapping) else None
