"""How contributions come together, and what is done to one before it leaves a node
(:mod:`hanse.gathering`, :mod:`hanse.transforms`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from hanse.errors import NotAllowed
from hanse.kinds import Ask, Contribution, Gathered, generator
from hanse.messages import Json, Record

UNKNOWN = "unknown"  # of a promise: something may have been told in its place, and nobody knows any more what


class Reply(NamedTuple):
    """What came back from one node in one exchange: a message, or why there is none.

    Args:
        asked: the step it was asked in; ``op`` and ``exchange`` say in which of its exchanges.
        error, code: a sentence, and the code of its class (:mod:`hanse.errors`), where ``body`` is None.
        seconds: from the ask to this.
    """

    node: str
    asked: int
    body: Record | None
    error: str = ""
    seconds: float = 0.0
    code: str = ""
    op: str = "answer"
    exchange: int = 0


class Exchange(Protocol):
    """The loop's primitive, lent to a gather: send these records to these nodes, yield the
    replies as they arrive, until all are in, ``need`` are in, or the deadline. The exchanges of a step
    are counted from 0. Where an ask keeps late answers, replies to earlier exchanges may come too."""

    def __call__(
        self, asks: Mapping[str, Record], op: str = "answer", need: int | None = None
    ) -> AsyncIterator[Reply]: ...


class Identity(Protocol):
    """A node's name towards the other nodes, for keys that nobody on the way may exchange
    (:class:`hanse.identity.Signer`)."""

    @property
    def certificate(self) -> str:
        """What others need to check a signature of this node (PEM)."""
        ...

    def sign(self, text: bytes) -> bytes:
        """The signature of ``text`` by this node's key."""
        ...

    def vouched(self, node: str, certificate: str) -> str:
        """Empty where ``certificate`` is that of ``node``, by the authority of this federation and what this node's
        owner has pinned; else why not, in words."""
        ...

    def verify(self, certificate: str, text: bytes, signature: bytes) -> bool:
        """Whether the key of ``certificate``, which was vouched for, made this signature of ``text``."""
        ...


@dataclass(slots=True)
class Party:
    """What the node half of a gather, or an outgoing transform, may touch. It sees no data.

    Args:
        node: this node's id.
        step, exchange: where the run is; an exchange that is asked again has the same numbers.
        seed: of the run. It stands in the bundle, so :meth:`rng` is no secret: keys need ``secrets``.
        memory: its own, kept between the exchanges and steps of one run as ``Site.memory`` is: an exchange
            that is asked again finds it as it was before it. May be lost.
        identity: gives what signs in this node's name, loaded when it is asked for; None where nodes have none (a
            simulation).
        progress: call it now and then in long work.
        run, bundle: id of the run, and the hash that this node's owner approved.
        rows: the nodes that the bundle names, and the most rows that each declared; empty where it names none.
        promises: what a gather has told for good, of all runs: what is set is on disk before the next line runs, and
            outlives the process (in a simulation, which ends with it, it is in memory).
        leaving: what this very reply tells for good. It is set in ``promises`` before the reply leaves the node
            (:func:`keep_promises`), and not before the reply is there: who dies in between has told nothing.
        passing: the same, of a step that its run leaves behind where it cannot be made again. So it may be kept in the
            memory of the process, where it is certain that who comes after it finds :data:`UNKNOWN` in its place.
    """

    node: str
    step: int = 0
    exchange: int = 0
    seed: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    identity: Callable[[], Identity | None] = lambda: None
    progress: Callable[[], None] = lambda: None
    run: str = ""
    bundle: str = ""
    rows: Mapping[str, float] = field(default_factory=dict)
    promises: MutableMapping[str, Json] = field(default_factory=dict)
    leaving: dict[str, Json] = field(default_factory=dict)
    passing: dict[str, Json] = field(default_factory=dict)

    def rng(self, *key: str | int) -> np.random.Generator:
        """Random numbers keyed by (seed, node, key): the same on any worker, in any order."""
        return generator(self.seed, self.node, *key)


def keep_promises(keep: Callable[[str, Json], Json], leaving: Mapping[str, Json]) -> None:
    """Has it kept what a reply that is about to leave tells for good. Raises ``NotAllowed`` where another reply has
    told something else meanwhile.

    Args:
        keep: as ``setdefault`` of :attr:`Party.promises`.
        leaving: by place.
    """
    for place, value in leaving.items():
        if keep(place, value) != value:
            raise NotAllowed(
                "a sum of this step was told before; two sums of one step may differ by what single nodes contributed"
            )


class Gather(Protocol):
    """How contributions come together: plainly, or as a secure sum with exchanges of its own.

    Its file has ``GATHER``, its class; ``COMBINES``, what it can combine; ``HIDES``, whether nobody sees
    single contributions; and ``SETTINGS``, settings of the run that it is made with. One whose reply is the
    contribution and nothing else may have ``replies``: from the operation and :class:`hanse.alike.Alike`, what
    :meth:`reply` gives for each."""

    async def collect(self, ask: Ask, asks: Mapping[str, Record], exchange: Exchange) -> Gathered:
        """Coordinator half: run the exchanges, return what came."""
        ...

    def reply(self, op: str, ask: Record, answer: Callable[[Record], Contribution], party: Party) -> Record:
        """Node half: what leaves the node for operation ``op``."""
        ...


class Transform(Protocol):
    """One link of the list between a node's answer and its reply (:mod:`hanse.transforms`)."""

    def init(self) -> dict[str, Any]:
        """The state before the first contribution of a run: plain values."""
        ...

    def apply(
        self, contribution: Contribution, state: dict[str, Any], party: Party
    ) -> tuple[Contribution, dict[str, Any]]:
        """The contribution as it goes on, and the next state. Must change neither of what it gets."""
        ...

    @staticmethod
    def report(metrics: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
        """Numbers about a step for its record (coordinator), from the metrics that the nodes sent."""
        ...
