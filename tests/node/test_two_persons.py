"""Where an owner wants two persons, one is not enough: not the same one twice, not one without a passphrase."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from one_node import probe, proposal, running
from test_at_a_node import answer, people, query

import hanse.policy
from hanse.cedar import files
from hanse.errors import ConfigError, Conflict, NotAllowed, NotApproved, NotAuthenticated, NotFound
from hanse.node import control
from hanse.node.approvals import Approvals, Proposal
from hanse.node.approvers import Approvers
from hanse.node.cli import node as commands
from hanse.node.settings import NodeSettings, Policy

X = {"x": np.zeros(64, np.float32)}
TWO = {"two_persons": True}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("ada", "bob"):
        Approvers(tmp_path).add(name, f"passphrase of {name}")
    return tmp_path


def approve(home: Path, name: str, passphrase: str = "") -> Any:
    said = {"person": name, "passphrase": passphrase or f"passphrase of {name}"}
    return control.ask(home, "approve", run="run-1", actor=name, **said)


def test_an_approval_counts_with_the_second_persons(home: Path) -> None:
    async def main() -> None:
        async with running(home, policy=TWO) as node:
            await node.propose(probe())
            first = await asyncio.to_thread(approve, home, "ada")
            assert (first["state"], first["approvers"]) == ("pending", ["ada"])
            with pytest.raises(NotApproved, match="not decided yet"):
                await node.task(probe(), {"round": 1}, X)
            with pytest.raises(Conflict, match="a second person"):
                await asyncio.to_thread(approve, home, "ada")
            with pytest.raises(NotAuthenticated):
                await asyncio.to_thread(approve, home, "bob", "passphrase of ada")
            for wrong in ({}, {"person": "eve"}, {"person": "bob"}):
                with pytest.raises(NotAuthenticated):
                    await asyncio.to_thread(control.ask, home, "approve", run="run-1", actor="bob", **wrong)
            assert not node.agent.approvals.unsent()
            done = await asyncio.to_thread(approve, home, "bob")
            assert (done["state"], done["approvers"], done["actor"]) == ("approved", ["ada", "bob"], "ada")
            await node.task(probe(), {"round": 1}, X)
            assert [e.actor for e in node.audit() if e.action == "proposal.first_approval"] == ["ada"]
            signed = node.agent.approvals.get("run-1").signed("a")
            assert (signed.actor, signed.second) == ("ada", "bob")

    asyncio.run(main())


SMALL = """
@id("all") permit (principal, action, resource);
@id("two-for-large") @says("what is not small takes two persons")
forbid (principal, action == Action::"approve_alone", resource)
unless { context.purpose like "small: *" };
"""


def test_a_policy_says_what_takes_two(home: Path) -> None:
    (home / "rules.cedar").write_text(SMALL)
    small = probe(purpose="small: a test")

    async def main() -> None:
        policy = {"policy_file": "rules.cedar", "standing": "accept-allowed"}
        async with running(home, policy=policy, consent="coordinator") as node:
            assert (await node.propose(small, "run-2")).data["decision"] == "accept"
            await node.task(small, {"round": 1}, X, run="run-2")
            assert (await node.propose(probe())).data["decision"] == "pending"  # it is not accepted by itself
            [why] = [e.detail["reason"] for e in node.audit() if e.action == "proposal.undecided"]
            assert why == "forbidden by policy 'two-for-large' (what is not small takes two persons)"
            with pytest.raises(NotAuthenticated):
                await asyncio.to_thread(control.ask, home, "approve", run="run-1", actor="ada")
            said = {"run": "run-1", "sha256": probe().sha256, "decision": "accept", "account": "ada", "time": "now"}
            with pytest.raises(NotAllowed, match="what is not small takes two persons"):
                await node.coordinator.ask("consent", said)
            first = await asyncio.to_thread(approve, home, "ada")
            assert (first["state"], first["approvers"]) == ("pending", ["ada"])
            with pytest.raises(NotApproved, match="not decided yet"):
                await node.task(probe(), {"round": 1}, X)
            done = await asyncio.to_thread(approve, home, "bob")
            assert (done["state"], done["approvers"]) == ("approved", ["ada", "bob"])
            await node.task(probe(), {"round": 1}, X)

    asyncio.run(main())


ALL = '@id("all") permit (principal, action, resource);'


@pytest.mark.parametrize("how", ["setting", "policy"])
def test_statistics_are_not_answered_at_once_where_they_take_two(home: Path, how: str) -> None:
    """Settings that let them be answered at once answered them without anybody, whatever policies said of that."""
    (home / "rules.cedar").write_text(SMALL if how == "policy" else ALL)
    asked = query(people(home), ["mean", ["age"], {}, []])

    async def main() -> None:
        more = {"policy_file": "rules.cedar", "allow_federated_analytics": True, "two_persons": how == "setting"}
        async with running(home, policy=more) as node:
            assert (await node.propose(asked)).data["decision"] == "pending"
            with pytest.raises(NotApproved, match="not decided yet"):
                await answer(node, asked)
            for name in ("ada", "bob"):
                done = await asyncio.to_thread(approve, home, name)
            assert done["state"] == "approved"
            assert (await answer(node, asked)).arrays

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('@id("all") permit (principal, action == Action::"answer", resource);', "nothing permits it"),
        (
            ALL + '@id("sum") forbid (principal, action == Action::"approve_alone", resource) '
            "when { context.step + 9223372036854775807 > 0 && context.step + 9223372036854775807 > 1 };",
            "could not be evaluated|forbidden",
        ),
        (ALL, ""),
    ],
)
def test_what_policies_do_not_permit_one_person_does_not_do(home: Path, text: str, said: str) -> None:
    (home / "rules.cedar").write_text(text)

    async def main() -> None:
        async with running(home, policy={"policy_file": "rules.cedar"}) as node:
            await node.propose(probe())
            alone = await asyncio.to_thread(control.ask, home, "alone", run="run-1")
            assert alone["allowed"] == (not said)
            assert re.search(said, alone["reason"])

    asyncio.run(main())


def test_while_policies_cannot_be_read_it_takes_two(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "OVER_S", 0.0)
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    (home / "rules.cedar").write_text(ALL)

    async def main() -> None:
        async with running(home, policy={"policy_file": "rules.cedar"}) as node:
            await node.propose(probe())
            (home / "rules.cedar").write_text("permit (")
            alone = await asyncio.to_thread(control.ask, home, "alone", run="run-1")
            assert not alone["allowed"]
            assert "cannot be read now" in alone["reason"]
            with pytest.raises(NotAuthenticated):
                await asyncio.to_thread(control.ask, home, "approve", run="run-1", actor="ada")

    asyncio.run(main())


def test_the_command_asks_for_a_person_where_a_policy_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "rules.cedar").write_text(SMALL)
    monkeypatch.setenv("HANSE_PASSPHRASE", "passphrase of ada")

    def command(*more: str) -> Any:
        return CliRunner().invoke(commands, ["approve", "run-1", "--home", str(home), *more])

    async def main() -> None:
        async with running(home, policy={"policy_file": "rules.cedar"}) as node:
            await node.propose(probe())
            said = await asyncio.to_thread(command)
            assert "what is not small takes two persons" in str(said.exception)
            said = await asyncio.to_thread(command, "--as", "ada")
            assert "approved by ada; it counts once a second person approves it" in said.output

    asyncio.run(main())
    assert "start it, then approve" in str(command("--as", "ada").exception)


RULE = """
from hanse.rule import Decision


class Board:
    \"\"\"A rule that somebody else brings.\"\"\"

    name = "the_board"

    def __init__(self, policy):
        pass

    def decide(self, facts):
        return Decision(True, self.name)

    def approve_alone(self, facts):
        return Decision(False, self.name, "the board wants two")


RULE = Board
"""


@pytest.fixture
def board(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rule is among those of this process."""
    folder = tmp_path_factory.mktemp("ours")
    (folder / "policy").mkdir()
    (folder / "policy" / "the_board.py").write_text(RULE)
    sys.modules.pop("hanse.policy.the_board", None)
    monkeypatch.setattr(hanse.policy, "__path__", [*hanse.policy.__path__, str(folder / "policy")])
    return folder / "policy" / "the_board.py"


def at_rest(home: Path, *arguments: str) -> Any:
    return CliRunner().invoke(commands, [*arguments, "run-1", "--home", str(home)])


def joined(home: Path, **policy: Any) -> None:
    NodeSettings(node_id="alpha", policy=Policy(**policy)).save(home)


def test_at_a_node_that_does_not_run_every_rule_with_a_word_on_it_counts(home: Path, board: Path) -> None:
    joined(home)
    Approvals(home).receive(Proposal.parse(proposal(probe())))
    why = "the_board among its rules says whether one person may approve: start it, then approve"
    assert f"# to approve it: the node does not run, and {why}" in at_rest(home, "show").output
    for more in ((), ("--until", "2099-01-01"), ("--as", "ada")):
        assert why in str(at_rest(home, "approve", *more).exception)
    board.write_text("RULE = None")  # what cannot be asked
    sys.modules.pop("hanse.policy.the_board", None)
    assert "cannot be found out here (TypeError): start it" in str(at_rest(home, "approve").exception)
    assert Approvals(home).get("run-1").state == "pending"
    assert at_rest(home, "reject", "--reason", "no").exit_code == 0


def test_a_command_that_does_not_find_the_nodes_rules_knows_of_them(home: Path, board: Path) -> None:
    """A service has other variables than the shell in which its owner types."""

    async def main() -> None:
        async with running(home) as node:
            await node.propose(probe())

    asyncio.run(main())
    board.unlink()
    joined(home)
    assert "the_board" in str(at_rest(home, "approve").exception)
    (home / "asked_alone.json").write_text("{")
    assert "cannot be found out here (JSONDecodeError)" in str(at_rest(home, "approve").exception)
    assert Approvals(home).get("run-1").state == "pending"
    asyncio.run(main())  # without the rule, and what was noted is noted anew
    joined(home)
    assert "# to approve it: one person is enough" in at_rest(home, "show").output
    assert at_rest(home, "approve").exit_code == 0


def test_show_says_how_many_have_to_approve(home: Path) -> None:
    (home / "rules.cedar").write_text(SMALL)

    async def main() -> None:
        async with running(home, policy={"policy_file": "rules.cedar"}) as node:
            await node.propose(probe())
            said = await asyncio.to_thread(at_rest, home, "show")
            why = "forbidden by policy 'two-for-large' (what is not small takes two persons)"
            assert f"# to approve it: two persons, each with --as NAME ({why})" in said.output
            await node.propose(probe(purpose="small: a test"), "run-2")
            said = await asyncio.to_thread(CliRunner().invoke, commands, ["show", "run-2", "--home", str(home)])
            assert "# to approve it: one person is enough" in said.output

    asyncio.run(main())
    joined(home, two_persons=True)
    why = "its owner wants two persons for each run"
    assert f"# to approve it: two persons, each with --as NAME ({why})" in at_rest(home, "show").output


def test_one_person_says_no(home: Path) -> None:
    async def main() -> None:
        async with running(home, policy=TWO) as node:
            await node.propose(probe())
            await asyncio.to_thread(approve, home, "ada")
            await asyncio.to_thread(control.ask, home, "reject", run="run-1", actor="bob", reason="no")
            with pytest.raises(Conflict, match="rejected already"):
                await asyncio.to_thread(approve, home, "bob")
            with pytest.raises(NotApproved):
                await node.task(probe(), {"round": 1}, X)

    asyncio.run(main())


def test_accounts_at_the_coordinator_are_no_persons_of_this_node(home: Path) -> None:
    """A coordinator that lies has as many accounts as it likes, and one person may have one of any name."""

    async def main() -> None:
        async with running(home, policy=TWO, consent="coordinator") as node:
            await node.propose(probe())
            said = {"run": "run-1", "sha256": probe().sha256, "decision": "accept", "account": "ada", "time": "now"}
            for account in ("ada", "eve", "ada (at the coordinator)"):
                with pytest.raises(NotAllowed, match="two persons"):
                    await node.coordinator.ask("consent", {**said, "account": account})
            await asyncio.to_thread(approve, home, "ada")
            with pytest.raises(NotApproved):
                await node.task(probe(), {"round": 1}, X)
            with pytest.raises(NotAllowed, match="two persons"):
                await node.coordinator.ask("consent", {**said, "account": "bob"})
            with pytest.raises(NotApproved):
                await node.task(probe(), {"round": 1}, X)
            await asyncio.to_thread(approve, home, "bob")
            await node.task(probe(), {"round": 1}, X)

    asyncio.run(main())


def test_nothing_is_accepted_by_itself(home: Path) -> None:
    async def main() -> None:
        async with running(home, policy={**TWO, "standing": "accept-allowed"}) as node:
            assert (await node.propose(probe())).data["decision"] == "pending"

    asyncio.run(main())


def test_nothing_is_approved_until_a_day(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by who could have given it alone before, nor by one who approves again what two have approved."""

    async def main() -> None:
        async with running(home, policy=TWO) as node:
            given = node.agent.gate.standing.give(
                Proposal.parse(proposal(probe(), "run-1", "alpha")), datetime.now(UTC) + timedelta(days=9), "eve"
            )
            assert given.days_left > 8
            assert (await node.propose(probe())).data["decision"] == "pending"
            for name in ("ada", "bob"):
                await asyncio.to_thread(approve, home, name)
            monkeypatch.setenv("HANSE_PASSPHRASE", "passphrase of ada")
            arguments = ["approve", "run-1", "--until", "2099-01-01", "--home", str(home), "--as", "ada"]
            said = await asyncio.to_thread(CliRunner().invoke, commands, arguments)
            assert "leave --until out" in str(said.exception)
            assert len(node.agent.gate.standing.given()) == 1

    asyncio.run(main())


def test_a_person_is_known_by_a_passphrase(home: Path) -> None:
    kept = Approvers(home)
    assert kept.names() == ["ada", "bob"]
    kept.check("ada", "passphrase of ada")
    assert "passphrase" not in (home / "approvers.json").read_text()
    assert (home / "approvers.json").stat().st_mode & 0o077 == 0
    for name, passphrase in (("ada", "passphrase of bob"), ("eve", "passphrase of ada"), ("", "")):
        with pytest.raises(NotAuthenticated):
            kept.check(name, passphrase)
    for name, passphrase in (("", "long enough"), ("c", "short"), ("a\nb", "long enough")):
        with pytest.raises(ConfigError):
            kept.add(name, passphrase)
    kept.remove("bob")
    with pytest.raises(NotFound):
        kept.remove("bob")
    (home / "approvers.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        kept.check("ada", "passphrase of ada")


def test_the_yes_of_an_approver_who_was_removed_counts_no_more(home: Path) -> None:
    """Not either when the same name comes again, as somebody else may have it now; what two have decided stays."""

    def command(*arguments: str, passphrase: str = "") -> None:
        said = CliRunner().invoke(
            commands, ["approver", *arguments, "--home", str(home)], env={"HANSE_PASSPHRASE": passphrase}
        )
        assert said.exit_code == 0, said.output

    async def main() -> None:
        async with running(home, policy=TWO) as node:
            await node.propose(probe())
            await asyncio.to_thread(approve, home, "ada")
            Approvers(home).remove(
                "ada"
            )  # by whoever does not go through the command, or was killed in the middle of it
            Approvers(home).add("cy", "passphrase of cy")
            second = await asyncio.to_thread(approve, home, "bob")
            assert (second["state"], second["approvers"]) == ("pending", ["bob"])
            command("remove", "bob")
            command("add", "bob", passphrase="another bob's words")
            again = await asyncio.to_thread(approve, home, "cy")
            assert (again["state"], again["approvers"]) == ("pending", ["cy"])
            with pytest.raises(NotApproved, match="not decided yet"):
                await node.task(probe(), {"round": 1}, X)
            done = await asyncio.to_thread(approve, home, "bob", "another bob's words")
            assert (done["state"], done["approvers"]) == ("approved", ["cy", "bob"])
            command("remove", "cy")
            assert node.agent.approvals.get("run-1").approvers == ("cy", "bob")
            await node.task(probe(), {"round": 1}, X)

    asyncio.run(main())
