"""The local step of averaging: what a site adds to its objective, and what it says and keeps besides what it learned.

A local step is a value of pure functions. What a site keeps from round to round stands in its memory under the round it
was kept in, and an ask names the round in which the coordinator last counted this site. So a site goes on from what was
counted: an answer that was lost, or left out, is not in its memory either. A site without that memory (a restarted
worker) is *lost*: it trains plainly and says so, and the coordinator begins the strategy's own state anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hanse.kinds import Site
from hanse.messages import Json
from hanse.training import Arrays, Learned, ProximalTerm

Named = Mapping[str, Arrays]  # what a strategy keeps, by a name of its own
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
    """

    common: Arrays
    learned: Arrays
    server: Named
    memory: Named
    settings: Mapping[str, Json]


def _nothing(visit: Visit) -> ProximalTerm | None:
    return None


def _silent(visit: Visit, learned: Learned) -> tuple[Named, Named]:
    return {}, {}


@dataclass(frozen=True, slots=True)
class LocalStep:
    """One site's part of a strategy.

    Args:
        term: what is added to the site's objective; None: nothing.
        adds: the names under which the site sends arrays besides the change of its parameters, each shaped as those
            that are learned.
        told: what it sends under those names, and what it keeps.
        keeps: whether it keeps anything from round to round.
        gradient: whether ``told`` needs :attr:`hanse.training.Learned.gradient`.
    """

    term: Callable[[Visit], ProximalTerm | None] = _nothing
    adds: tuple[str, ...] = ()
    told: Callable[[Visit, Learned], tuple[Named, Named]] = _silent
    keeps: bool = False
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
