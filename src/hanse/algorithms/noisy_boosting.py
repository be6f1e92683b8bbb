"""Boosted trees with differential privacy for each row: trees whose splits nobody's rows decide, and noised leaves.

Each round draws one tree for each output from the run's seed: whole, of depth d, at each node any column and a
threshold anywhere in what is left of its agreed range (``ranges`` of ``privacy``), or some of its categories. With F
the margins of the trees before it, the rows i in leaf j add up to ::

    (G_j, H_j) = Σ_i c_i (g_i, h_i),      c_i = min(1, C / ‖(g_i, h_i)‖₂) over all outputs

A row is in one leaf of each tree, so all sums of a round together change by at most C with a row, however deep the
trees are and however many columns there are. With noise of standard deviation s in each sum, a leaf becomes ::

    w_j = -η G_j H_j / (H_j² + λ H_j + s²),      H_j not below 0

which is XGBoost's -η G / (H + λ) where s is 0, and goes to 0 in leaves that hold less than noise. Splits that are
chosen by the rows would have to be paid for with most of ε; of trees that are not, more are needed.

Where the owner of a data set says whose each row is, each row counts 1/n_p of its person's n_p rows.

References: Maddock, Cormode, Wang, Maple and Jha 2022, "Federated boosted decision trees with differential privacy":
totally random splits, with Newton's leaves from noised secure sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

import numpy as np

from hanse.boosting import objective
from hanse.boosting.trees import LEAF, Trees, join, margins, none
from hanse.codec import ArrayOf, encode
from hanse.config import RunConfig
from hanse.errors import ConfigError, NotAllowed
from hanse.kinds import Ask, Combine, Contribution, Done, Gathered, Site, generator
from hanse.learning import rows as preparation
from hanse.learning.averaging import model_options
from hanse.learning.results import result_of
from hanse.learning.rows import Agreed, Described
from hanse.messages import Array, Json, Record
from hanse.privacy import clipping, concentrated
from hanse.privacy.guarantee import LOCAL, ROW, range_of
from hanse.registry import find
from hanse.settings import Setting, whole
from hanse.table import ColumnKind
from hanse.task import NUMBER
from hanse.typed import Typed

TAKES = "histograms"
UNIT = ROW
SETTINGS = {"noised_depth": Setting(3, "d, of trees with noised leaves: 2^d leaves each", whole(1, 10))}


def ingredients(options: Mapping[str, Json]) -> tuple[str, ...]:
    """Modules of the node's half beside the model's, for the bundle."""
    return objective.modules(options)


def unfit(config: RunConfig) -> str:
    """Without noise there is no reason for it."""
    if config.privacy is None:
        return "noisy_boosting is for runs with differential privacy; set privacy, or leave federated_strategy out"
    return ""


def most_steps(config: RunConfig) -> int:
    """The rounds."""
    return config.num_rounds


BaseScore = Annotated[Array, ArrayOf("float32", "outputs")]


@dataclass(frozen=True, slots=True)
class State:
    """What the coordinator knows.

    Args:
        rounds: to be done; ``round``: so many are.
        depth: d; ``seed``: of the run.
        privacy: of the run, settled.
        base: the base score of each output.
        model: the trees so far; ``drawn``: those of this round, whose leaves are 0.
    """

    prepared: Record
    model_name: str
    options: Mapping[str, Json]
    rounds: int
    depth: int
    seed: int
    privacy: Mapping[str, Json]
    base: BaseScore
    model: Trees = field(default_factory=none)
    drawn: Trees = field(default_factory=none)
    phase: Literal["train", "done"] = "train"
    round: int = 0

    @property
    def adapter(self) -> Any:
        """The model's adapter."""
        return find("models", self.model_name).build(preparation.task(self.prepared), self.options)


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked: the sums in the leaves of ``drawn``, after the trees of ``model``."""

    prepared: Record
    base: BaseScore
    model: Trees
    drawn: Trees
    round: int


class NoisyBoosting:
    """A :class:`hanse.typed.Computation`."""

    combines = frozenset({Combine.SUM})

    def averages(self, options: Mapping[str, Json]) -> bool:
        """False: rows add up, and nobody's are worth less."""
        return False

    def init(self, config: Mapping[str, Json], previous: Record | None) -> State:
        """No tree yet."""
        if previous is None:
            raise ConfigError("noisy boosting follows the preparation; build the run with hanse.algorithms.build")
        options, task = model_options(config), preparation.task(previous)
        made = find("models", config["model_name"]).build(task, options)
        loss = made.objective
        if loss.quantile is not None or loss.intervals or made.rules.parallel > 1 or made.subsample < 1:
            raise ConfigError(
                "noisy_boosting grows one whole tree of all rows at a time, whose leaves are Newton's steps: leave "
                "num_parallel_tree and subsample out, and take an objective whose rows have gradients of their own"
            )
        stated = made.options["base_score"]
        if stated is None:
            stated = sum(range_of(config["privacy"], previous.data["target"])) / 2 if task.predicts == NUMBER else 0.5
        names = (config["model_name"], options, config["num_rounds"], config["noised_depth"], config["seed"])
        return _drawn(State(previous, *names, config["privacy"], loss.stated(stated)))

    def ask(self, state: State) -> Ask | Done:
        """The sums in the leaves of the trees that were drawn."""
        if state.phase == "done":
            return Done(f"{state.round} rounds, {len(state.model)} trees")
        shape = (len(state.drawn), 2**state.depth, 2)
        question = Question(state.prepared, state.base, state.model, state.drawn, state.round + 1)
        leaves: dict[str, tuple[str, tuple[int | None, ...]]] = {"leaves": ("float64", shape)}
        return Ask(encode(question), Combine.SUM, "train", state.round + 1, arrays=leaves, sums={})

    def answer(self, site: Site, ask: Question) -> Contribution:
        """The node's half."""
        task = preparation.task(ask.prepared)
        model = find("models", site.config["model_name"]).build(task, model_options(site.config))
        for trees in (ask.model, ask.drawn):
            if wrong := model.fault(trees):
                raise NotAllowed(f"the trees of this ask are none: {wrong}")
        rows = preparation.rows(site, ask.prepared)
        X, y = rows.X[rows.train], np.asarray(rows.y[rows.train])
        bound, own = float(site.config["privacy"]["clip"]), preparation.targets(site, ask.prepared)
        shares = None if site.shares is None else site.shares[own.at(own.train)]
        with np.errstate(over="ignore", invalid="ignore"):
            g, h = model.objective.gradients(model.margins(ask.model, ask.base, X), y)
        found = leaf_sums(ask.drawn, X, g, h, bound, shares)
        site.progress()
        return Contribution(Record({}, {"leaves": found}), combine=Combine.SUM, sensitivity=bound)

    def tell(self, state: State, gathered: Gathered) -> State:
        """With the trees of the round."""
        found, rules, bound = gathered.sum()["leaves"], state.adapter.rules, float(state.privacy["clip"])
        each = concentrated.rho_of(state.privacy["epsilon"], state.privacy["delta"]) / state.rounds
        several = len(gathered.answers) if state.privacy["mode"] == LOCAL else 1
        noise = concentrated.sigma_of(each, bound) * several**0.5
        sums, hessians = found[:, :, 0], np.maximum(found[:, :, 1], 0.0)
        below = hessians**2 + rules.penalty.reg_lambda * hessians + noise**2
        filled = _filled(state.drawn, -rules.learning_rate * sums * hessians / below, hessians)
        done = state.round + 1
        state = replace(state, model=join([state.model, filled]), round=done)
        return replace(state, phase="done", drawn=none()) if done >= state.rounds else _drawn(state)

    def result(self, state: State) -> Record:
        """Data ``{algorithm, model_name, options, task, prepared, history, best, round}``; arrays ``model.*``
        (:class:`hanse.boosting.trees.Trees`, and ``base``) and ``prepared.*``."""
        model = {f.name: getattr(state.model, f.name) for f in fields(Trees)}
        return result_of(
            __name__.rpartition(".")[2],
            state.prepared,
            state.model_name,
            state.options,
            {**model, "base": state.base},
            history=[],
            best=None,
            round=state.round,
        )

    def metrics(self, state: State) -> Mapping[str, Json]:
        """How many trees there are."""
        return {"trees": len(state.model)}


ALGORITHM = Typed(NoisyBoosting(), State, Question)


# ---------------------------------------------------------------- trees


def _drawn(state: State) -> State:
    agreed, rng = Agreed.of(state.prepared), generator(state.seed, "noisy boosting", state.round + 1)
    outputs = state.adapter.objective.outputs
    return replace(
        state, drawn=join([drawn(agreed.columns, state.privacy, state.depth, k, rng) for k in range(outputs)])
    )


def drawn(
    columns: tuple[Described, ...], privacy: Mapping[str, Json], depth: int, group: int, rng: np.random.Generator
) -> Trees:
    """A whole tree of ``depth`` whose splits follow from agreed ranges and categories alone; its leaves are 0.

    Args:
        columns: those of the design matrix, in order.
        privacy: whose ``ranges`` are.
        group: the output that it is for.
    """
    inner, size = 2**depth - 1, 2 ** (depth + 1) - 1
    ends = [(0.0, 1.0) if c.kind is ColumnKind.BOOLEAN or not c.numeric else range_of(privacy, c.name) for c in columns]
    boxes: list[dict[int, tuple[float, float]]] = [{}]
    feature, listed, value = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.float32)
    categories: list[Array] = []
    for node in range(inner):
        box, which = boxes[node], int(rng.integers(len(columns)))
        column, feature[node] = columns[which], which
        if column.categories:
            chosen = np.flatnonzero(rng.random(len(column.categories)) < 0.5)
            chosen = chosen if len(chosen) else rng.integers(len(column.categories), size=1)
            listed[node] = len(chosen)
            categories.append(chosen.astype(np.int32))
            boxes += [box, box]
            continue
        low, high = box.get(which, ends[which])
        at = float(rng.uniform(low, high))
        value[node] = at
        boxes += [{**box, which: (low, at)}, {**box, which: (at, high)}]
    place = np.arange(size, dtype=np.int32)
    split = place < inner
    return Trees(
        size=np.array([size], np.int32),
        group=np.array([group], np.int32),
        left=np.where(split, 2 * place + 1, LEAF).astype(np.int32),
        right=np.where(split, 2 * place + 2, LEAF).astype(np.int32),
        feature=feature,
        value=value,
        default_left=(rng.random(size) < 0.5).astype(np.uint8),
        gain=np.zeros(size, np.float32),
        cover=np.zeros(size, np.float32),
        weight=np.zeros(size, np.float32),
        listed=listed,
        categories=np.concatenate([np.zeros(0, np.int32), *categories]),
    )


def leaf_sums(trees: Trees, X: Array, g: Array, h: Array, bound: float, shares: Array | None = None) -> Array:
    """(T, leaves, 2) sums of gradients and Hessians in the leaves of whole trees, one for each output. One row more or
    less changes all of them together by at most ``bound`` (L2 norm).

    Args:
        X: (n, f).
        g, h: (n, outputs).
        bound: C.
        shares: (n,) what each row counts for; None: 1.
    """
    each = np.concatenate([g, h], 1).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(each, axis=1)
    scale = clipping.factors(lengths, bound)
    if shares is not None:
        scale = scale * shares
    each = np.where(np.isfinite(lengths)[:, None], each, 0.0) * scale[:, None]
    leaves = int(trees.size[0] + 1) // 2
    found = np.zeros((len(trees), leaves, 2))
    for k, group in enumerate(trees.group):
        place = _leaf_of(trees.some(k, k + 1), X)
        for part, column in enumerate((group, g.shape[1] + group)):
            found[k, :, part] = np.bincount(place, each[:, column], leaves)
    return found


def _leaf_of(tree: Trees, X: Array) -> Array:
    """(n,) the place among the leaves of one tree that each row comes to."""
    leaves = tree.left == LEAF
    numbered = np.where(leaves, np.cumsum(leaves) - 1, tree.value).astype(np.float32)
    alone = replace(tree, value=numbered, group=np.zeros(1, np.int32))
    return np.asarray(margins(alone, np.zeros(1, np.float32), X)[:, 0].astype(np.int64))


def _filled(trees: Trees, weights: Array, hessians: Array) -> Trees:
    """The trees with what their leaves add, and the noised Hessians as their cover, up to the root."""
    value, cover = trees.value.copy(), np.zeros(len(trees.value))
    for k, (low, high) in enumerate(zip(trees.starts[:-1], trees.starts[1:], strict=True)):
        leaves = trees.left[low:high] == LEAF
        value[low:high][leaves], cover[low:high][leaves] = weights[k], hessians[k]
        for node in range(int((~leaves).sum()) - 1, -1, -1):
            cover[low + node] = cover[low + 2 * node + 1] + cover[low + 2 * node + 2]
    weight = np.where(trees.left == LEAF, value, 0.0).astype(np.float32)
    return replace(trees, value=value, cover=cover.astype(np.float32), weight=weight)
