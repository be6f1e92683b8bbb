"""Callbacks are told what the result says, in order; the real libraries' files are read back by themselves.

The last three need tensorboard, mlflow-skinny and wandb: ``pip install 'hanse[tensorboard,mlflow,wandb]'`` in an
environment of their own, as they bring much along.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import hanse
from experiment import sites
from hanse.errors import ConfigError, NodeFailed, RunFailed
from hanse.experiment import records
from hanse.experiment.callbacks import Begun, Relay
from hanse.experiment.results import Result
from hanse.models import logistic_regression
from hanse.rounds import Step

RUN: dict[str, Any] = {
    "model": "logistic_regression",
    "federated_strategy": "fedavg",
    "model_options": {"C": 0.5},
    "rounds": 3,
    "target": "disease",
    "sample_id_column": None,
}


class Notebook:
    def __init__(self, fails: str = "") -> None:
        self.told: list[tuple[Any, ...]] = []
        self._fails = fails

    def began(self, run: Begun) -> None:
        self._note("began", run.run_id, run.title, run.settings)

    def measured(self, round: int, metrics: Mapping[str, float]) -> None:
        self._note("measured", round, dict(metrics))

    def ended(self, state: str, reason: str, result: Result | None) -> None:
        self._note("ended", state, reason, result)

    def _note(self, *what: Any) -> None:
        self.told.append(what)
        if what[0] == self._fails:
            raise ValueError("the server is away")


def learn(*callbacks: Any, **more: Any) -> Result:
    with hanse.simulate(sites.cancer()) as federation:
        return federation.experiment(**RUN).run(progress=False, callbacks=callbacks, **more)


def test_they_are_told_what_the_result_says() -> None:
    told = Notebook()
    result = learn(told)
    assert [what[0] for what in told.told] == ["began", *["measured"] * 4, "ended"]
    assert told.told[0][1:3] == (result.run_id, "logistic regression for 'disease'")
    assert told.told[0][3]["model_options"] == {"C": 0.5}
    assert told.told[-1][1:] == ("completed", "3 rounds", result)
    for (_, number, metrics), row in zip(told.told[1:-1], result.history, strict=True):
        assert number == row["round"]
        for name in ("loss", "accuracy", "auc", "nodes", "failures", "seconds"):
            assert metrics[name] == row[name]
        assert (metrics["loss_min"], metrics["loss_max"]) == row["spread"]["loss"]


def test_what_is_measured_on_central_rows_is_told_too() -> None:
    told = Notebook()
    rows = sites.cancer()["site1"]
    result = learn(told, global_evaluate=lambda number, model: {"loss": model.evaluate(rows)["loss"]})
    central = {what[1]: what[2]["central_loss"] for what in told.told[1:-1] if "central_loss" in what[2]}
    assert central == {entry["round"]: entry["loss"] for entry in result.central}
    assert len(central) == 4


def test_steps_are_looked_at_as_often_in_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many rounds, twice as many steps looked at; and what is told is what the whole history says."""
    seen: list[int] = []
    whole = records.history

    def counted(steps: Any) -> Any:
        seen.append(len(steps))
        return whole(steps)

    monkeypatch.setattr(records, "history", counted)

    def looked(rounds: int) -> int:
        seen.clear()
        told = Notebook()
        relay, steps = Relay([told], Begun("run", "title", {})), list[Step]()
        for number in range(1, rounds + 1):
            failed = Step(2 * number, "train", number, "", seconds=2.0, status="failed", failures={"b": "lost"})
            metrics = {"loss": 1 / number, "evaluated_round": number - 1}
            steps += [failed, Step(2 * number + 1, "train", number, "", seconds=0.5, metrics=metrics)]
            relay.step(steps[-2])
            relay.step(steps[-1])
        rows = whole(steps)
        assert [what[1] for what in told.told[1:]] == list(rows)
        for _, number, metrics in told.told[1:]:
            about = ("loss", "failures", "seconds")
            assert [metrics[name] for name in about] == [rows[number][name] for name in about]
        return sum(seen)

    assert looked(80) < 3 * looked(40)  # of a square it would be four times


@pytest.mark.parametrize("when", ["began", "measured", "ended"])
def test_one_that_fails_is_told_nothing_more_and_the_run_goes_on(when: str) -> None:
    broken, other = Notebook(when), Notebook()
    with pytest.warns(UserWarning, match="Notebook failed .ValueError: the server is away. and is told nothing more"):
        result = learn(broken, other)
    assert result.metrics["auc"] > 0.9
    assert [what[0] for what in broken.told].count(when) == 1
    assert broken.told[-1][0] == when
    assert len(other.told) == 6


def test_the_end_of_a_run_without_a_result_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    left = Notebook()
    with pytest.raises(ZeroDivisionError):
        learn(left, global_evaluate=lambda number, model: 1 / 0)
    assert left.told[-1][:2] == ("ended", "left")

    def fails(*_: Any, **__: Any) -> Any:
        raise NodeFailed("the disk of this hospital is on fire")

    monkeypatch.setattr(logistic_regression.LogisticRegression, "train", fails)
    told = Notebook()
    with pytest.raises(RunFailed):
        learn(told)
    assert told.told[-1][:2] == ("ended", "failed")
    assert "on fire" in told.told[-1][2]


@pytest.mark.parametrize(("module", "name"), [("tensorboard", "TensorBoard"), ("mlflow", "MLflow"), ("wandb", "WandB")])
def test_a_library_that_is_not_there_is_named(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins
    import importlib

    real = builtins.__import__

    def without(what: str, *more: Any, **named: Any) -> Any:
        if what.split(".")[0] == module:
            raise ImportError
        return real(what, *more, **named)

    callback = getattr(importlib.import_module(f"hanse.experiment.callbacks.{module}"), name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=f"pip install 'hanse.{module}.'"):
        callback("somewhere")


# ---------------------------------------------------------------- the real libraries


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from hanse.experiment.callbacks.tensorboard import TensorBoard

    result = learn(TensorBoard(tmp_path))
    read = EventAccumulator(str(tmp_path / result.run_id))
    read.Reload()
    for name in ("loss", "auc", "accuracy_max"):
        scalars = read.Scalars(name)
        assert [scalar.step for scalar in scalars] == [0, 1, 2, 3]
    assert [s.value for s in read.Scalars("loss")] == pytest.approx(result.history.column("loss"), rel=1e-6)
    [settings] = read.Tensors("hanse/settings")
    assert b'"model_options.C": 0.5' in settings.tensor_proto.string_val[0]
    [ended] = read.Tensors("hanse/ended")
    assert ended.tensor_proto.string_val[0] == b"completed. 3 rounds"


def test_mlflow_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs more than mlflow-skinny
    from mlflow.tracking import MlflowClient

    from hanse.experiment.callbacks.mlflow import MLflow

    uri = f"file://{tmp_path / 'runs'}"
    result = learn(MLflow(uri, "heart", model=True))
    again = learn(MLflow(uri, "heart"))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("heart")
    assert experiment is not None
    found = {r.data.tags["hanse.run"]: r for r in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == 2
    run = found[again.run_id] if result.run_id == again.run_id else found[result.run_id]
    assert run.info.status == "FINISHED"
    assert run.data.params["model_options.C"] == "0.5"
    assert run.data.params["num_rounds"] == "3"
    assert run.data.tags["hanse.state"] == "completed"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(row["round"], row["loss"]) for row in result.history]
    kept = list(tmp_path.rglob("result.safetensors"))
    assert [hanse.load_result(file).metrics for file in kept] == [result.metrics]


def test_wandb_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    from hanse.experiment.callbacks.wandb import WandB

    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    result = learn(WandB("heart", tmp_path))
    [file] = tmp_path.rglob("run-*.wandb")
    rounds, config, ended = [], {}, {}
    for raw in _in_log(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(raw)
        if record.HasField("history"):
            row = {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
            rounds.append((row["round"], row["loss"]))
        for part, into in ((record.run.config, config), (record.config, config), (record.summary, ended)):
            into |= {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in part.update}
    assert rounds == [(row["round"], pytest.approx(row["loss"])) for row in result.history]
    assert config["hanse_run"] == result.run_id
    assert config["model_options.C"] == 0.5
    assert ended["hanse_state"] == "completed"


def _in_log(raw: bytes) -> Iterator[bytes]:
    """The records of a file ``.wandb``: seven bytes, then LevelDB's log format (checksum, length, kind; blocks of 32
    kB). wandb 0.31 ships no reader."""
    assert raw[:4] == b":W&B"
    place, found = 7, b""
    while place + 7 <= len(raw):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(raw[place + 4 : place + 6], "little"), raw[place + 6]
        part = raw[place + 7 : place + 7 + length]
        found, place = part if kind in (1, 2) else found + part, place + 7 + length
        if kind in (1, 4):
            yield found
