"""When a run that learns trains, and when its model is measured on everybody.

A training round asks those that the selection draws; each of them first measures the model that it gets. Where a
round asks everyone (``fraction`` 1), that is a measurement on everybody and costs no exchange of its own. Where
it asks a sample, the model goes to everybody every ``evaluate_every`` rounds besides; after the last round it always
does. A round whose model was measured on everybody is not measured on the next sample again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hanse.config import RunConfig
from hanse.kinds import EVERYONE, SAMPLE, Who
from hanse.learning import evaluation
from hanse.messages import Json

Phase = Literal["initialise", "train", "evaluate", "done"]


def most_steps(config: RunConfig) -> int:
    """One to begin with, where the nodes tell how the model looks; one for each round; and those that measure, the last
    of which is of an earlier model where the run may end with one."""
    every = config.evaluate_every if config.fraction < 1 else 0
    between = config.num_rounds // every if every else 0
    early = config.ingredient_settings.get("early_stopping_rounds") is not None
    return 1 + config.num_rounds + between + 1 + early


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where a training stage stands.

    Args:
        rounds: to be trained.
        held_out: whether there are rows to measure on.
        every: the model is measured on everybody after so many rounds; 0: with every round.
        phase: of the next step. ``initialise``: the nodes make the first parameters.
        round: so many are done.
        history: an entry of metrics for each model that was measured.
        measured: whether the last step measured one.
    """

    rounds: int
    held_out: bool
    every: int
    phase: Phase = "train"
    round: int = 0
    history: tuple[Mapping[str, Json], ...] = ()
    measured: bool = False

    @staticmethod
    def of(config: Mapping[str, Json]) -> Schedule:
        """Before the first round."""
        every = config["evaluate_every"] if config["fraction"] < 1 else 0
        return Schedule(config["num_rounds"], config["test_fraction"] > 0, every)

    @property
    def whom(self) -> Who:
        """A sample for what is learned, everyone for what is measured."""
        return EVERYONE if self.phase == "evaluate" else SAMPLE

    @property
    def measures(self) -> bool:
        """Whether the next step measures the model, or this was done already."""
        return not (self.history and self.history[-1]["round"] == self.round)

    def initialised(self) -> Schedule:
        """After the nodes have made the first parameters."""
        return replace(self, phase="train")

    def trained(self, entry: Mapping[str, Json] | None) -> Schedule:
        """After a training round; ``entry`` is what was measured of the model before it."""
        done = self.round + 1
        phase: Phase = "train"
        if done >= self.rounds:
            phase = "evaluate" if self.held_out else "done"
        elif self.held_out and self.every and done % self.every == 0:
            phase = "evaluate"
        return replace(self.noted(entry), phase=phase, round=done)

    def evaluated(self, entry: Mapping[str, Json] | None) -> Schedule:
        """After a step that measured the model and trained nothing."""
        return replace(self.noted(entry), phase="done" if self.round >= self.rounds else "train")

    def shown(self) -> dict[str, Json]:
        """The latest entry of the history as metrics of the step that measured it; {} of one that measured nothing."""
        return evaluation.shown(self.history, self.phase == "done") if self.measured else {}

    def best(self) -> int | None:
        """The round of the least loss, of those that were measured on the same sites as the latest one.

        >>> every, other = {"answered": 3, "of": 4, "which": "a"}, {"answered": 3, "of": 4, "which": "b"}
        >>> Schedule(9, True, 0, history=({"round": 1, "loss": 0.1, "sites": other},
        ...     {"round": 2, "loss": 0.5, "sites": every}, {"round": 3, "loss": 0.7, "sites": every})).best()
        2
        """
        rated = [entry for entry in self.history if entry.get("loss") is not None]
        if not rated:
            return None
        alike = [entry for entry in rated if entry.get("sites") == rated[-1].get("sites")]
        return int(min(alike, key=lambda entry: entry["loss"])["round"])

    def noted(self, entry: Mapping[str, Json] | None) -> Schedule:
        """After a step that is only a part of a round."""
        if entry is None:  # of what did not change, nothing is written anew with a state
            return replace(self, measured=False) if self.measured else self
        return replace(self, history=evaluation.appended(self.history, entry), measured=True)
