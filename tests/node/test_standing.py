"""A standing approval is for one hash, one person and one purpose, ends, and never goes before the rules."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from one_node import probe, proposal, running

from hanse.bundle import Bundle
from hanse.cli import group
from hanse.differences import differences
from hanse.errors import ConfigError, NotFound
from hanse.node.approvals import Approvals, Proposal
from hanse.node.settings import NodeSettings, Policy
from hanse.node.standing import StandingApprovals
from hanse.store.audit import AuditLog

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def parsed(bundle: Bundle, run: str = "run-1", **more: Any) -> Proposal:
    return Proposal.parse(proposal(bundle, run, **more))


@pytest.fixture
def standing(tmp_path: Path) -> Any:
    made = StandingApprovals(tmp_path)
    yield made
    made.close()


def test_it_fits_the_same_hash_person_and_purpose_and_nothing_else(standing: StandingApprovals, tmp_path: Path) -> None:
    one = parsed(probe())
    standing.give(one, TOMORROW, "owner")
    other = StandingApprovals(tmp_path)  # another process
    assert other.fitting(parsed(probe(), "run-2")) is not None
    for changed in (
        parsed(probe(128)),
        dataclasses.replace(one, proposer="Eve"),
        dataclasses.replace(one, proposer="ada"),
        dataclasses.replace(one, purpose="to test "),
        dataclasses.replace(one, purpose=""),
    ):
        assert other.fitting(changed) is None
    other.close()
    assert oct((tmp_path / "standing.db").stat().st_mode & 0o777) == "0o600"


def test_it_ends(standing: StandingApprovals) -> None:
    one = parsed(probe())
    for past in (datetime.now(UTC) - timedelta(seconds=1), datetime.now() + timedelta(days=1)):
        with pytest.raises(ConfigError, match="in the future"):
            standing.give(one, past, "owner")
    standing.give(one, TOMORROW, "owner")
    standing._db.execute("UPDATE standing SET until = ?", ((datetime.now(UTC) - timedelta(seconds=1)).isoformat(),))
    assert standing.fitting(one) is None
    with pytest.raises(NotFound):
        standing.take_back("beef")
    with pytest.raises(NotFound):
        standing.take_back("")
    assert [s.sha256 for s in standing.take_back(one.sha256[:8])] == [one.sha256]
    assert standing.given() == []


def test_a_clock_that_is_put_back_gives_none_back(standing: StandingApprovals) -> None:
    one = parsed(probe())
    standing.give(one, TOMORROW, "owner")
    standing.end_by(TOMORROW - timedelta(seconds=1))
    assert standing.fitting(one) is not None
    standing.end_by(TOMORROW)
    assert standing.fitting(one) is None
    standing.give(one, TOMORROW, "owner")  # given since
    assert standing.fitting(one) is not None
    assert len(standing.given()) == 1


def test_at_a_node_the_same_is_approved_by_itself_and_another_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.propose(bundle)
            first = node.agent.approvals.get("run-1")
            assert first.state == "pending"
            node.agent.gate.standing.give(first, datetime.now(UTC) + timedelta(hours=12), "olga")
            said = await node.propose(bundle, "run-2")
            assert said.data["decision"] == "accept"
            found = node.agent.approvals.get("run-2")
            assert found.actor == "standing approval of olga"
            assert datetime.fromisoformat(found.until) < datetime.now(UTC) + timedelta(hours=13)  # not 30 days
            assert node.actions()[-1] == "proposal.approved"
            for run, changed, more in (
                ("run-3", probe(128), {}),
                ("run-4", bundle, {"proposer": "Eve"}),
                ("run-5", probe(purpose="something else"), {}),
            ):
                said = await node.propose(changed, run, **more)
                assert said.data["decision"] == "pending", run
            node.agent.gate.revoke("run-2", actor="olga")  # who takes one back wants no other by itself
            said = await node.propose(bundle, "run-6")
            assert said.data["decision"] == "pending"
            node.agent.gate.standing.give(node.agent.approvals.get("run-6"), TOMORROW, "olga")
            node.agent.gate.reject("run-6", actor="olga", reason="enough")
            said = await node.propose(bundle, "run-7")
            assert said.data["decision"] == "pending"

    asyncio.run(main())


def test_it_does_not_go_before_the_rules(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, policy=Policy(allowed_algorithms=("fedavg",))) as node:
            bundle = probe()
            await node.propose(bundle)
            node.agent.gate.standing.give(node.agent.approvals.get("run-1"), TOMORROW, "olga")
            said = await node.propose(bundle, "run-2")
            assert said.data["decision"] == "pending"
            assert node.actions()[-1] == "proposal.undecided"

    asyncio.run(main())


def invoke(home: Path, *arguments: str) -> Any:
    return CliRunner().invoke(group, ["node", *arguments, "--home", str(home)])


def test_the_commands(tmp_path: Path) -> None:
    NodeSettings("alpha").save(tmp_path)
    approvals = Approvals(tmp_path)
    for run, bundle in (("run-1", probe()), ("run-2", probe(128, num_rounds=7))):
        approvals.receive(parsed(bundle, run))
    approvals.close()
    done = invoke(tmp_path, "approve", "run-1", "--until", "2020-01-01")
    assert isinstance(done.exception, ConfigError)
    assert Approvals(tmp_path).get("run-1").state == "pending"  # nothing half
    none = invoke(tmp_path, "show", "run-2", "--changes")
    assert "nothing of Ada on this data set was approved before" in none.output
    day = f"{TOMORROW + timedelta(days=40):%Y-%m-%d}"
    done = invoke(tmp_path, "approve", "run-1", "--until", day)
    assert "proposed again by Ada for the same purpose, it is approved until" in done.output, done.exception
    assert "Ada" in invoke(tmp_path, "standing").output
    told = invoke(tmp_path, "show", "run-2", "--changes").output
    assert "# against run run-1, hash" in told
    assert "setting num_rounds: 7, before" in told
    assert "code" not in told  # it is the same
    sha = Approvals(tmp_path).get("run-1").sha256
    assert "is asked again" in invoke(tmp_path, "standing", "--take-back", sha[:10]).output
    actions = [e.action for e in AuditLog(tmp_path / "audit.jsonl").entries()]
    assert actions == ["proposal.approved", "standing.given", "standing.taken_back"]
    assert AuditLog(tmp_path / "audit.jsonl").verify().ok


# ---------------------------------------------------------------- what has changed


def test_everything_that_an_owner_decides_by_is_told() -> None:
    before = probe().content
    plan = {"name": "p", "source": "a = 1\nb = 2\n"}
    after = {
        **before,
        "hanse": "9",
        "config": {**before["config"], "num_rounds": 7, "plan": plan},
        "alignment": {"features": ["age"], "kinds": {}},
        "datasets": {"beta": {"name": "x", "version": "1", "most_rows": 50}},
        "gathering": {**before["gathering"], "sum": "secure"},
        "transforms": [{"name": "clip", "norm": 1.0}],
        "code": {**before["code"], "hanse.algorithms.probe": before["code"]["hanse.algorithms.probe"] + "\nx = 1"},
    }
    told = "\n".join(differences(before, after))
    for said in (
        "release: 9, before",
        "setting num_rounds: 7, before",
        "code that is new: the training plan, 2 lines",
        "column now read: age",
        "now takes part: beta, with at most 50 rows",
        'what is gathered as sum: by "secure", before by "plain"',
        "before it leaves:",
        "code that is another: hanse.algorithms.probe",
        "  +x = 1",
    ):
        assert said in told, told
    back = "\n".join(differences(after, before))
    for said in ("column not read any more: age", "takes no part any more: beta", "code that does not run any more"):
        assert said in back
    assert list(differences(before, before)) == []


def test_a_plan_that_changes_by_a_line_shows_the_line() -> None:
    one = {"config": {"plan": {"source": "a = 1\nb = 2\n"}}}
    two = {"config": {"plan": {"source": "a = 1\nb = 3\n"}}}
    assert [line for line in differences(one, two) if line.startswith(("  -b", "  +b"))] == ["  -b = 2", "  +b = 3"]
