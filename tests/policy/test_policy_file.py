"""The owner's own policies are one more rule of the gate: they name what decided, in the answer and in the audit."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from some_facts import facts

from hanse import policy
from hanse.cedar import files
from hanse.cli import group
from hanse.errors import ConfigError, NotAllowed, NotNow
from hanse.node.settings import NodeSettings, Policy
from hanse.registry import find
from hanse.rule import Decision
from tests.node.one_node import Node, probe, running

YES = '@id("tests") permit (principal, action, resource) when { context.purpose like "*test*" };\n'
NO = '@id("few-steps") @says("three steps are enough") forbid (principal, action, resource)\n'
NO += "when { context.step >= 3 };\n"
X = {"x": np.zeros(16, np.float32)}


def rule(tmp_path: Path, text: str = YES + NO) -> Any:
    (tmp_path / "mine.cedar").write_text(text)
    return find("policy", "policy_file").RULE({"policy_file": "mine.cedar", "home": str(tmp_path)})


def test_the_rule_says_which_policy_of_which_version_decided(tmp_path: Path) -> None:
    made = rule(tmp_path)
    version = files.read(tmp_path / "mine.cedar", find("policy", "policy_file").VOCABULARY).version
    assert made.decide(facts(step=2)) == Decision(True, "policy_file", by=f"tests of version {version}")
    said = made.decide(facts(step=3))
    assert not said.allowed
    assert said.reason == "forbidden by policy 'few-steps' (three steps are enough)"
    assert said.by == f"few-steps of version {version}"
    assert made.decide(facts(purpose="x", step=2)).by == f"no policy of version {version}"


def test_nothing_is_said_of_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "OVER_S", 0.0)
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    made = rule(tmp_path)
    (tmp_path / "mine.cedar").write_text("permit (")
    with pytest.raises(NotNow):
        made.decide(facts())
    with pytest.raises(NotNow):
        asyncio.run(policy.enforce([made], facts()))


async def answered(node: Node, bundle: Any, step: int) -> None:
    await node.task(bundle, {"round": 1 + step}, X, step=step)


def test_at_a_node_the_answer_and_the_audit_name_what_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "OVER_S", 0.0)
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    (tmp_path / "mine.cedar").write_text(YES + NO)

    async def main() -> None:
        async with running(tmp_path, policy=Policy(policy_file="mine.cedar")) as node:
            bundle = probe(num_rounds=9)
            await node.approved(bundle)
            await answered(node, bundle, 0)
            first = node.audit()[-1]
            assert first.action == "task.answered"
            assert first.detail["decided"].startswith("policy_file: tests of version ")
            with pytest.raises(NotAllowed, match="forbidden by policy 'few-steps' .three steps are enough."):
                await answered(node, bundle, 3)
            refused = node.audit()[-1]
            assert (refused.action, refused.detail["stage"]) == ("task.refused", "rules")
            assert refused.detail["decided"].startswith("policy_file: few-steps of version ")
            # the owner changes them; the next task is decided by what they are now
            (tmp_path / "mine.cedar").write_text(YES)
            await answered(node, bundle, 4)
            assert node.audit()[-1].detail["decided"] != first.detail["decided"]
            # broken, nothing is decided and nothing leaves; the run is to wait
            (tmp_path / "mine.cedar").write_text(YES.replace("purpose", "porpoise"))
            with pytest.raises(NotNow, match="cannot be read now"):
                await answered(node, bundle, 6)
            assert node.audit()[-1].detail["code"] == "not_now"
            assert "porpoise" not in node.coordinator.left.decode(errors="replace")

    asyncio.run(main())


def test_what_is_accepted_at_once_says_by_which_policy(tmp_path: Path) -> None:
    (tmp_path / "mine.cedar").write_text(YES)

    async def main() -> None:
        own = Policy(policy_file=str(tmp_path / "mine.cedar"), standing="accept-allowed")
        async with running(tmp_path / "home", policy=own) as node:
            await node.propose(probe())
            assert "policy_file: tests of version" in node.agent.approvals.get("run-1").reason
            await node.propose(probe(purpose="marketing"), "run-2")
            assert node.agent.approvals.get("run-2").state == "pending"
            assert "nothing permits it" in node.audit()[-1].detail["reason"]

    asyncio.run(main())


def test_a_typo_is_an_error_before_anything_changes(tmp_path: Path) -> None:
    (tmp_path / "mine.cedar").write_text(YES.replace("purpose", "porpoise"))
    NodeSettings("alpha").save(tmp_path)
    done = CliRunner().invoke(group, ["node", "policy", "set", "--home", str(tmp_path), "policy_file", "mine.cedar"])
    assert isinstance(done.exception, ConfigError)
    assert "porpoise" in done.exception.message
    assert NodeSettings.load(tmp_path).policy.policy_file == ""

    async def main() -> None:
        async with running(tmp_path, policy=Policy(policy_file="mine.cedar")):
            pass

    with pytest.raises(ConfigError, match="porpoise"):
        asyncio.run(main())


def test_a_simulation_asks_them_too(tmp_path: Path) -> None:
    import hanse
    from hanse.errors import Refused

    (tmp_path / "mine.cedar").write_text(YES)
    site = {"x": [float(i) for i in range(40)], "y": [i % 2 for i in range(40)]}
    simulated = hanse.simulate({"a": site, "b": site}, policy={"policy_file": str(tmp_path / "mine.cedar")})
    with pytest.raises(Refused, match="policy_file: nothing permits it"):
        simulated.experiment("logistic_regression", target="y", rounds=1, purpose="marketing").run()
    assert simulated.experiment("logistic_regression", target="y", rounds=1, purpose="a test").run()


def test_a_file_that_keeps_its_time_and_size_is_still_another_file(tmp_path: Path) -> None:
    made = rule(tmp_path, YES)
    status = os.stat(tmp_path / "mine.cedar")
    other = tmp_path / "other"
    other.write_text(YES.replace('"tests"', '"TESTS"'))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, tmp_path / "mine.cedar")
    made.decide(facts())
    time.sleep(files.SETTLED_S + 0.05)
    assert made.decide(facts()).by.startswith("TESTS of version")
