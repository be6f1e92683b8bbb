"""The local step of averaging: what a site adds to its objective, and what it says and keeps besides what it learned.

A local step is a value of pure functions. What a site keeps from round to round stands in its memory under the round it
was kept in, and an ask names the round in which the coordinator last counted this site. So a site goes on from what was
counted: an answer that was lost, or left out, is not in its memory either. A site without that memory (a restarted
worker) is *lost*: it trains plainly and says so, and the coordinator begins the strategy's own state anew. Where what a
site keeps is a model of its own (``personal``), it begins that anew by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from hanse.errors import ConfigError
from hanse.kinds import Site
from hanse.messages import Json
from hanse.training import Arrays, Learned, ProximalTerm

Named = Mapping[str, Arrays]  # what a strategy keeps, by a name of its own
Trains = Callable[["Visit", Arrays, ProximalTerm | None, Collection[str], str, int | None], Learned]
_MEMORY = "local step"


@dataclass(frozen=True, slots=True)
class Visit:
    """What a local step knows, at a site in a round.

    Args:
        common: the parameters θ of the federation.
        learned: those of them that are learned by gradients, not kept like running means or counters.
        server: what the server's step sends along (:attr:`hanse.learning.server.ServerStep.sends`).
        memory: what this site kept when it was last counted; {} the first time.
        settings: those of the run.
        lost: whether this site has lost what it kept.
        trains: see :meth:`train`.
    """

    common: Arrays
    learned: Arrays
    server: Named
    memory: Named
    settings: Mapping[str, Json]
    lost: bool = False
    trains: Trains | None = None

    def train(
        self,
        start: Arrays,
        term: ProximalTerm | None = None,
        frozen: Collection[str] = (),
        name: str = "",
        epochs: int | None = None,
    ) -> Learned:
        """A training of this site, on its training rows and by the settings of the run, from ``start``.

        Args:
            term: what is added to its objective.
            frozen: the parameters that stay as they are.
            name: of its random numbers; another word for each training of a round.
            epochs: passes over the rows; None: ``local_epochs`` of the run.
        """
        if self.trains is None:
            raise ConfigError("this visit only measures; train where the site is asked to train")
        return self.trains(self, start, term, frozen, name, epochs)


@dataclass(frozen=True, slots=True)
class Said:
    """What a site sends after its training, and what it keeps.

    Args:
        change: of θ, for the parameters that it names, in place of how far training moved them from θ.
        added: arrays under the names of :attr:`LocalStep.adds`.
        numbers: under the names of :attr:`LocalStep.numbers`.
        kept: what this site finds as :attr:`Visit.memory` the next time.
    """

    change: Arrays = field(default_factory=dict)
    added: Named = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    kept: Named = field(default_factory=dict)


def _common(visit: Visit) -> Arrays:
    return visit.common


def _nothing(visit: Visit) -> ProximalTerm | None:
    return None


def _silent(visit: Visit, learned: Learned) -> Said:
    return Said()


def _rows(node: str, rows: int, settings: Mapping[str, Json]) -> float:
    return float(rows)


def _alike(node: str, round: int, rows: int, settings: Mapping[str, Json]) -> Mapping[str, Json]:
    return {}


@dataclass(frozen=True, slots=True)
class LocalStep:
    """One site's part of a strategy.

    Args:
        term: what is added to the site's objective; None: nothing.
        adds: the names under which the site sends arrays besides the change of its parameters, each shaped as those
            that are learned.
        numbers: the names under which it sends single numbers.
        bounded: whether the change and these numbers are one vector, which noise clips and hides as it does a change.
        told: what it sends under those names, and what it keeps.
        keeps: whether it keeps anything from round to round.
        personal: whether what it keeps is a model of its own, or a part of one, which no sum at the coordinator goes
            with: a site that lost it begins its own anew, and the others go on.
        measured: the parameters that are measured at this site; θ, where nothing else is said.
        trained: the whole training, by :meth:`Visit.train`, in place of one from θ with ``term``; None: that one.
        configured: settings that differ at a site in a round, from its node, the round, its training rows and the run's
            settings: more passes for few rows, say. It is computed at the site, by the file that owners have read, so
            that no coordinator can ask a node for what its owner did not accept.
        weight: what a site counts for, from its node, its training rows (more than 0) and the run's settings.
        gradient: whether ``told`` needs :attr:`hanse.training.Learned.gradient`.
    """

    term: Callable[[Visit], ProximalTerm | None] = _nothing
    adds: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    bounded: bool = False
    told: Callable[[Visit, Learned], Said] = _silent
    keeps: bool = False
    personal: bool = False
    measured: Callable[[Visit], Arrays] = _common
    trained: Callable[[Visit], Learned] | None = None
    configured: Callable[[str, int, int, Mapping[str, Json]], Mapping[str, Json]] = _alike
    weight: Callable[[str, int, Mapping[str, Json]], float] = _rows
    gradient: bool = False


training = LocalStep()
"""Training on the site's objective alone."""


def recalled(site: Site, counted: Mapping[str, int]) -> Named | None:
    """What this site kept in the round that ``counted`` names for it; {} if it names none; None if that is lost."""
    last = counted.get(site.node, 0)
    kept: Mapping[int, Named] = site.memory.get(_MEMORY, {})
    return kept.get(last) if last else {}


def kept(site: Site, counted: Mapping[str, int], before: Named, round: int, now: Named) -> None:
    """Keeps ``now`` for ``round``, and what it was made from, which counts until this round is counted."""
    last = counted.get(site.node, 0)
    site.memory[_MEMORY] = {**({last: before} if last else {}), round: now}
