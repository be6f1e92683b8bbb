"""What a computation is made of, and nothing else.

**A federated computation asks nodes; each node answers with a contribution; telling the
contributions to the computation gives its next state.** An :class:`Algorithm` says what to ask, how to
answer and what to make of it. How contributions come together says :mod:`hanse.gather`, what carries
messages :mod:`hanse.transport`, what is learned :mod:`hanse.task` and :mod:`hanse.model`, who is asked
:mod:`hanse.choice`, and what may say no :mod:`hanse.rule` and :mod:`hanse.ledger`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from hanse.errors import NotAllowed
from hanse.messages import Array, Json, Record
from hanse.table import Table


class Combine(StrEnum):
    """How contributions come together; what privacy is possible follows from it."""

    SUM = "sum"  # arrays add: streaming, secure sums and noise are possible
    MERGE = "merge"  # a commutative monoid that is not addition (sketches, unions)
    EACH = "each"  # every single contribution is needed (Krum, median, forests)
    AGREE = "agree"  # words alone, without arrays: names and labels that all must agree on before anything is computed


class Who(Enum):
    """Whom an ask goes to, where it names no nodes."""

    EVERYONE = "everyone"  # all nodes of the run that are on line: what is agreed on or measured rests on all
    SAMPLE = "sample"  # those that the run's selection draws (``fraction``): for training alone


EVERYONE, SAMPLE = Who.EVERYONE, Who.SAMPLE

State = Record
Shapes = Mapping[str, tuple[str, tuple[int | None, ...]]]  # array name to dtype and shape; None: any length


@dataclass(frozen=True, slots=True)
class Ask:
    """What an algorithm wants to know next.

    Args:
        record: goes to every node asked.
        combine: what may be done with the answers.
        label: the phase, for people: ``prepare``, ``train``, ``evaluate``, ...
        round: the training round this belongs to, counted from 1; None if it is none.
        each: a record of its own for some nodes, by node id, instead of ``record``.
        to: all nodes, a sample of them (training), or exactly these. **No quotient of numbers from two
            gatherings**: what is divided by what another ask gave is asked of the nodes that answered that one.
        need: this many answers are enough (buffered-asynchronous); None waits for all asked.
        late: what becomes of answers that were not waited for: ``drop`` cancels them, ``keep``
            counts them in a later step, marked with the step they were asked in.
        counts: arrays (also of ``sums``) that count rows of one node, and how many of their first
            numbers do (None: all); a node that counts more than it declared is left out.
        arrays, sums: dtype and shape of each array of a contribution, and of its ``sums``, where the
            coordinator knows them; who sends others is left out. None: what most nodes send (of a MERGE,
            whose contributions may differ: what the algorithm itself takes).
        most: of some arrays of whole numbers (also of ``sums``), how large a number of one contribution can be, and of
            the sum of all, either way. They may travel in fewer bytes; a node that has a larger one says so and sends
            none. The sum of all is for the algorithm to check, where contributions might be other than it knows.
        fault: what is wrong with the arrays of one contribution, "" if nothing is: whoever sends what cannot be true of
            any rows is left out. Not asked where nobody sees single contributions.
        fewest: with fewer answers the step has failed, so a sum of fewer is not made; the loop says it.
        whole: a sum of all who are asked or none is wanted: where one of them is lost, the algorithm goes on without
            the step (:func:`hanse.stages.anew_of`). A gather may need fewer exchanges for it.
        checkpoint: False where the state after this step need not be kept, because writing it would cost more
            than doing the step again. A killed coordinator goes on after the last state that was kept; where
            the steps since then took some seconds, it is kept all the same.
    """

    record: Record
    combine: Combine
    label: str
    round: int | None = None
    each: Mapping[str, Record] = field(default_factory=dict)
    to: Who | Sequence[str] = EVERYONE
    need: int | None = None
    late: str = "drop"
    counts: Mapping[str, int | None] = field(default_factory=dict)
    arrays: Shapes | None = None
    sums: Shapes | None = None
    most: Mapping[str, int] = field(default_factory=dict)
    fault: Callable[[Mapping[str, Array]], str] | None = None
    fewest: int = 0
    whole: bool = False
    checkpoint: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to ask. ``reason`` is for people ("10 rounds", "converged")."""

    reason: str


@dataclass(frozen=True, slots=True)
class Awaited:
    """What to ask next is said from outside: the data scientist's own program leads the run.

    Args:
        ask: makes an ask of what was said, or ``Done``. Raises ``WireError`` or ``ConfigError`` where that is wrong.
    """

    ask: Callable[[Record], Ask | Done]


@dataclass(slots=True)
class Contribution:
    """What a node answers. It is not changed: what is made of it is another one. (A frozen class takes three times as
    long to make.)

    Args:
        record: ``arrays`` are combined, weighted by ``weight``; ``data`` is small JSON that goes
            with this node's answer (not summed).
        weight: what the arrays count for, usually rows; finite and >= 0.
        sums: further arrays that add with weight one (loss sums, counts, histograms).
        metrics: numbers about this node for people (``loss``, ``accuracy``, ``n``, ...).
        combine: how it may be combined. A run that gathers some kinds so that nobody sees single
            contributions, and others not, answers only where this is said: what the coordinator asks for
            must not decide what it sees.
        update: whether the arrays are a change of what all nodes hold in common, so that a smaller one
            means the same, only less of it (:mod:`hanse.transforms`).
        sensitivity: the most that one row, more or less, changes the arrays by, as the L2 norm over all of them,
            whatever the rows are; 0 where nothing of them follows from rows. None: nobody knows, so no noise is enough.
        noised: whether the arrays are made of nothing but what :attr:`Site.noise` gave, so that they have their noise.
    """

    record: Record
    weight: float = 1.0
    sums: Mapping[str, Array] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    combine: Combine | None = None
    update: bool = False
    sensitivity: float | None = None
    noised: bool = False


class Answer(NamedTuple):
    """One node's contribution as the coordinator sees it. ``asked`` is the step it was asked in;
    ``claimed`` the weight that the node gave, which ``weight`` may be lowered from (:mod:`hanse.weights`)."""

    node: str
    weight: float
    data: Mapping[str, Json]
    metrics: Mapping[str, float]
    asked: int
    claimed: float = 0.0


# numbers; names and shapes; rows that are counted, and what a contribution weighs, within what its node declared;
# whether what it says can be true of any rows (``Ask.fault``)
CHECKS = ("finite", "layout", "counts", "weights", "sound")


class Gathered(Protocol):
    """The contributions of one step, together. Answers are in the order of node ids, whoever
    came first, so every result is the same for every order of arrival."""

    @property
    def answers(self) -> Sequence[Answer]:
        """Who answered and what was said beside the arrays, in the order of node ids."""
        ...

    @property
    def failures(self) -> Mapping[str, str]:
        """Node id to the reason why it gave nothing usable."""
        ...

    @property
    def nodes(self) -> Sequence[str]:
        """All nodes of the run, also those that were not asked; empty where nobody said (:meth:`among`)."""
        ...

    @property
    def step(self) -> int:
        """The step that they are counted in; an answer that came late was asked in an earlier one."""
        ...

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that are left to be looked at: of all contributions, or of their sum if it was made as they came."""
        ...

    def among(self, nodes: Sequence[str], step: int) -> Gathered:
        """The same, as part of a run of these nodes, counted in this step."""
        ...

    def without(self, nodes: Mapping[str, str]) -> Gathered:
        """The same without these nodes, which become failures with their reasons."""
        ...

    def weighted(self, weights: Sequence[float]) -> Gathered:
        """The same with these weights, in the order of the answers."""
        ...

    def beyond(self, counts: Mapping[str, int | None], rows: Mapping[str, float]) -> dict[str, str]:
        """The nodes with a number in ``counts`` (:attr:`Ask.counts`) that is not from 0 to the node's
        ``rows``, with the reason. Empty where single contributions cannot be seen."""
        ...

    def sum(self) -> dict[str, Array]:
        """Σ_k w_k a_k per array (SUM only): float64, or int64 where all weights are one and the
        arrays are whole numbers."""
        ...

    def mean(self) -> dict[str, Array]:
        """Σ_k w_k a_k / Σ_k w_k per array (SUM only), accumulated in float64, in the dtype that
        was sent. Raises ``RunFailed`` where the weights sum to zero."""
        ...

    def sums(self) -> dict[str, Array]:
        """Σ_k of the unweighted ``sums`` of the contributions (SUM and EACH)."""
        ...

    def products(self, whole: Mapping[str, Array]) -> list[tuple[float, float]]:
        """Of each answer ⟨a, whole⟩ and |a|², over the arrays of ``whole``. Raises ``RunFailed`` where single
        contributions cannot be seen."""
        ...

    def each(self) -> Iterator[tuple[Answer, Record]]:
        """The single contributions (all but SUM), one in memory at a time. Those of EACH have the
        layout that was asked for, or that most have, and finite numbers, as those of a sum; of a MERGE,
        what is asked for. Raises ``Unusable`` for the others, before it gives the first."""
        ...

    @property
    def unchecked(self) -> Sequence[str]:
        """What nobody could check of single contributions (of :data:`CHECKS`), because nobody saw them. Where
        ``weights`` are among it, nobody knows them either: those of the answers add up to the whole."""
        ...

    @property
    def told(self) -> Mapping[str, Json]:
        """How they came together, for the step's record; empty where there is nothing to tell. ``over``: they did not,
        and no other attempt at this step is to be made; it is the last step of the run that is known to be answered
        already. ``left``: the nodes that are there for another one."""
        ...


class Source(Protocol):
    """A node's rows in batches, for what never needs all of them at once. Column names are canonical
    (outer spaces are gone).

    ``memory`` is kept for this version of the dataset over runs (what was shown of it before)."""

    @property
    def schema(self) -> Mapping[str, str]:
        """Column name to kind, as the dataset was registered."""
        ...

    @property
    def rows(self) -> int:
        """How many rows the dataset has."""
        ...

    @property
    def memory(self) -> MutableMapping[str, Json]:
        """Plain values that are kept for this version of the dataset, over runs."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[Table]:
        """The rows in order; the same columns in each, at least one batch."""
        ...


class RowNoise(Protocol):
    """Noise for the steps inside one answer, as the run's promise wants it."""

    def sample(self, rows: int) -> Array:
        """(rows,) bool: which rows the next step takes, drawn secretly."""
        ...

    def parts(self, rows: int, count: int) -> Array:
        """(rows,) in which of so many parts each row is, drawn secretly."""
        ...

    def noised(self, arrays: Mapping[str, Array], bound: float, rows: Array | None = None) -> dict[str, Array]:
        """The sums of a step, of which one row changes all together by at most ``bound``, with noise. Ends the step.
        ``rows``: the numbers of those that are in it; None: any may be."""
        ...


def no_place() -> Path:
    """Of a site without a file. Raises ``NotAllowed``."""
    raise NotAllowed("this run reads a data set as a file, and there is none here: sites of a simulation are tables")


@dataclass(slots=True)
class Site:
    """What an algorithm's node half may touch.

    Args:
        node: this node's id.
        table: the approved rows with the approved columns only.
        config: the run's configuration, bound by the approved hash.
        memory: kept between the steps of one run. May be lost (a restarted worker): look with
            ``get`` and rebuild. A step that is asked again finds it as it was before that step.
        cache: derived from table and config alone (a design matrix, a loaded model); never from
            earlier steps. May be lost.
        progress: call it now and then in long work; a silent node counts as late.
        source: the rows in batches, instead of ``table``, for an algorithm that learns no model.
        owner: the settings of this node's owner, by their names in ``[policy]`` of ``node.toml``; a setting
            that the owner has not set, as in a simulation, may be absent.
        nodes: all nodes of the run, by the approved bundle.
        declared: the most rows that this node has, as the proposal tells all who are asked.
        beside: columns of the same rows that nothing is learned from: by whose groups the model is measured.
        keep: keeps a model of this site's own, as the result of a run, where its owner finds it. Nothing of it leaves.
        shares: (n,) what each row of ``table``, or of ``source`` in order, counts for where noise is to hide persons
            (:mod:`hanse.subjects`); None: each row is somebody else's.
        noise: for steps that are noised inside an answer; None: the run promises none of the kind.
        place: where the file or folder of the approved data set is, for code that reads it by itself. Raises
            ``NotAllowed`` where there is none, or where it is not for this process to say.
    """

    node: str
    table: Table
    config: Mapping[str, Json]
    memory: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[], None] = lambda: None
    step: int = 0
    source: Source | None = None
    owner: Mapping[str, Json] = field(default_factory=dict)
    nodes: Sequence[str] = ()
    declared: float = 0.0
    shares: Array | None = None
    beside: Table = field(default_factory=Table)
    keep: Callable[[Record], None] = lambda record: None
    noise: RowNoise | None = None
    place: Callable[[], Path] = no_place

    def rng(self, *key: str | int) -> np.random.Generator:
        """Random numbers keyed by (seed, node, key): the same on any worker, in any order."""
        return generator(int(self.config.get("seed", 0)), self.node, *key)


_SHA256 = hashlib.sha256()  # to be copied: to find it among those of OpenSSL takes longer than to hash a key


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A Philox generator keyed by ``seed`` and ``key``; independent of call order and platform."""
    return _keyed()(np.frombuffer(_hashed(seed, *key).digest()[:16], "<u8"))


def generators(seed: int, *key: str | int) -> Callable[[str], np.random.Generator]:
    """Gives the :func:`generator` of ``key`` and one more part, again and again: it is the same object each time."""
    from hanse.philox import Keyed  # late, as below

    return Keyed(_hashed(seed, *key, "")).at


def _hashed(seed: int, *key: str | int) -> Any:
    hashed = _SHA256.copy()
    hashed.update("\x1f".join([str(seed), *map(str, key)]).encode())
    return hashed


@functools.cache
def _keyed() -> Callable[[Array], np.random.Generator]:
    from hanse.philox import keyed  # NumPy's random numbers take 3 MB, and most processes draw none

    return keyed


class Algorithm(Protocol):
    """A federated computation. Both halves stand in one file; ``answer`` is all that touches data.

    An implementation is a class without state of its own: everything is in the ``State``, a plain
    value that is checkpointed after each step, so that a run goes on after a crash and ends with
    the same bytes.
    """

    @property
    def combines(self) -> Collection[Combine]:
        """All kinds of combining that its asks may use."""
        ...

    def init(self, config: Mapping[str, Json], previous: Record | None = None) -> State:
        """The first state (coordinator). ``previous`` is the result of the stage before this one,
        where an algorithm follows another (:mod:`hanse.stages`)."""
        ...

    def ask(self, state: State) -> Ask | Done | Awaited:
        """What to ask in this state (coordinator)."""
        ...

    def answer(self, site: Site, ask: Record) -> Contribution:
        """The node's half: the only code that touches data."""
        ...

    def tell(self, state: State, gathered: Gathered) -> State:
        """The next state (coordinator). Must not change ``state``."""
        ...

    def result(self, state: State) -> Record:
        """What the data scientist gets: for a model, its parameters and all that is needed to
        rebuild it, as one record."""
        ...

    def metrics(self, state: State) -> Mapping[str, Json]:
        """Numbers about the last step for the round's record (global loss, accuracy, ...)."""
        ...
