"""The nouns of Hanse, and nothing else.

**A federated computation asks nodes; each node answers with a contribution; telling the
contributions to the computation gives its next state.** An :class:`Algorithm` says what to ask,
how to answer and what to make of it. A :class:`Gather` says how contributions come together. A
:class:`Transport` carries messages. A :class:`Model` is what is learned. A :class:`Rule` may say
no. Each is one file in the folder of its kind; the folder is the registry (:mod:`hanse.registry`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Protocol

import numpy as np

from hanse.facts import Facts
from hanse.messages import Array, Json, Message, Record
from hanse.registry import find
from hanse.table import Column, Table
from hanse.training import Learned, Training

# ---------------------------------------------------------------- algorithms


class Combine(StrEnum):
    """How contributions come together; what privacy is possible follows from it."""

    SUM = "sum"  # arrays add: streaming, secure sums and noise are possible
    MERGE = "merge"  # a commutative monoid that is not addition (sketches, unions)
    EACH = "each"  # every single contribution is needed (Krum, median, forests)


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
    checkpoint: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to ask. ``reason`` is for people ("10 rounds", "converged")."""

    reason: str


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a node answers.

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
    """

    record: Record
    weight: float = 1.0
    sums: Mapping[str, Array] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    combine: Combine | None = None
    update: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One node's contribution as the coordinator sees it. ``asked`` is the step it was asked in;
    ``claimed`` the weight that the node gave, which ``weight`` may be lowered from (:mod:`hanse.weights`)."""

    node: str
    weight: float
    data: Mapping[str, Json]
    metrics: Mapping[str, float]
    asked: int
    claimed: float = 0.0


CHECKS = ("finite", "layout", "counts")  # numbers, names and shapes, and rows within what a node declared


class Gathered(Protocol):
    """The contributions of one step, together. Answers are in the order of node ids, whoever
    came first, so every result is the same for every order of arrival."""

    @property
    def answers(self) -> Sequence[Answer]: ...

    @property
    def failures(self) -> Mapping[str, str]:
        """Node id to the reason why it gave nothing usable."""
        ...

    @property
    def nodes(self) -> Sequence[str]:
        """All nodes of the run, also those that were not asked; empty where nobody said (:meth:`among`)."""
        ...

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all contributions."""
        ...

    def among(self, nodes: Sequence[str]) -> Gathered:
        """The same, as part of a run of these nodes."""
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

    def each(self) -> Iterator[tuple[Answer, Record]]:
        """The single contributions (MERGE and EACH only), one in memory at a time. Those of EACH have the
        layout that was asked for, or that most have, and finite numbers, as those of a sum; of a MERGE,
        what is asked for. Raises ``Unusable`` for the others, before it gives the first."""
        ...

    @property
    def unchecked(self) -> Sequence[str]:
        """What nobody could check of single contributions (of :data:`CHECKS`), because nobody saw them."""
        ...


class Source(Protocol):
    """A node's rows in batches, for what never needs all of them at once. Column names are canonical
    (outer spaces are gone).

    ``memory`` is kept for this version of the dataset over runs (what was shown of it before)."""

    @property
    def schema(self) -> Mapping[str, str]: ...

    @property
    def rows(self) -> int: ...

    @property
    def memory(self) -> MutableMapping[str, Json]: ...

    def batches(self, columns: Sequence[str]) -> Iterator[Table]:
        """The rows in order; the same columns in each, at least one batch."""
        ...


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

    def rng(self, *key: str | int) -> np.random.Generator:
        """Random numbers keyed by (seed, node, key): the same on any worker, in any order."""
        return generator(int(self.config.get("seed", 0)), self.node, *key)


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """A Philox generator keyed by ``seed`` and ``key``; independent of call order and platform."""
    import hashlib

    text = "\x1f".join([str(seed), *(str(k) for k in key)])
    words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u8")
    return np.random.Generator(np.random.Philox(key=words))


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

    def ask(self, state: State) -> Ask | Done:
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


# ---------------------------------------------------------------- selection


@dataclass(frozen=True, slots=True)
class Past:
    """What an earlier step of the run was like, as its durable record says.

    Args:
        step, round, label: which step it was; ``round`` is None where it trained nothing.
        asked: the nodes that were asked.
        answered: node to its metrics, and ``seconds`` and ``weight`` of its answer.
        failures: node to why it gave nothing usable.
    """

    step: int
    round: int | None
    label: str
    asked: Sequence[str]
    answered: Mapping[str, Mapping[str, Json]]
    failures: Mapping[str, str]

    @staticmethod
    def of(record: Mapping[str, Json]) -> Past:
        """From the record of a step (:class:`hanse.rounds.Step` as JSON)."""
        parts: Mapping[str, Mapping[str, Json]] = record.get("participants") or {}
        answered = {
            node: {**(part.get("metrics") or {}), "seconds": part.get("seconds"), "weight": part.get("weight")}
            for node, part in parts.items()
        }
        asked, failures = tuple(record.get("asked") or ()), dict(record.get("failures") or {})
        return Past(record["step"], record.get("round"), record.get("label", ""), asked, answered, failures)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a selection chooses by.

    Args:
        eligible: nodes that can be asked, sorted.
        count: so many are to be asked; fewer than there are.
        rng: keyed by the run's seed and the step.
        facts: what is known about each node.
        past: the steps that were done before, in order. A run that is resumed sees the same.
    """

    eligible: Sequence[str]
    count: int
    rng: np.random.Generator
    facts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    past: Sequence[Past] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is asked. ``reason`` is for people; ``reasons`` of single nodes, where they differ."""

    nodes: Sequence[str]
    reason: str
    reasons: Mapping[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------- gathering


@dataclass(frozen=True, slots=True)
class Reply:
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
    """A node's name towards the other nodes, for keys that nobody on the way may exchange."""

    def sign(self, text: bytes) -> bytes: ...

    def verify(self, node: str, text: bytes, signature: bytes) -> bool: ...


@dataclass(slots=True)
class Party:
    """What the node half of a gather, or an outgoing transform, may touch. It sees no data.

    Args:
        node: this node's id.
        step, exchange: where the run is; an exchange that is asked again has the same numbers.
        seed: of the run. It stands in the bundle, so :meth:`rng` is no secret: keys need ``secrets``.
        memory: its own, kept between the exchanges and steps of one run as ``Site.memory`` is: an exchange
            that is asked again finds it as it was before it. May be lost.
        identity: signs in this node's name; None where nodes have none (a simulation).
        progress: call it now and then in long work.
    """

    node: str
    step: int = 0
    exchange: int = 0
    seed: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    identity: Identity | None = None
    progress: Callable[[], None] = lambda: None

    def rng(self, *key: str | int) -> np.random.Generator:
        """Random numbers keyed by (seed, node, key): the same on any worker, in any order."""
        return generator(self.seed, self.node, *key)


class Gather(Protocol):
    """How contributions come together: plainly, or as a secure sum with exchanges of its own.

    Its file has ``GATHER``, its class; ``COMBINES``, what it can combine; ``HIDES``, whether nobody sees
    single contributions; and ``SETTINGS``, settings of the run that it is made with."""

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


# ---------------------------------------------------------------- transports

Progress = Callable[[], None]
Handler = Callable[[str, Message, Progress], Awaitable[Message]]  # (authenticated peer, request, alive) -> reply


class Transport(Protocol):
    """The coordinator's end: who is on line, and one exchange with one of them."""

    def online(self) -> frozenset[str]:
        """Ids of the nodes that can be asked now."""
        ...

    async def request(self, node: str, message: Message, progress: Progress = lambda: None) -> Message:
        """Send ``message``, return the reply to it.

        A broken connection is waited out: the message is delivered again when the node is back,
        and the node answers each id once. ``progress`` is called whenever something moves.
        Cancelling the call cancels the exchange; what comes later is refused and recorded.
        Raises the node's error (:func:`hanse.errors.from_code`), or ``NodeLost``.
        """
        ...

    async def changed(self) -> None:
        """Returns when ``online()`` next changes."""
        ...


# ---------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learned: settled by the federation before training.

    Args:
        kind: a name of :mod:`hanse.tasks`.
        features: column names of the design matrix, in order.
        classes: class labels in order (empty where the target is no class); the same at every site, also at
            one that has never seen some of them.
    """

    kind: str
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()

    @property
    def of(self) -> Learnable:
        """What the task's file says of it."""
        found: Learnable = find("tasks", self.kind).TASK
        return found

    @property
    def predicts(self) -> str:
        """What a model has to predict (:mod:`hanse.tasks`)."""
        return self.of.predicts

    @property
    def outputs(self) -> int:
        """Columns of a prediction: one, or one for each class."""
        return self.of.outputs(self)

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of a prediction for so many rows: (rows,), or (rows, outputs)."""
        return self.of.shape(self, rows)


@dataclass(frozen=True, slots=True)
class Settled:
    """What the sites' reports come to: a name of :mod:`hanse.tasks`, and the classes where there are any."""

    kind: str
    classes: tuple[str, ...] = ()


class Settling(Protocol):
    """How sites agree on what is learned, from a target that a run names."""

    def columns(self, target: str) -> tuple[str, ...]:
        """The columns that the target stands in."""
        ...

    def tell(self, columns: Sequence[Column], atleast: int) -> dict[str, Json]:
        """What a node tells of its target (no label of fewer than ``atleast`` rows). ``rows``, true or false,
        says whether it has any."""
        ...

    def check(self, said: Mapping[str, Json]) -> None:
        """Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what no honest node tells."""
        ...

    def settle(self, target: str, said: Sequence[Mapping[str, Any]]) -> Settled:
        """What is learned, from what all nodes told. Raises ``ConfigError`` where nothing can be."""
        ...


class Learnable(Settling, Protocol):
    """A kind of task: a target, how it is predicted, and how predictions are measured.

    Sums add over sites, so a site sends sums and every metric follows from them.
    """

    @property
    def predicts(self) -> str:
        """What a model has to predict (:mod:`hanse.tasks`)."""
        ...

    @property
    def moments(self) -> int:
        """So many leading columns of the targets are numbers whose mean and scale the sites agree on."""
        ...

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the metrics that a site's own report has too, the loss first; people see these."""
        ...

    @property
    def counts(self) -> Mapping[str, int | None]:
        """The sums that count rows (:attr:`Ask.counts`)."""
        ...

    def target(self, columns: Sequence[Column], task: Task) -> tuple[Array, Array]:
        """The rows that have a usable target, (m,) int64, and their targets: (m,) or (m, c); class indices are
        int64, and are held out for evaluation in the same proportion."""
        ...

    def outputs(self, task: Task) -> int: ...

    def shape(self, task: Task, rows: int) -> tuple[int, ...]: ...

    def sums(self, prediction: Array, y: Array, task: Task, center: Array) -> dict[str, Array]:
        """A node's sums. ``center``: near the mean of each number in ``y``, the same at every site, so that
        nothing cancels. ``totals`` begins with the rows and those whose prediction is not finite."""
        ...

    def shapes(self, task: Task) -> Shapes:
        """Of these sums."""
        ...

    def plausible(self, sums: Mapping[str, Array], task: Task) -> bool:
        """Whether these can be the sums of so many rows: one site that lies must not put a number into a
        record that is none."""
        ...

    def report(self, sums: Mapping[str, Array], task: Task) -> dict[str, Json]:
        """``n``, ``loss`` (lower is better) and the other metrics; null where they are undefined."""
        ...

    def answer(self, prediction: Array, task: Task) -> Array:
        """(n,) labels or values, from a prediction."""
        ...

    def probabilities(self, prediction: Array, task: Task) -> Array:
        """(n, k), in the order of the classes. Raises ``DataError`` where there are none."""
        ...

    def score(self, prediction: Array, columns: Sequence[Column], task: Task) -> float:
        """One number, higher is better, as scikit-learn's ``score``."""
        ...


PROBABILITIES, NUMBER = "probabilities", "number"


class Model(Protocol):
    """An adapter to a library's models, for parameters that average (FedAvg and family).

    Made by the ``build(task, options)`` of its file, which validates ``options`` (hyper-parameters
    by the library's own names) and raises ``ConfigError`` naming what is wrong.
    """

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        """Initial parameters; names and shapes are the same for every later call."""
        ...

    def train(
        self, parameters: Mapping[str, Array], X: Array, y: Array, rng: np.random.Generator, training: Training
    ) -> Learned:
        """Local training on (n, f) ``X`` and (n,) ``y`` (class indices, or targets for regression), from
        ``parameters``, with the term of ``training`` in the objective. Must not keep anything between calls."""
        ...

    def predict(self, parameters: Mapping[str, Array], X: Array) -> Array:
        """(n,) probability of class 1 for binary; (n, k) probabilities for multiclass; (n,)
        values for regression. float64."""
        ...

    def native(self, parameters: Mapping[str, Array]) -> Any:
        """A normal, fitted model of the library."""
        ...


# ---------------------------------------------------------------- rules


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule said. ``reason`` is shown to people on both sides; ``remedy``, to the owner alone, is the
    setting that would allow it, as ``hanse node policy set`` takes it."""

    allowed: bool
    rule: str
    reason: str = ""
    remedy: str = ""


class Rule(Protocol):
    """One rule of the gate. Given the facts of a task, allows it or says why not. ``decide`` may be a
    coroutine. A rule that raises, or takes too long, counts as a no."""

    name: str

    def decide(self, facts: Facts) -> Decision | Awaitable[Decision]: ...


@dataclass(frozen=True, slots=True)
class Account:
    """What answers are booked on: the name, and the run with which the account ends (none: it never does)."""

    name: str
    run: str = ""


class Ledger(Protocol):
    """What answering uses up, and how much of it there is. The node keeps the book (:mod:`hanse.node.spending`):
    an answer is reserved before anything is computed, and on disk as spent before it leaves.

    The law: ``add`` is associative and commutative, so that the order in which answers were booked does not
    matter. Amounts are plain JSON. A ledger that raises counts as a no.
    """

    name: str

    def account(self, facts: Facts) -> Account | None:
        """What an answer to this task is booked on; None where it uses nothing up."""
        ...

    def most(self, facts: Facts) -> Json:
        """The most that answering may use up."""
        ...

    def add(self, spent: Json, more: Json) -> Json:
        """Both together."""
        ...

    def refuses(self, spent: Json, facts: Facts) -> Decision:
        """Whether an account may hold so much, with the answer to this task among it."""
        ...

    def describe(self, spent: Json) -> str:
        """What was spent and how much there is, for the owner."""
        ...
