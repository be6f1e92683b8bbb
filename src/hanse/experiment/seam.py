"""What lies behind a federation: the seam between what people call and where it happens.

Sites in this process (:mod:`hanse.experiment.simulation`) and a coordinator
(:mod:`hanse.experiment.connection`) are each a :class:`Backend`, so all else is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hanse.config import RunConfig
from hanse.experiment.results import Result
from hanse.messages import Json, Record
from hanse.rounds import Step

ENDED = ("completed", "failed", "rejected", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened in a run. ``waiting_for`` are nodes whose consent is missing; ``cause`` is what code
    raised in a simulation, whose data scientist may see it."""

    state: str
    step: Step | None = None
    waiting_for: Sequence[str] = ()
    reason: str = ""
    cause: BaseException | None = None


class Backend(Protocol):
    """What an experiment needs of a federation."""

    simulated: bool
    defaults: Mapping[str, Json]

    def nodes(self) -> Sequence[Mapping[str, Json]]:
        """A row for each node, for people: node, status, datasets, rows."""
        ...

    def datasets(self) -> Sequence[Mapping[str, Json]]:
        """A row for each dataset: node, dataset, rows, columns and their kinds."""
        ...

    def analyze(self, config: RunConfig) -> Mapping[str, Json]:
        """How the columns of the sites that fit a run meet: features, kinds, warnings, union and intersection. Raises
        what a proposal would raise."""
        ...

    def fitting(self, config: RunConfig) -> Mapping[str, Mapping[str, Json]]:
        """Node to the dataset that a run would use: name, version, columns and their kinds."""
        ...

    def preview(self, config: RunConfig, run_id: str) -> str:
        """The settings and the code that would run, or, of a run (``run_id``), that owners read."""
        ...

    def propose(self, config: RunConfig) -> str:
        """Freezes the proposal and asks the owners; the id of the run. Raises ``ConfigError``, ``Conflict``."""
        ...

    def configuration(self, run_id: str) -> RunConfig:
        """Of a run that exists already."""
        ...

    def warnings(self, run_id: str) -> Sequence[str]:
        """What was odd about the sites when the run was proposed, for people."""
        ...

    def status(self, run_id: str) -> Mapping[str, Json]:
        """State, round, reason and consents of a run, now. Raises ``NotFound``."""
        ...

    def latest(self, strategies: Sequence[str], tags: Sequence[str]) -> str:
        """Which of these strategies the newest completed run over the data with these tags had; "": none of the newest
        runs had any."""
        ...

    def watch(self, run_id: str, steps: bool = True) -> Iterator[Happening]:
        """Past and coming updates; ends when the run has ended. Waiting costs nothing. Without ``steps`` only of what
        becomes of the run: who shows no step need not ask for it."""
        ...

    def cancel(self, run_id: str) -> None:
        """Ends the run before its result. Raises ``Conflict`` where it has ended."""
        ...

    def resume(self, run_id: str) -> None:
        """Lets a paused run go on, or asks the owners of a failed one again. Raises ``Conflict``."""
        ...

    def result(self, run_id: str) -> Result:
        """The result of a completed run. Raises ``Conflict`` where it is still going, ``RunFailed`` where it has
        none."""
        ...

    def models(self, run_id: str, after: int) -> Iterator[tuple[int, Result]]:
        """The kept models of rounds above ``after``, in order, each with its round (0: before training)."""
        ...

    def stored(self, record: Record) -> str:
        """The SHA-256 by which a run can go on from this model."""
        ...

    def close(self) -> None:
        """Lets connections and threads go; runs of a coordinator go on, simulated ones end."""
        ...
