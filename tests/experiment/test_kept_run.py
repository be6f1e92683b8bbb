"""A simulation that is killed goes on where it was kept, and ends with the bytes that it has undisturbed."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hanse
from hanse.errors import Conflict, DataError
from hanse.experiment import kept_run, remembered
from hanse.experiment.kept_run import KeptRun
from hanse.experiment.seam import Happening
from hanse.experiment.simulated_run import SimulatedRun
from hanse.kinds import State
from hanse.memories import NodeMemory
from hanse.messages import Message, digest, dump, load
from hanse.rounds import Step

LINEAR = "import torch\n\ndef build(task, options):\n    return torch.nn.Linear(len(task.features), task.outputs)\n"
SGD = {"model": "sgd_classifier", "rounds": 5}
EXACT = {"model": "logistic_regression", "rounds": 5}  # which processes of their own need not load scikit-learn for
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fedavg": (SGD | {"keep_models": True}, {}),
    "by what was": (SGD | {"fraction": 0.5, "selection": "highest_loss", "federated_strategy": "fedadam"}, {}),
    "sites remember": (SGD | {"federated_strategy": "scaffold"}, {}),
    "in processes": (EXACT | {"federated_strategy": "scaffold"}, {"processes": 2}),
    "models of their own": (SGD | {"federated_strategy": "ditto"}, {}),
    "transforms remember": (SGD | {"transforms": [{"name": "top_k", "share": 0.5}]}, {}),
    "secure": (SGD | {"gathering": "secure"}, {}),
    "together": (
        {"model": "torch_module", "rounds": 5, "plan": {"source": LINEAR, "name": "p"}, "batch_size": 10},
        {"batched": True},
    ),
    "what no file holds": ({"model": "xgboost", "rounds": 4}, {}),
}


def run(folder: Path, name: str, die_after: int = 0) -> dict[str, Any]:
    """What is left of a run in this process, which is killed after so many steps."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    table = {**{f"x{i}": X[:, i] for i in range(3)}, "y": np.where(X[:, 0] + rng.normal(size=400) > 0, "a", "b")}
    sites = hanse.virtual_sites(table, 6, by="y", alpha=1.0, rows_each=40, seed=1)
    settings, how = RUNS[name]
    steps: list[tuple[int, str, str]] = []
    models: list[tuple[int, str]] = []

    def heard(update: Happening) -> None:
        if update.step is not None:
            steps.append((update.step.step, update.step.label, update.step.started))
            if len(steps) == die_after:
                os.kill(os.getpid(), signal.SIGKILL)

    with hanse.simulate(sites, workers=2, folder=folder, **how) as federation:
        experiment = federation.experiment(target="y", sample_id_column=None, **settings).propose()
        look = (lambda n, result: models.append((n, digest(result.record)))) if settings.get("keep_models") else None
        result = experiment.wait(progress=False, on_update=heard, global_evaluate=look)
    return {"digest": digest(result.record), "metrics": result.metrics, "steps": steps, "models": models}


def kill_each(folder: Path, names: list[str]) -> None:
    """Each of these runs in a process of its own, one after the other, until it is killed. They are copies of this
    one, which has loaded what they need: to load it took each of them longer than its run."""
    import sklearn.linear_model  # noqa: F401

    for name in names:
        if (child := os.fork()) == 0:
            try:
                run(folder / name, name, die_after=6)
            finally:  # it should have been killed
                os._exit(0)
        _, status = os.waitpid(child, 0)
        print(name, os.waitstatus_to_exitcode(status), flush=True)


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each run that is asked about, as a process left it that was killed."""
    folder = tmp_path_factory.mktemp("killed")
    here = (item for item in request.session.items if item.path == request.path)
    names = [item.callspec.params["name"] for item in here if "killed" in item.fixturenames]
    command = [sys.executable, "-W", "ignore", __file__, str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.stdout.splitlines() == [f"{name} {-signal.SIGKILL}" for name in names], done.stderr
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_who_is_killed_goes_on_and_ends_with_the_same_bytes(name: str, killed: Path, tmp_path: Path) -> None:
    usual = run(tmp_path / "usual", name)
    assert not any((tmp_path / "usual").iterdir())  # a completed run leaves nothing when its simulation is closed
    (kept,) = (killed / name).iterdir()
    assert (kept / "state").exists()
    moment = datetime.now(UTC).isoformat()
    found = run(killed / name, name)
    assert (found["digest"], found["metrics"]) == (usual["digest"], usual["metrics"])
    assert found["models"] == usual["models"]  # each round's once, those of before among them
    assert [step[:2] for step in found["steps"]] == [step[:2] for step in usual["steps"]]
    assert sum(step[2] < moment for step in found["steps"]) >= 1  # some are those of the process that was killed
    assert not kept.exists()


class Moments:
    """Copies of a folder as it was at every moment at which a process that is killed would leave it."""

    def __init__(self, folder: Path, into: Path) -> None:
        self.folder, self.into = folder, into
        self.copies: list[Path] = []

    def look(self) -> None:
        copy = self.into / str(len(self.copies))
        if self.folder.exists():
            shutil.copytree(self.folder, copy)
            self.copies.append(copy)

    def after(self, change: Any) -> Any:
        def changed(*given: Any, **named: Any) -> Any:
            found = change(*given, **named)
            self.look()
            return found

        return changed


def test_who_is_killed_at_any_write_ends_with_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "states"
    settings = {"rounds": 3, "keep_models": True, "fraction": 0.5, "evaluate_every": 2}  # measured in a step of its own

    def learned(folder: Path | None, then: Any = None) -> tuple[str, list[tuple[int, str]]]:
        models: list[tuple[int, str]] = []
        with hanse.simulate({name: rows() for name in "uv"}, folder=folder) as federation:
            experiment = federation.experiment(target="y", sample_id_column=None, **SGD | settings).propose()
            result = experiment.wait(False, global_evaluate=lambda n, one: models.append((n, digest(one.record))))
            if then:
                then()
        return digest(result.record), models

    usual = learned(None)
    moments = Moments(folder, tmp_path)
    with monkeypatch.context() as patch:
        for module, name in ((kept_run, "write_whole"), (KeptRun, "add"), (os, "unlink"), (os, "rmdir")):
            patch.setattr(module, name, moments.after(getattr(module, name)))
        assert learned(folder, moments.look) == usual
    assert len(moments.copies) > 10
    for copy in moments.copies:
        for steps in copy.glob("*/steps"):
            with open(steps, "ab") as file:
                file.write(b'{"step": ')  # half a record
        assert learned(copy) == usual
        assert not any(copy.iterdir())


def test_a_run_that_has_ended_is_there_until_its_model_could_be_kept(tmp_path: Path) -> None:
    """A result is in memory alone: where writing it fails, or the process ends, its last step alone is done again."""

    def learned(fails: bool) -> tuple[str, list[str]]:
        with hanse.simulate({"u": rows(), "v": rows()}, folder=tmp_path) as federation:
            result = federation.experiment(**SGD, target="y", sample_id_column=None).run(progress=False)
            if fails:
                raise OSError("the disk is full")
        return digest(result.record), [step.started for step in result.rounds]

    with pytest.raises(OSError, match="full"):
        learned(fails=True)
    (kept,) = tmp_path.iterdir()
    moment = datetime.now(UTC).isoformat()
    _, started = learned(fails=False)
    assert [when < moment for when in started].count(False) == 1
    assert not kept.exists()


def test_the_same_run_asked_for_again_is_done_again(tmp_path: Path) -> None:
    with hanse.simulate({"u": rows(), "v": rows()}, folder=tmp_path) as federation:
        one, two = (
            federation.experiment(**SGD, target="y", sample_id_column=None).run(progress=False) for _ in range(2)
        )
    assert digest(one.record) == digest(two.record)
    assert not {step.started for step in one.rounds} & {step.started for step in two.rounds}


def rows() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    return {"a": X[:, 0], "b": X[:, 1], "y": np.where(X[:, 0] > 0, "yes", "no")}


@contextlib.contextmanager
def stuck(step: int) -> Iterator[None]:
    """From this step on no site answers, so nobody has to be quicker than a run."""
    handle = SimulatedRun._handle

    async def waits(run: SimulatedRun, crew: Any, node: str, peer: str, message: Message, progress: Any) -> Message:
        if message.body.data["step"] >= step:
            await asyncio.Event().wait()
        return await handle(run, crew, node, peer, message, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedRun, "_handle", waits)
        yield


def seen(experiment: Any, steps: int) -> None:
    """Waits for so many steps of a run."""
    for number, _ in enumerate((update for update in experiment.watch() if update.step is not None), 1):
        if number == steps:
            break


def test_a_cancelled_run_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    settings: dict[str, Any] = SGD | {"target": "y", "sample_id_column": None}
    with hanse.simulate({"u": rows(), "v": rows()}) as federation:
        usual = federation.experiment(**settings).run(progress=False)
        with pytest.raises(Conflict, match="folder"):
            federation.experiment(**settings).propose().resume()
    with hanse.simulate({"u": rows(), "v": rows()}, folder=tmp_path) as federation:
        with stuck(4):
            experiment = federation.experiment(**settings).propose()
            seen(experiment, 4)
            with pytest.raises(Conflict, match="under way already"):
                federation.experiment(**settings).propose()
            experiment.cancel()
        found = experiment.resume().wait(progress=False)
        assert digest(found.record) == digest(usual.record)
        assert len(found.rounds) == len(usual.rounds)
        with pytest.raises(Conflict, match="completed"):
            experiment.resume()


def test_other_rows_settings_or_ways_are_another_run(tmp_path: Path) -> None:
    """What was kept of one is not gone on from by another."""
    fewer = {name: column[:50] for name, column in rows().items()}
    cases: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
        (rows(), {}, {}),
        (fewer, {}, {}),
        (rows(), {"batched": True}, {}),
        (rows(), {"policy": {"minimum_count": 2}}, {}),
        (rows(), {}, {"learning_rate": 0.5}),
    ]
    for table, how, more in cases:
        with stuck(1), hanse.simulate({"u": table, "v": rows()}, folder=tmp_path, **how) as federation:
            seen(federation.experiment(target="y", sample_id_column=None, **SGD, **more).propose(), 1)
    assert len(list(tmp_path.iterdir())) == len(cases)  # each was cancelled, and has a folder of its own


def test_what_is_kept_is_what_was_given(tmp_path: Path) -> None:
    run = KeptRun(tmp_path / "run")
    assert run.before() is None
    with pytest.raises(Conflict, match="under way already"):
        KeptRun(tmp_path / "run")
    state = State({"round": 1}, {"w": np.arange(3.0)})
    memory = NodeMemory({"x": {1: [np.float32(2), (None, True, -math.inf, 7)]}}, {"k": "é"}, {"0": {"e": np.eye(2)}})
    run.add(Step(0, "train", 1, "then", participants={"a": {"weight": 2.0}}))
    run.model(1, state)
    run.keep(1, state, {"a": remembered.packed(memory)})
    run.add(Step(1, "train", 2, "later"))  # nothing goes on from it
    run.model(1, State({}))  # measured, and no other
    run.model(2, state)  # nor from this
    run.close()
    again = KeptRun(tmp_path / "run")
    before = again.before()
    assert before is not None
    assert (before.step, digest(before.state)) == (1, digest(state))
    assert [step.participants for step in before.steps] == [{"a": {"weight": 2.0}}]
    found = remembered.unpacked(before.sites["a"])
    assert repr(found) == repr(memory)
    assert {number: digest(model) for number, model in before.models.items()} == {1: digest(state)}
    assert sorted(path.name for path in (tmp_path / "run").glob("model-*")) == ["model-1"]
    again.add(Step(1, "train", 2, "anew"))
    again.keep(2, state, {})
    again.close()
    third = KeptRun(tmp_path / "run")
    found_third = third.before()
    assert found_third is not None
    assert [step.started for step in found_third.steps] == ["then", "anew"]
    third.close(ended=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["state", "steps", "model-1"])
def test_what_is_damaged_is_not_gone_on_from(file: str, tmp_path: Path) -> None:
    run, state = KeptRun(tmp_path), State({}, {"w": np.arange(3.0)})
    run.add(Step(0, "train", 1, "then"))
    run.model(1, state)
    run.keep(1, state, {})
    run.close()
    whole = (tmp_path / file).read_bytes()
    for wrong in (whole[:-1], whole[:-1] + b"\x00"):
        (tmp_path / file).write_bytes(wrong)
        if file == "steps" and len(wrong) == len(whole):
            continue  # a line's end
        again = KeptRun(tmp_path)
        with pytest.raises(DataError, match="damaged; remove its folder"):
            again.before()
        again.close()


def test_sites_keep_their_own_memories_in_whatever_order_they_are_told() -> None:
    sites = {name: remembered.packed(NodeMemory({name: np.full(2, ord(name))})) for name in "cab"}
    found = remembered.apart(load(dump(remembered.together(sites))))
    assert {name: digest(record) for name, record in found.items()} == {n: digest(r) for n, r in sites.items()}


def test_what_no_file_holds_is_said() -> None:
    with pytest.raises(remembered.Unkept, match="a set is remembered"):
        remembered.packed(NodeMemory({"a": {1}}))
    assert dump(remembered.together({}))


if __name__ == "__main__":
    kill_each(Path(sys.argv[1]), sys.argv[2:])
