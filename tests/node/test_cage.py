"""The code of a training plan sees the approved data set and nothing else of this machine; what it may not ask of the
kernel stands in ``test_system_calls.py``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from one_node import running

from hanse import algorithms, features, rounds
from hanse.bundle import Bundle, freeze
from hanse.config import RunConfig
from hanse.errors import NotAllowed, RunFailed
from hanse.messages import Message
from hanse.node import cage, worker
from hanse.node.catalogue import Catalogue
from hanse.node.settings import Policy
from hanse.transports.local import LocalTransport
from tests.waiting import PATIENCE, eventually

needs_landlock = pytest.mark.skipif(not cage.abi(), reason="this kernel has no Landlock; plans are refused here")

LOOK = """
import json, os, signal, sys
from pathlib import Path
from hanse.node import cage
seen, tried, other = map(json.loads, sys.argv[1:4])
assert cage.shut([*cage.python(), *map(Path, cage.SYSTEM), *map(Path, seen)]) == cage.abi()
said = {}
def attempt(name, do):
    try:
        do()
        said[name] = "done"
    except OSError as error:
        said[name] = type(error).__name__
for path in tried:
    attempt("read " + path, lambda: open(path, "rb").read(1))
    attempt("list " + path, lambda: os.listdir(path))
    attempt("through proc " + path, lambda: open("/proc/self/root" + path, "rb").read(1))
    attempt("write " + path, lambda: open(path, "ab").close())
    attempt("remove " + path, lambda: os.unlink(path))
attempt("new", lambda: open(os.path.join(os.path.dirname(tried[0]), "new"), "w").close())
attempt("tmp", lambda: open("/tmp/of-a-plan", "w").close())
attempt("kill", lambda: os.kill(other, signal.SIGTERM))
attempt("memory", lambda: open(f"/proc/{other}/mem", "rb").read(1))
attempt("environment", lambda: open(f"/proc/{other}/environ", "rb").read(1))
attempt("child", os.fork)
print(json.dumps(said))
"""


@needs_landlock
def test_what_is_not_named_is_not_there(tmp_path: Path) -> None:
    seen, other = tmp_path / "seen.csv", tmp_path / "other.csv"
    for path in (seen, other):
        path.write_text("a,b\n1,2\n")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        try:
            arguments = [json.dumps(value) for value in ([str(seen)], [str(other), str(seen)], stranger.pid)]
            done = subprocess.run(
                [sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, timeout=PATIENCE
            )
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert said.pop("child") == "PermissionError"
    allowed = {f"read {seen}", f"through proc {seen}"}
    assert {name for name, result in said.items() if result == "done"} - {"kill"} == allowed
    if cage.abi() >= 6:
        assert said["kill"] == "PermissionError"
    assert other.read_text() == "a,b\n1,2\n"
    assert not (tmp_path / "new").exists()


PLAN = """
import os
import torch

def reached():
    found = []
    for path in PATHS:
        for do in (lambda: open(path, "rb").read(1), lambda: os.listdir(path), lambda: open(path, "ab")):
            try:
                do()
                found.append(path)
            except OSError:
                pass
    return found

def build(task, options):
    if reached():
        raise KeyError
    return torch.nn.Linear(len(task.features), 1)
"""


def write_csv(path: Path, rows: int = 60) -> None:
    lines = ["age,marker,disease", *(f"{30 + i % 40},{i % 7},{'yes' if i % 3 else 'no'}" for i in range(rows))]
    path.write_text("\n".join(lines) + "\n")


def plan_bundle(home: Path, paths: list[str], source: str = PLAN, model: str = "torch_module") -> Bundle:
    dataset = Catalogue(home).get("visits")
    plan = {"name": "plan", "source": source.replace("PATHS", repr(paths))}
    config = RunConfig.parse(
        {"model_name": model, "num_rounds": 2, "plan": plan, "target_column": "disease", "local_epochs": 1}
    )
    alignment = features.align({"alpha": dict(dataset.schema)}, "intersection", targets=["disease"])
    return freeze(config, alignment.to_json(), {"alpha": {"name": dataset.name, "version": dataset.version}})


async def run_of(node: Any, bundle: Bundle, run: str = "run-1") -> None:
    await node.approved(bundle, run)

    async def handler(peer: str, message: Message, progress: Any) -> Message:
        body = await node.coordinator.ask(message.kind, message.body.data, message.body.arrays)
        return Message("reply", message.id, "alpha", body)

    algorithm, transport = algorithms.build(bundle.config), LocalTransport({"alpha": handler})
    await rounds.Loop(algorithm, bundle.config, ["alpha"], transport, rounds.Forgetful(), run, bundle.sha256).go()


def prepared(tmp_path: Path) -> Path:
    """The node's home, with two data sets that lie elsewhere."""
    (tmp_path / "data").mkdir()
    for name in ("visits", "others"):
        write_csv(tmp_path / "data" / f"{name}.csv")
        Catalogue(tmp_path / "home").add(tmp_path / "data" / f"{name}.csv", name)
    return tmp_path / "home"


ESTIMATOR = """
from sklearn.linear_model import SGDClassifier

def build(task, options):
    return SGDClassifier(loss="log_loss")

def training_data(X, y, batch_size, rng):
    for path in PATHS:
        open(path).close()
    return [(X, y)]
"""


@needs_landlock
def test_an_estimator_of_a_plan_learns_in_the_cage(tmp_path: Path) -> None:
    home, source = prepared(tmp_path), (ESTIMATOR, "sklearn_estimator")

    async def main() -> None:
        async with running(home, policy=Policy(allow_training_plans=True)) as node:
            if not node.agent.worker.offline:
                pytest.skip("this system has no network namespaces; plans are refused here")
            await run_of(node, plan_bundle(home, [str(tmp_path / "data" / "visits.csv")], *source))
            with pytest.raises(RunFailed, match="PermissionError in line 9: open"):
                await run_of(node, plan_bundle(home, [str(tmp_path / "data" / "others.csv")], *source), "run-2")

    asyncio.run(main())


@pytest.mark.torch
@needs_landlock
def test_a_plan_learns_from_the_approved_data_set_and_reaches_nothing_else(tmp_path: Path) -> None:
    home = prepared(tmp_path)

    async def main() -> None:
        async with running(home, policy=Policy(allow_training_plans=True)) as node:
            if not node.agent.worker.offline:
                pytest.skip("this system has no network namespaces; plans are refused here")
            plain = node.agent.worker.pid
            files = ("node.toml", "approvals.db", "catalogue.json", "audit.jsonl")
            shut_out = [str(home), *(str(home / name) for name in files), f"/proc/{os.getpid()}/environ"]
            shut_out += [str(tmp_path / "data" / "others.csv"), str(tmp_path / "data"), "/root", "/tmp", "/etc/passwd"]
            await run_of(node, plan_bundle(home, shut_out))
            assert node.agent.worker.pid == plain  # what Hanse computes itself goes on elsewhere
            caged = node.agent.worker.caged
            assert caged is not None
            assert caged.pid is not None
            # the test can fail: what may be seen, is
            with pytest.raises(RunFailed, match="KeyError"):
                await run_of(node, plan_bundle(home, [str(tmp_path / "data" / "visits.csv")]), "run-2")
            log = (home / "plan.log").read_text()  # where the owner finds all of it
            assert "\nKeyError\n" in log
            assert "was the direct cause" in log
            for run in ("run-1", "run-2"):
                await node.coordinator.ask("finished", {"run": run, "state": "completed"})
            await eventually(lambda: node.agent.worker.caged is None)
            assert not (home / "cage").exists()

    asyncio.run(main())


@pytest.mark.torch
def test_a_node_that_cannot_shut_a_plan_in_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = prepared(tmp_path)
    monkeypatch.setattr(cage, "abi", lambda: 0)

    async def main() -> None:
        async with running(home, policy=Policy(allow_training_plans=True)) as node:
            bundle = plan_bundle(home, [])
            said = await node.agent.gate.examine(node.agent.approvals.get(await propose(node, bundle)))
            assert [d.reason for d in said if not d.allowed] == [d.reason for d in said if "Landlock" in d.reason]
            assert any("Landlock" in d.reason for d in said)

    async def propose(node: Any, bundle: Bundle) -> str:
        await node.propose(bundle)
        return "run-1"

    asyncio.run(main())


@pytest.mark.torch
@needs_landlock
def test_a_worker_that_says_it_is_not_in_a_cage_gets_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = prepared(tmp_path)
    real = worker._open

    def lies(packet: Any, land: Any, process: Any) -> Message:
        message = real(packet, land, process)
        if message.kind == "ready":
            return Message("ready", "", "", type(message.body)({**message.body.data, "caged": False}))
        return message

    monkeypatch.setattr(worker, "_open", lies)

    async def main() -> None:
        async with running(home, policy=Policy(allow_training_plans=True)) as node:
            with pytest.raises(Exception, match="cannot shut the code of a training plan in"):
                await run_of(node, plan_bundle(home, []))

    asyncio.run(main())


@pytest.mark.torch
@needs_landlock
def test_a_data_set_whose_folder_holds_more_is_no_cage(tmp_path: Path) -> None:
    """What is approved is a folder, and another data set lies in it: the plan would see both."""
    from hanse.node.settings import TaskLimits
    from hanse.node.worker import Worker
    from hanse.node.workers import Workers

    home = prepared(tmp_path)
    catalogue = Catalogue(home)
    import dataclasses

    wide = dataclasses.replace(catalogue.get("visits"), path=tmp_path / "data")
    catalogue._write({"visits": wide, "others": catalogue.get("others")})
    workers = Workers(Worker(home, "alpha", TaskLimits(), {}))
    with pytest.raises(NotAllowed, match="would see another data set, which lies in the folder of the data set that"):
        workers._room(("visits", wide.version))
    catalogue._write({"visits": dataclasses.replace(wide, path=tmp_path)})
    with pytest.raises(NotAllowed, match="would see the node's folder"):
        workers._room(("visits", wide.version))
