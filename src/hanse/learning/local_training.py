"""One site's training in one round of averaging: what it is given, what it comes to, and what the site says of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hanse.errors import NodeFailed
from hanse.kinds import Site, generators
from hanse.learning.local import LocalStep, Named, Said, Visit, kept, training
from hanse.messages import Array, Json, Record, each_prefixed, prefixed
from hanse.model import Model
from hanse.training import Arrays, Learned, ProximalTerm, Training

CHANGE, NUMBERS = "change", "numbers"  # under which a site sends the change of θ, and single numbers
TOGETHER, APART = "trained_together", "apart_from_alone"  # metrics of a training that was computed with others
ELSEWHERE = "device_missing"  # metric of one on the processor, where the plan asks for a device that is not there
LEARNING_RATE = 0.01  # where the run has none
_NOTHING = Said()
# losses of further epochs are not reported, but for the last
_LOSSES = tuple(f"train_loss_{epoch}" for epoch in range(1, 21))


class LocalTraining(NamedTuple):
    """A site, in a round, with the rows that it trains on.

    Args:
        local: the strategy's local step.
        visit: what that knows.
        counted: :attr:`hanse.learning.averaging.State.counted`.
        X, y: the training rows, at least one.
    """

    site: Site
    model: Model
    local: LocalStep
    visit: Visit
    round: int
    counted: Mapping[str, int]
    X: Array
    y: Array

    @property
    def plainly(self) -> bool:
        """Whether it trains without the strategy's term, and says nothing for it: it lost what it kept."""
        return self.visit.lost and not self.local.personal

    def given(
        self,
        start: Arrays,
        term: ProximalTerm | None,
        frozen: Collection[str] = (),
        name: str = "",
        epochs: int | None = None,
    ) -> tuple[Arrays, Array, Array, np.random.Generator, Training]:
        """What the model's ``train`` is called with."""
        rng = self.site.rng("train", self.round, *([name] if name else []))
        return start, self.X, self.y, rng, self._how(term, frozen, epochs)

    def _how(self, term: ProximalTerm | None, frozen: Collection[str] = (), epochs: int | None = None) -> Training:
        settings = self.visit.settings
        rate = float(settings["learning_rate"] or LEARNING_RATE)
        return Training(
            epochs or settings["local_epochs"],
            settings["batch_size"],
            rate * float(settings.get("learning_rate_decay", 1.0)) ** (self.round - 1),
            term,
            self.local.gradient and not self.plainly,
            self.site.progress,
            frozenset(frozen),
        )

    @staticmethod
    def given_together(
        trainings: Sequence[LocalTraining],
    ) -> list[tuple[Arrays, Array, Array, np.random.Generator, Training]]:
        """What the model's ``train_many`` is called with; what follows from a visit alone is made once for all sites
        that share it."""
        known: tuple[Visit, Training] | None = None
        found, key = [], f"generators {threading.get_ident()}"
        for one in trainings:
            site, visit = one.site, one.visit
            if known is None or known[0] is not visit:
                known = visit, one._how(one.term)
            how = known[1]
            if how.progress is not site.progress:
                how = how._replace(progress=site.progress)
            # the generator of ``given``, which is the same object in the next round; each thread has its own, as what
            # nobody waits for any more may still be at work in another
            again: Callable[[str], np.random.Generator] | None = site.cache.get(key)
            if again is None:
                again = site.cache[key] = generators(int(site.config.get("seed", 0)), site.node, "train")
            found.append((visit.common, one.X, one.y, again(str(one.round)), how))
        return found

    @property
    def term(self) -> ProximalTerm | None:
        """What is added to the site's objective."""
        return None if self.plainly else self.local.term(self.visit)

    def run(self) -> Learned:
        """The training."""
        if self.local.trained is not None:
            return self.local.trained(self._training)
        return self.model.train(*self.given(self.visit.common, self.term))

    @property
    def _training(self) -> Visit:
        def trains(
            visit: Visit,
            start: Arrays,
            term: ProximalTerm | None,
            frozen: Collection[str],
            name: str,
            epochs: int | None,
        ) -> Learned:
            return self.model.train(*self.given(start, term, frozen, name, epochs))

        known = self.visit
        return Visit(known.common, known.learned, known.server, known.memory, known.settings, known.lost, trains)

    def said(self, found: Learned) -> tuple[Record, dict[str, float]]:
        """What training changed and the strategy adds, and numbers about it. Keeps what the strategy keeps.

        Raises:
            NodeFailed: the parameters left the range of numbers.
        """
        local, plainly = self.local, self.visit.lost and self.plainly
        said = _NOTHING if plainly or local.told is training.told else local.told(self._training, found)
        moved = found.moved
        if moved is None:
            moved = {n: np.subtract(found.parameters[n], a, dtype=a.dtype) for n, a in self.visit.common.items()}
        change = {**moved, **said.change} if said.change else moved
        length = None if local.personal else found.length
        if length is None:
            length = norm(change if local.personal else moved)  # what is a site's own is in none
        further = []
        if said is not _NOTHING:
            further = [a for arrays in (said.change, *said.kept.values()) for a in arrays.values()]
        if not math.isfinite(length):  # else all that it is of is finite
            further += change.values()
        if further and not all(np.isfinite(a).all() for a in further):
            raise NodeFailed("local training left the range of numbers; use a smaller learning_rate")
        metrics = _metrics(found, length)
        if local.keeps and not plainly:
            kept(self.site, self.counted, self.visit.memory, self.round, said.kept)
        lost = said_lost(self.visit)
        if plainly:
            return Record(lost, together(change, *nothing(local, self.visit.learned))), metrics
        if said is _NOTHING:
            return Record(lost, prefixed(change, f"{CHANGE}.")), metrics
        return Record(lost, together(change, said.added, said.numbers)), metrics


def said_alike(
    local: LocalStep, visit: Visit, found: Sequence[Learned]
) -> tuple[list[Arrays], list[dict[str, float]]] | None:
    """The arrays and the numbers that :meth:`LocalTraining.said` gives for each of several sites that share a visit;
    None where a strategy says or keeps more, or a training is to be looked at by itself."""
    if local.told is not training.told or local.keeps or local.personal or visit.lost:
        return None
    lengths = [one.length for one in found if one.length is not None]
    moved = [one.moved for one in found if one.moved is not None]
    if len(lengths) < len(found) or len(moved) < len(found) or not math.isfinite(sum(lengths)):
        return None
    return each_prefixed(moved, f"{CHANGE}."), list(map(_metrics, found, lengths))


def _metrics(found: Learned, length: float) -> dict[str, float]:
    """Numbers about a training that moved the parameters so far."""
    metrics, losses = {"update_norm": length}, found.losses
    if len(losses) == 1:
        metrics[_LOSSES[0]] = losses[0]
    else:
        metrics |= zip(_LOSSES, losses)  # noqa: B905 (of the first epochs)
    if losses:
        metrics["train_loss"] = losses[-1]
    if found.together > 1:
        metrics[TOGETHER] = float(found.together)
    if found.elsewhere:
        metrics[ELSEWHERE] = 1.0
    return metrics


def apart(found: Learned, alone: Learned, start: Arrays) -> float:
    """How far a training that was computed with others came from the one that a site does alone: the length of the
    difference, over that of the change."""
    off = {name: found.parameters[name] - a for name, a in alone.parameters.items()}
    length = norm({name: a - start[name] for name, a in alone.parameters.items()})
    return norm(off) / length if length else 0.0


def untrained(local: LocalStep, visit: Visit) -> tuple[Record, dict[str, float]]:
    """What a site without training rows says."""
    change = {n: np.zeros_like(a) for n, a in visit.common.items()}
    return Record({}, together(change, *nothing(local, visit.learned))), {"update_norm": 0.0}


def said_lost(visit: Visit) -> dict[str, Json]:
    """What a site says of what it should have kept: nothing, or that it is lost."""
    return {"lost": True} if visit.lost else {}


def nothing(local: LocalStep, learned: Arrays) -> tuple[Named, Mapping[str, float]]:
    """Zeros in place of what a strategy adds."""
    return {name: {n: np.zeros_like(a) for n, a in learned.items()} for name in local.adds}, dict.fromkeys(
        local.numbers, 0.0
    )


def together(change: Arrays, added: Named, numbers: Mapping[str, float]) -> dict[str, Array]:
    """The arrays of a contribution."""
    parts = {CHANGE: change, **added, NUMBERS: {name: np.array([v], np.float64) for name, v in numbers.items()}}
    return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


def norm(arrays: Arrays) -> float:
    """Euclidean norm over all arrays; infinite where the squares are too large."""
    with np.errstate(over="ignore"):
        return math.sqrt(sum([float(np.add.reduce(np.square(a, dtype=np.float64), None)) for a in arrays.values()]))
