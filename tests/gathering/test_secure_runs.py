"""Whole runs that gather securely: the same model as a plain run, and what a killed coordinator leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hanse
from hanse import algorithms, gathering
from hanse.answers import Answerer
from hanse.boosting import scales
from hanse.boosting.workspace import Workspace
from hanse.bundle import freeze
from hanse.config import RunConfig
from hanse.errors import NodeFailed, Refused
from hanse.gathering._bound import _NOT_KNOWN
from hanse.kinds import State
from hanse.messages import Message, Record, digest
from hanse.node.promises import Promises
from hanse.privacy import fixed_point
from hanse.rounds import Forgetful, Loop, Step, go
from hanse.transport import Handler, Progress
from hanse.transports.local import LocalTransport

from .summing import Counting, Summing

SITES = 4


def sites(seed: int = 0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    found = {}
    for k in range(SITES):
        X = rng.normal(k / 4, 1 + k / 5, (60 + 30 * k, 3))
        y = (X @ [1.0, -2.0, 0.5] + rng.normal(size=len(X)) > 0.3).astype(int)
        found[f"site-{k}"] = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "disease": y})
    return found


@pytest.fixture(scope="module")
def federation() -> Any:
    return hanse.simulate(sites(), wire="exact")


def learned(federation: Any, gather: str, **settings: Any) -> Any:
    given = {"num_rounds": 3, "target": "disease", "gathering": gather, **settings}
    return federation.experiment(**given).run(progress=False)


@pytest.mark.parametrize(
    ("settings", "within"),
    [
        ({"model": "logistic_regression"}, 1e-11),
        ({"model": "sgd_classifier"}, 1e-12),
        ({"model": "sgd_classifier", "site_weights": {f"site-{k}": 1 / (k + 1) for k in range(SITES)}}, 1e-12),
        ({"model": "mlp_classifier", "federated_strategy": "fedavg"}, 1e-12),
        ({"model": "mlp_classifier", "federated_strategy": "scaffold"}, 1e-12),
        ({"model": "sgd_classifier", "transforms": [{"name": "clip", "norm": 0.05}]}, 1e-12),
    ],
    ids=lambda value: "-".join(map(str, value.values()))[:40] if isinstance(value, dict) else str(value),
)
def test_the_model_is_that_of_a_plain_run(federation: Any, settings: dict[str, Any], within: float) -> None:
    plain, secure = (learned(federation, gather, **settings) for gather in ("plain", "secure"))
    assert set(plain.record.arrays) == set(secure.record.arrays)
    for name, array in plain.record.arrays.items():
        np.testing.assert_allclose(secure.record.arrays[name], array, rtol=within, atol=within, err_msg=name)
    added = [step for step in secure.rounds if step.gathered]
    assert len(added) == len(secure.rounds) - 1  # all but the first, in which names are agreed on
    for step in added:
        assert step.gathered["by"] == "secure"
        assert step.gathered["of"] == SITES
        assert step.gathered["unchecked"] == ["counts", "weights"]
        assert step.gathered["error"] < 1e-20
        assert all(part["weight"] is None and not part["metrics"] for part in step.participants.values())
    assert not any(step.gathered for step in plain.rounds)
    assert plain.gathering == "plain: the coordinator saw what each site contributed"
    assert secure.gathering.startswith(
        "secure sums of 4 sites, which nobody saw in parts (unchecked of single sites: co"
    )
    assert secure.gathering in repr(secure)
    assert secure.gathering in secure._repr_html_()
    assert plain.gathering not in repr(plain)
    assert all(row["share"] > 0 for row in plain.contributions)  # each of 0, of nobody knows how many, was told
    assert [row["share"] for row in secure.contributions] == [None] * SITES
    assert "unknown" in secure._repr_html_()
    assert secure.plot() is not None


def test_trees_of_exact_boosting_are_the_same_bytes(federation: Any) -> None:
    plain, secure = (learned(federation, gather, model="xgboost") for gather in ("plain", "secure"))
    trees = {name: array for name, array in plain.record.arrays.items() if name.startswith("model.")}
    assert len(trees) > 10
    for name, array in trees.items():  # means of columns are sums of numbers that round
        assert secure.record.arrays[name].tobytes() == array.tobytes(), name
    assert "sound" in {check for step in secure.rounds for check in step.gathered.get("unchecked", ())}


def test_trees_of_exact_boosting_are_the_same_bytes_where_bins_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a column of two values and of one with gaps one bin each has more than the 127 rows that one number holds."""
    monkeypatch.setattr(scales, "COARSEST", scales.FINEST)
    inner, told = Workspace.packed, list[int]()

    def packed(self: Workspace, nodes: Any, apart: Any, *places: Any) -> Any:
        told.append(len(apart))
        return inner(self, nodes, apart, *places)

    monkeypatch.setattr(Workspace, "packed", packed)
    full = {
        name: frame.assign(b=(frame["b"] > 0).astype(float), c=frame["c"].where(frame["c"] < 0))
        for name, frame in sites().items()
    }
    federation = hanse.simulate(full, wire="exact")
    plain, secure = (learned(federation, gather, model="xgboost") for gather in ("plain", "secure"))
    for name, array in plain.record.arrays.items():
        if name.startswith("model."):
            assert secure.record.arrays[name].tobytes() == array.tobytes(), name
    assert set(told) == {2}


@pytest.mark.parametrize("needed", [SITES, 1])
def test_levels_of_exact_boosting_take_one_exchange(
    federation: Any, needed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed_point, "LEAST", 1)  # as if it were worth fewer bytes
    plain = learned(federation, "plain", model="xgboost")
    secure = learned(federation, "secure", model="xgboost", min_completed=needed)
    for name, array in plain.record.arrays.items():
        if name.startswith("model."):
            assert secure.record.arrays[name].tobytes() == array.tobytes(), name
    # a sum of all or none is of all; what two exchanges make, of numbers that are not whole, could be of three
    wanted = [step.gathered["threshold"] for step in secure.rounds if step.label == "train"]
    assert wanted.count(SITES) > len(wanted) / 2


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_a_tree_begins_anew_without_a_site_that_fails_inside_of_it(
    federation: Any, held_out: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again: each tree is grown by the sites that grow it to its end, as in a plain run."""
    inner, times = Answerer.answer, [0]

    def answer(self: Answerer, task: Record, *others: Any, **more: Any) -> Record:
        inside = "'level': {" in str(task.data["ask"])
        if self.node == "site-2" and task.data["op"] == "answer" and inside:
            times[0] += 1
            raise NodeFailed("the worker ran out of memory")
        return inner(self, task, *others, **more)

    monkeypatch.setattr(Answerer, "answer", answer)
    given = {"model": "xgboost", "test_fraction": held_out}
    plain, secure = (learned(federation, gather, **given) for gather in ("plain", "secure"))
    assert times[0] >= 6  # in each of three trees of both
    for name, array in plain.record.arrays.items():
        if name.startswith("model."):
            assert secure.record.arrays[name].tobytes() == array.tobytes(), name
    left = [step for step in secure.rounds if "over" in step.gathered]
    assert len(left) == 3
    assert all(step.status == "failed" and step.gathered["left"] == ["site-0", "site-1", "site-3"] for step in left)


def test_a_tree_begins_anew_where_a_worker_is_lost_that_answered_beside_one_that_had_not(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of the step was of numbers that its node can never make again: attempt after attempt failed, and the
    run with them."""
    plain = learned(federation, "plain", model="xgboost")
    grown = [step.step for step in plain.rounds if step.label == "train"]
    last: dict[str, int] = {}  # the step of which each site was asked for numbers
    killed, inner = dict.fromkeys((grown[3], grown[4], grown[7]), 0), Answerer.answer

    def answer(self: Answerer, task: Record, *others: Any, **more: Any) -> Record:
        step, numbers = task.data["step"], task.data["op"] == "answer"
        dies = numbers and step in killed and last.get(self.node) != step
        last[self.node] = step if numbers else last.get(self.node, -1)
        if dies and self.node == "site-2":
            self.forget(task.data["run"])
        reply = inner(self, task, *others, **more)
        if dies and self.node == "site-1":
            self.forget(task.data["run"])
            killed[step] += 1
        return reply

    monkeypatch.setattr(Answerer, "answer", answer)
    secure = learned(federation, "secure", model="xgboost", min_completed=SITES)
    assert all(killed.values())
    for name, array in plain.record.arrays.items():
        if name.startswith("model."):
            assert secure.record.arrays[name].tobytes() == array.tobytes(), name
    over = [step.step for step in secure.rounds if "over" in (step.gathered or {})]
    assert len(over) >= len(killed) - 1  # one step was perhaps passed by while the tree began anew
    for step in over:  # it is left behind
        assert [other.status for other in secure.rounds if other.step == step][-1] == "failed"


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_a_tree_begins_anew_with_a_node_that_was_restarted_in_it(
    federation: Any, held_out: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had told of the tree's levels was in its memory, so it tells nothing of what is left of its claim."""
    inner, made, restarts = Answerer.answer, Answerer.__init__, dict.fromkeys((1, 5), 0)

    def told(self: Answerer) -> None:
        (tmp_path / self.node).mkdir(exist_ok=True)
        self._promises = promises = Promises(tmp_path / self.node, threads=True)
        self._hold = promises.hold

    def init(self: Answerer, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **more)
        told(self)

    def answer(self: Answerer, task: Record, *others: Any, **more: Any) -> Record:
        level = "'level': {" in str(task.data["ask"])
        if self.node == "site-2" and level and restarts.get(len(seen), 1) == 0:
            restarts[len(seen)] += 1
            self.forget(task.data["run"])
            told(self)
        if self.node == "site-2" and level:
            seen.add(task.data["step"])
        return inner(self, task, *others, **more)

    seen = set[int]()
    given = {"model": "xgboost", "test_fraction": held_out}
    plain = learned(federation, "plain", **given)
    monkeypatch.setattr(Answerer, "__init__", init)
    monkeypatch.setattr(Answerer, "answer", answer)
    secure = learned(federation, "secure", **given)
    assert all(restarts.values())
    for name, array in plain.record.arrays.items():
        if name.startswith("model."):
            assert secure.record.arrays[name].tobytes() == array.tobytes(), name
    assert any("may have contributed" in str(step.failures.get("site-2")) for step in secure.rounds)


@pytest.mark.parametrize(("beyond", "why"), [(9_000, "of step"), (500, "of step"), (0, "5 times"), (15, "5 times")])
def test_a_site_that_says_again_and_again_that_it_told_of_later_steps_ends_no_run(
    federation: Any, beyond: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that said so of a far step had all steps up to it left behind, which were more than owners had consented to;
    one that said it of this step failed attempt after attempt."""
    inner = Answerer.answer

    def answer(self: Answerer, task: Record, *others: Any, **more: Any) -> Record:
        if self.node == "site-2" and task.data["op"] == "answer" and "'level': {" in str(task.data["ask"]):
            raise NodeFailed(_NOT_KNOWN.format(task.data["step"] + beyond))
        return inner(self, task, *others, **more)

    monkeypatch.setattr(Answerer, "answer", answer)
    found = learned(federation, "secure", model="xgboost")
    assert found.record.data["round"] == 3
    last = found.rounds[-1]
    assert set(last.participants) == {"site-0", "site-1", "site-3"}
    assert why in last.failures["site-2"]
    assert "left out" in last.failures["site-2"]
    assert last.step < 100


def test_sites_that_are_lost_one_after_the_other_end_no_run_that_enough_are_left_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of them costs a step that is left behind, and after four such steps in a row the run had failed."""
    seven = {f"site-{k}": frame for k, frame in enumerate([*sites().values(), *sites(1).values()][:7])}
    inner, gone, steps = Answerer.answer, [f"site-{k}" for k in range(5)], set[int]()

    def answer(self: Answerer, task: Record, *others: Any, **more: Any) -> Record:
        if "'forward': {" in str(task.data["ask"]) and task.data["op"] == "answer":
            steps.add(task.data["step"])
            if self.node in gone[: len(steps)]:
                raise NodeFailed("the worker ran out of memory")
        return inner(self, task, *others, **more)

    monkeypatch.setattr(Answerer, "answer", answer)
    given = {"model": "xgboost", "secure_threshold": 2, "test_fraction": 0.0}
    found = learned(hanse.simulate(seven, wire="exact"), "secure", **given)
    assert len([step for step in found.rounds if step.status == "failed"]) == 5 + 2  # and one of each tree after it
    assert set(found.rounds[-1].participants) == {"site-5", "site-6"}


def test_a_site_that_was_not_counted_grows_trees_with_the_others(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are in no bin that the others know, so nobody knows how large the numbers of its histograms can be."""
    monkeypatch.setattr(fixed_point, "LEAST", 1)
    inner, limits, packed = Answerer.answer, set[bool](), set[bool]()

    def answer(self: Answerer, task: Record, *others: Any, **more: Any) -> Record:
        asked = str(task.data["ask"])
        if self.node == "site-3" and "'count': {" in asked:
            raise NodeFailed("the worker ran out of memory")
        if "'level': {" in asked and "form" in task.data["ask"]:
            limits.add(bool(task.data["ask"]["form"]["most"]))
            packed.add(len(task.data["ask"]["form"]["a."]["histograms"][1]) == 2)
        return inner(self, task, *others, **more)

    monkeypatch.setattr(Answerer, "answer", answer)
    plain, secure = (learned(federation, gather, model="xgboost") for gather in ("plain", "secure"))
    for name, array in plain.record.arrays.items():
        if name.startswith("model."):
            assert secure.record.arrays[name].tobytes() == array.tobytes(), name
    assert packed == {False}
    assert all("site-3" in step.participants for step in secure.rounds if step.label == "train")
    assert limits == {False}


def test_a_secure_sum_that_cannot_be_one_of_rows_is_not_used(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees whose numbers are wrong; that some are, the sums of two columns tell."""
    inner, wrong = Workspace.packed, [1]

    def packed(self: Workspace, nodes: Any, apart: Any, *places: Any) -> Any:
        sums, own = inner(self, nodes, apart, *places)
        if wrong:
            sums[:, 0] += wrong.pop()
        return sums, own

    plain = learned(federation, "plain", model="xgboost")
    monkeypatch.setattr(Workspace, "packed", packed)
    secure = learned(federation, "secure", model="xgboost")
    assert any("do not add up" in str(step) for step in secure.rounds)
    for name, array in plain.record.arrays.items():
        if name.startswith("model."):
            assert secure.record.arrays[name].tobytes() == array.tobytes(), name


def test_statistics_that_add_are_told_over_secure_sums_and_others_are_refused() -> None:
    owner = {"require_secure_aggregation": True, "minimum_cell": 1, "allow_federated_analytics": True}
    closed, free = (
        hanse.simulate(sites(), policy=owner),
        hanse.simulate(sites(), policy={**owner, "require_secure_aggregation": False}),
    )
    with pytest.raises(Refused, match="alone contributes by sum"):
        closed.analytics().mean(["a"])
    assert free.analytics().mean(["a"])


def test_an_owner_who_wants_only_hidden_sums_can_take_part_in_training() -> None:
    closed = hanse.simulate(sites(), policy={"require_secure_aggregation": True})
    assert learned(closed, "secure", model="logistic_regression").rounds
    shown = {"model": "random_forest", "gathering_fallback": "plain"}  # asked for in words, and refused all the same
    for refused, said in (({"gathering": "plain"}, "by sum"), (shown, "by each")):
        given = {"model": "logistic_regression", "gathering": "secure", "target": "disease", "num_rounds": 2, **refused}
        with pytest.raises(Refused, match=f"alone contributes {said}"):
            closed.experiment(**given).run(progress=False)


def test_an_owner_who_wants_no_sums_that_differ_by_one_node_refuses_runs_without_groups() -> None:
    wants = hanse.simulate(sites(), policy={"require_secure_aggregation": True, "secure_aggregation_group": 2})
    with pytest.raises(Refused, match="two sums of this run may differ by 1 of its nodes"):
        learned(wants, "secure", model="logistic_regression")
    plain = learned(hanse.simulate(sites()), "plain", model="logistic_regression")
    grouped = learned(wants, "secure", model="logistic_regression", secure_group=2)
    for name, array in plain.record.arrays.items():
        np.testing.assert_allclose(grouped.record.arrays[name], array, rtol=1e-11, atol=1e-11)


# ---------------------------------------------------------------- a coordinator that is killed


class Killed(BaseException):
    pass


class Runs:
    """Real node halves of a run, whose coordinator dies as the reply of one exchange comes in."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, lost: str = "", algorithm: type[Summing] = Summing, **settings: int
    ) -> None:
        monkeypatch.setattr(algorithms, "build", lambda config, start=None: algorithm(3, 0.1))
        self.algorithm = algorithm
        given = {"federated_strategy": "probe", "gathering": "secure", "secure_threshold": 3, **settings}
        self.config = RunConfig.parse(given)
        self.bundle = freeze(self.config, {"features": [], "kinds": {}}, {})
        self.killed: tuple[int, str] | None = None
        self.lost = lost  # a node that answers nothing, so a list of the others is signed
        self.masked: list[tuple[str, bytes]] = []
        self.ops: set[str] = set()
        self.nodes = {f"n{k}": self._handler(f"n{k}") for k in range(4)}

    def _handler(self, node: str) -> Handler:
        answerer = Answerer(node, lambda bundle: None)  # type: ignore[arg-type, return-value]

        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            task = message.body.data
            if node == self.lost and task["op"] == "answer":
                raise NodeFailed("the worker ran out of memory")
            self.ops.add(task["op"])
            body = answerer.answer(message.body, self.bundle.content, progress)
            if task["op"] == "answer":
                self.masked.append((node, np.asarray(body.arrays["64"]).tobytes()))
            if self.killed == (task["step"], task["op"]) and node == "n2":
                raise Killed
            return Message("reply", message.id, node, body)

        return handle

    def run(self, journal: Forgetful | None = None) -> Loop:
        needed = self.config.to_json()["secure_threshold"] if self.lost else 4
        settings = RunConfig.parse({**self.config.to_json(), "min_completed": needed, "min_fit_nodes": 4})
        gathers = gathering.build(self.bundle.content["gathering"], settings.to_json())
        return Loop(
            self.algorithm(3, 0.1),
            settings,
            sorted(self.nodes),
            LocalTransport(self.nodes, "exact"),
            journal or Forgetful(),
            gathers=gathers,
        )


@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize(
    ("op", "algorithm"),
    [*((op, Summing) for op in ("keys", "answer", "agree", "unmask")), ("keys", Counting), ("answer", Counting)],
)
def test_a_run_whose_coordinator_was_killed_in_any_exchange_ends_with_the_same_bytes_and_masks_nothing_twice(
    step: int, op: str, algorithm: type[Summing], monkeypatch: pytest.MonkeyPatch
) -> None:
    if op == "keys" and step:
        pytest.skip("keys are told once")
    lost = "n0" if op == "agree" else ""
    whole = digest(go(Runs(monkeypatch, lost, algorithm).run()))
    runs, states = Runs(monkeypatch, lost, algorithm), list[tuple[int, State]]()

    class Keeping(Forgetful):
        async def step(self, record: Step, state: State, keep: bool) -> None:
            states.append((record.step + 1, state))

    runs.killed = (step, op)
    with pytest.raises(Killed):
        asyncio.run(runs.run(Keeping()).go())
    runs.killed = None
    assert digest(go(runs.run(), states[-1] if states else None)) == whole
    words = [set(np.frombuffer(raw, np.uint64).tolist()) for _, raw in runs.masked]
    assert all(not a & b for i, a in enumerate(words) for b in words[:i])  # no mask was used twice
    assert ("unmask" in runs.ops) == (algorithm is Summing)


def test_a_failed_attempt_is_made_again_with_fresh_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, journal = Runs(monkeypatch), Forgetful()
    whole = digest(go(Runs(monkeypatch).run()))
    inner: Mapping[str, Handler] = dict(runs.nodes)
    faults = {("n1", 0, "answer"), ("n1", 1, "unmask"), ("n3", 2, "unmask")}

    def failing(node: str) -> Handler:
        async def handle(peer: str, message: Message, progress: Progress) -> Message:
            place = (node, message.body.data["step"], message.body.data["op"])
            if place in faults:
                faults.discard(place)
                raise NodeFailed("the worker ran out of memory")
            return await inner[node](peer, message, progress)

        return handle

    runs.nodes = {node: failing(node) for node in inner}
    assert digest(go(runs.run(journal))) == whole
    assert [(s.step, s.status) for s in journal.steps] == [(0, "failed"), (0, "ok"), (1, "ok"), (2, "ok")]


def test_a_node_that_is_lost_takes_its_group_out_of_each_step_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, journal = Runs(monkeypatch, "n0", secure_threshold=2, secure_group=2), Forgetful()
    go(runs.run(journal))
    assert [sorted(step.participants) for step in journal.steps] == [["n2", "n3"]] * 3
    for step in journal.steps:
        assert step.failures["n0"] == "the worker ran out of memory"
        assert step.failures["n1"] == "it is in sums only together with n0 (secure_group)"
