"""When averaging ends before its last round, and which of its models is taken.

With *l_r* the loss of θ after r rounds on the held-out rows of all sites, b the round in which it last fell::

    b ← r    where l_r < l_b - tolerance            it ends where r - b = patience, and θ_b is the result

Losses of other sites are not compared: where a site was lost, or came back, this begins anew; and where a round asks a
sample, the measurements on everybody count alone (:mod:`hanse.learning.schedule`). θ_b stands in the state, and is
measured once more as the last step, so that what is told last is told of the model that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hanse.config import RunConfig
from hanse.learning.schedule import Schedule
from hanse.messages import Array, Json
from hanse.settings import Setting, maybe, number, whole

EARLY = {
    "early_stopping_rounds": Setting(
        None,
        "end where the loss on the rows held out has not fallen for so many rounds, and take the model of the round in "
        "which it last did; null: after num_rounds",
        maybe(whole(1, 100_000)),
    ),
    "early_stopping_tolerance": Setting(0.0, "a loss has fallen where it is less by more than this", number(0, 1e9)),
}


@dataclass(frozen=True, slots=True)
class Stopping:
    """Where a training stands that may end early.

    Args:
        patience, tolerance: in rounds, and of the loss.
        best: the round in which the loss last fell; None: it was not measured yet.
        loss, sites: what was measured then, and on which sites (:func:`hanse.learning.evaluation.rests_on`).
        model: θ of that round.
        trained: so many rounds were trained when it ended; None: it goes on.
    """

    patience: int
    tolerance: float = 0.0
    best: int | None = None
    loss: float = 0.0
    sites: Mapping[str, Json] = field(default_factory=dict)
    model: Mapping[str, Array] = field(default_factory=dict)
    trained: int | None = None

    @staticmethod
    def of(settings: Mapping[str, Json]) -> Stopping | None:
        """Of the settings of a strategy; None where they ask for none."""
        patience = settings.get("early_stopping_rounds")
        return Stopping(patience, float(settings["early_stopping_tolerance"])) if patience is not None else None

    def measured(self, schedule: Schedule, entry: Mapping[str, Json], model: Mapping[str, Array]) -> Stopping:
        """After ``entry`` was measured of ``model`` in the phase that ``schedule`` is in."""
        if entry.get("loss") is None or (schedule.every and schedule.phase != "evaluate"):
            return self
        sites, loss = entry.get("sites") or {}, float(entry["loss"])
        if self.best is None or sites != self.sites or loss < self.loss - self.tolerance:
            return replace(self, best=entry["round"], loss=loss, sites=sites, model=model)
        return self

    def ends(self, schedule: Schedule) -> bool:
        """Whether it is over after the model of this round was measured, and an earlier one is to be taken."""
        if self.best is None or self.best == schedule.round or self.trained is not None:
            return False
        last = schedule.phase == "evaluate" and schedule.round >= schedule.rounds
        return last or schedule.round - self.best >= self.patience

    def ended(self, schedule: Schedule) -> tuple[Schedule, Stopping]:
        """To be measured alone, and done with that: the model that is taken."""
        best = self.best or 0
        return replace(schedule, phase="evaluate", round=best, rounds=best), replace(self, trained=schedule.round)

    def words(self) -> str:
        """Why it ended."""
        return f"{self.trained} rounds; the loss was least after {self.best}"


def cannot_end(config: RunConfig, personal: bool, late: bool) -> str:
    """Why a run cannot end early; "" where it can, or is not asked to.

    Args:
        personal: sites measure models of their own. late: answers come late, so that steps are measured on other sites.
    """
    if config.ingredient_settings.get("early_stopping_rounds") is None:
        return ""
    said = "early_stopping_rounds "
    if config.test_fraction == 0:
        return said + "needs rows that are held out; set test_fraction above 0"
    if personal:
        return said + "takes an earlier common model, and with this strategy a part of each model stays at its site"
    if late:
        return said + "compares losses of the same sites, and with this strategy each step has other ones"
    if config.fraction < 1 and config.evaluate_every == 0:
        return said + "needs a model that everybody measures on the way; set evaluate_every above 0"
    return ""
