"""The gate says no: to the wrong sender, hash, code, dataset, and wherever a rule does not say yes."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from one_node import Node, data_bundle, kept, probe, proposal, running, with_data, write_csv

import hanse
from hanse import algorithms, policy
from hanse.bundle import Bundle
from hanse.cedar import files
from hanse.cli import group
from hanse.errors import (
    ConfigError,
    Conflict,
    HanseError,
    NodeFailed,
    NotAllowed,
    NotApproved,
    NotAuthenticated,
    NotFound,
    OtherRelease,
    StorageFailed,
    WireError,
)
from hanse.facts import Facts
from hanse.ledger import Account
from hanse.messages import Json, Record
from hanse.node import bundle_texts, control, persons
from hanse.node.catalogue import Catalogue
from hanse.node.passage import Allowed, Passage
from hanse.node.promises import Promises
from hanse.node.settings import Policy
from hanse.node.spending import Reservation
from hanse.node.worker import Worked
from hanse.rule import Decision
from tests.policy.some_facts import without
from tests.waiting import PATIENCE, eventually

X = {"x": np.zeros(16, np.float32)}
ASK = {"round": 1}


async def refused(node: Node, error: type[HanseError], match: str, *args: Any, **more: Any) -> None:
    """The task is refused, for this reason, and the audit log says so; the worker saw nothing."""
    before = len(node.audit())
    with pytest.raises(error, match=match):
        await node.task(*args, **more)
    entry = node.audit()[-1]
    assert len(node.audit()) == before + 1
    assert entry.action == "task.refused"
    assert entry.detail["code"] == error.code
    assert node.agent.audit.verify().ok


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Node]]:
    """A node to which nothing was ever proposed."""
    with kept(tmp_path_factory.mktemp("node")) as found:
        yield found


# ---------------------------------------------------------------- who, and which hash


def test_an_approved_task_is_answered_and_audited(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            body = await node.task(bundle, ASK, X)
            assert body.arrays["a.x"].shape == (16,)
            assert node.actions() == ["proposal.received", "proposal.approved", "task.answered"]
            assert node.audit()[-1].detail["bytes_out"] == 64

    asyncio.run(main())


OTHERS = [("beta", "beta"), ("coordinator", "beta"), ("beta", "coordinator"), ("", "")]


@pytest.mark.parametrize(("peer", "sender"), OTHERS)
def test_only_the_coordinator_may_ask(tmp_path: Path, peer: str, sender: str) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            await refused(node, NotAuthenticated, "only this node's", bundle, ASK, X, peer=peer, sender=sender)
            for kind in ("proposal", "consent", "finished"):
                with pytest.raises(NotAuthenticated):
                    await node.coordinator.ask(kind, proposal(probe(128), "run-2"), peer=peer, sender=sender)
            assert [p.run for p in node.agent.approvals.proposals()] == ["run-1"]
            assert node.actions().count("message.refused") == 3

    asyncio.run(main())


def test_consent_for_one_hash_does_not_cover_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            shown, other = probe(64), probe(128)
            await node.approved(shown)
            await refused(node, NotApproved, "never proposed", other, ASK, X)
            await node.propose(other)  # proposed, not approved
            await refused(node, NotApproved, "not decided yet", other, ASK, X)
            await refused(node, NotApproved, "never proposed", shown, ASK, X, run="run-2")  # another run
            await node.task(shown, ASK, X)

    asyncio.run(main())


def test_rejected_revoked_and_expired_approvals_are_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            gate = node.agent.gate
            await node.propose(bundle, "no")
            gate.reject("no", actor="owner", reason="not now")
            await refused(node, NotApproved, "rejected", bundle, ASK, X, run="no")
            await node.approved(bundle, "back")
            await node.task(bundle, ASK, X, run="back")
            gate.revoke("back", actor="owner")
            await refused(node, NotApproved, "revoked", bundle, ASK, X, run="back", step=1)
            await node.propose(bundle, "short")
            gate.approve("short", actor="owner", days=1e-6)
            await asyncio.sleep(0.1)  # which is more
            await refused(node, NotApproved, "expired", bundle, ASK, X, run="short")

    asyncio.run(main())


@pytest.mark.parametrize("where", ["text", "hash"])
def test_a_proposal_whose_text_and_hash_differ_is_not_kept(tmp_path: Path, where: str) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            data = proposal(probe())
            if where == "text":
                data["text"] = data["text"].replace("federated", "federateD", 1)
            else:
                data["sha256"] = "0" * 64
            with pytest.raises(NotApproved, match="has hash"):
                await node.coordinator.ask("proposal", data)
            assert not node.agent.approvals.proposals()
            assert node.actions() == ["proposal.refused"]

    asyncio.run(main())


def test_code_that_differs_by_one_character_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            honest = probe()
            code = dict(honest.content["code"])
            code["hanse.algorithms.probe"] = code["hanse.algorithms.probe"].replace("def ", "deF ", 1)
            changed = Bundle({**honest.content, "code": code})
            await node.approved(changed)  # the owner was deceived; the node is not
            await refused(
                node,
                NotApproved,
                r"code shown is not the code installed here \(hanse.algorithms.probe\)",
                changed,
                ASK,
                X,
            )

    asyncio.run(main())


def test_what_another_release_proposes(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            honest = probe()
            line = hanse.__version__.rpartition(".")[0]
            with pytest.raises(OtherRelease, match=f"by hanse 9.9.1, and here is hanse {hanse.__version__}"):
                await node.propose(Bundle({**honest.content, "hanse": "9.9.1"}))
            code = {**honest.content["code"], "hanse.algorithms.probe": "of tomorrow"}
            with pytest.raises(OtherRelease, match=r"code differs \(hanse.algorithms.probe\)"):
                await node.propose(Bundle({**honest.content, "hanse": f"{line}.99", "code": code}))
            unknown = {**honest.content["config"], "warmth": 1}
            with pytest.raises(OtherRelease, match="warmth"):
                await node.propose(Bundle({**honest.content, "hanse": f"{line}.99", "config": unknown}))
            assert node.agent.approvals.proposals() == []  # nobody is asked for what cannot be answered
            assert node.actions().count("proposal.refused") == 3
            same = Bundle({**honest.content, "hanse": f"{line}.99"})  # the code that was shown is the code here
            await node.approved(same, "run-2")
            assert (await node.task(same, ASK, X, run="run-2")).nbytes

    asyncio.run(main())


def test_a_failed_run_that_is_proposed_again_is_decided_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            await node.coordinator.ask("finished", {"run": "run-1", "state": "failed"})
            await refused(node, NotApproved, "failed", bundle, ASK, X)
            assert (await node.propose(bundle)).data["decision"] == "pending"
            assert [p.run for p in node.agent.approvals.pending()] == ["run-1"]
            await refused(node, NotApproved, "not decided yet", bundle, ASK, X)
            node.agent.gate.approve("run-1", bundle.sha256, actor="owner")
            assert (await node.task(bundle, ASK, X)).nbytes
            node.agent.gate.revoke("run-1", actor="owner")
            await node.coordinator.ask("finished", {"run": "run-1", "state": "failed"})
            assert (await node.propose(bundle)).data["decision"] == "reject"  # what the owner took back stays so
            await node.approved(bundle, "run-2")
            await node.coordinator.ask("finished", {"run": "run-2", "state": "completed"})
            await node.propose(bundle, "run-2")
            await refused(node, NotApproved, "completed", bundle, ASK, X, run="run-2")

    asyncio.run(main())


def test_nothing_leaves_once_an_approval_was_taken_back_while_the_disk_was_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Free:
        name, late = "free", True  # so its disk is waited for when the answer is there

        def account(self, facts: Facts) -> Account:
            return Account("all")

        def most(self, facts: Facts) -> Json:
            return 0

        def add(self, spent: Json, more: Json) -> Json:
            return spent + more

        def refuses(self, spent: Json, facts: Facts) -> Decision:
            return Decision(True, self.name)

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            loop, settle = asyncio.get_running_loop(), node.agent.gate.book.settle

            def slow(*args: Any) -> None:
                settle(*args)
                taken_back = threading.Event()
                loop.call_soon_threadsafe(lambda: (node.agent.gate.revoke("run-1", actor="owner"), taken_back.set()))
                assert taken_back.wait(PATIENCE)

            node.agent.book.ledgers = (Free(),)  # type: ignore[assignment]
            monkeypatch.setattr(node.agent.book, "settle", slow)
            with pytest.raises(NotApproved, match="revoked"):
                await node.task(bundle, ASK, X)
            assert node.actions() == ["proposal.received", "proposal.approved", "proposal.revoked", "task.refused"]

    asyncio.run(main())


def test_a_text_that_was_changed_in_the_approvals_file_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            changed = bundle.text.replace("64", "65")
            node.agent.approvals._db.execute("UPDATE proposals SET text = ?", (changed,))
            await refused(node, NotApproved, "has hash", bundle, ASK, X)
            other, code, packed = bundle_texts.pack(changed)
            node.agent.approvals._db.execute("UPDATE proposals SET text = ?", (other,))
            node.agent.approvals._db.execute("INSERT OR REPLACE INTO codes VALUES (?, ?)", (code, packed))
            await refused(node, NotApproved, "has hash", bundle, ASK, X)

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"run": "run-1"},
        {"step": "0"},
        {"step": -1},
        {"step": True},
        {"step": 1.5},
        {"run": 5},
        {"run": None},
        {"op": None},
        {"exchange": -1},
        {"exchange": True},
        {"combine": None},
        {"combine": "shuffle"},
        {"bundle": ["x"]},
        {"ask": "x"},
        {"run": "\x00" * 5},
        {"run": "x" * 100_000},
    ],
)
def test_malformed_tasks_are_refused_and_audited(idle: tuple[asyncio.Runner, Node], data: dict[str, Json]) -> None:
    runner, node = idle
    before = len(node.actions())
    whole = {"run": "run-1", "step": 0, "exchange": 0, "op": "answer", "combine": "sum"}
    whole |= {"bundle": probe().sha256, "ask": {}} | data
    with pytest.raises((WireError, NotApproved)):
        runner.run(node.coordinator.ask("task", whole if data else {}))
    assert node.actions()[before:] == ["task.refused"]
    assert node.agent.audit.verify().ok


def test_an_operation_that_the_gather_has_not_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            with pytest.raises(HanseError, match="no operation"):
                await node.task(bundle, ASK, X, op="everything")

    asyncio.run(main())


def test_nothing_leaves_when_the_audit_log_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)

            def full(*args: Any, **more: Any) -> None:
                raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")

            with monkeypatch.context() as patch:
                patch.setattr(node.agent.audit, "append", full)
                with pytest.raises(
                    StorageFailed, match=r"the disk of node \S+ fails \(No space left on device\)"
                ) as said:
                    await node.task(bundle, ASK, X)
            assert "secret" not in str(said.value)
            await node.task(bundle, ASK, X)  # when there is room again
            with monkeypatch.context() as patch:
                patch.setattr(node.agent.approvals, "receive", full)
                with pytest.raises(StorageFailed, match="No space left on device"):
                    await node.propose(bundle, "run-2")
            await node.propose(bundle, "run-2")
            assert [p.run for p in node.agent.approvals.pending()] == ["run-2"]

    asyncio.run(main())
    assert "Traceback" not in caplog.text


# ---------------------------------------------------------------- rules


def test_a_rule_that_fails_or_misses_a_fact_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name = "broken"

        def decide(self, facts: Any) -> Decision:
            raise RuntimeError("the text of an exception stays here")

    class Curious(Broken):
        name = "curious"

        def decide(self, facts: Any) -> Decision:
            return Decision(bool(facts.phase_of_the_moon), self.name)

    class Careless(Broken):
        name = "careless"

        def decide(self, facts: Any) -> Any:
            return True

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            rules = node.agent.gate.rules
            for rule, says in ((Broken(), "RuntimeError"), (Curious(), "phase_of_the_moon"), (Careless(), "failed")):
                rule_by(node, *rules, rule)
                await refused(node, NotAllowed, says, bundle, ASK, X)
            rule_by(node)
            await refused(node, NotAllowed, "no rules", bundle, ASK, X)

    asyncio.run(main())


def rule_by(node: Node, *rules: Any) -> None:
    """The gate decides by these rules alone."""
    gate = node.agent.gate
    ruled = SimpleNamespace(rules=rules)
    gate.stages = tuple(Allowed(ruled) if isinstance(stage, Allowed) else stage for stage in gate.stages)


def test_rules_are_asked_once_where_the_work_finds_nothing_new(tmp_path: Path) -> None:
    asked = []

    class Person:
        name = "person"

        async def decide(self, facts: Facts) -> Decision:
            asked.append(facts.rows)
            return Decision(True, self.name)

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            rule_by(node, Person())
            await node.task(bundle, ASK, X)
            assert asked == [None]

    asyncio.run(main())


@pytest.mark.parametrize("what", ["settings", "policies", "nothing"])
def test_what_the_owner_forbids_while_an_answer_is_computed_does_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Rules had said yes before the work, which may take an hour, and were not asked again."""
    monkeypatch.setattr(files, "OVER_S", 0.0)
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    rules = tmp_path / "rules.cedar"
    rules.write_text('@id("all") permit (principal, action, resource);')

    async def main() -> None:
        async with running(tmp_path, policy=Policy(policy_file=str(rules))) as node:
            bundle, gate = probe(), node.agent.gate
            await node.approved(bundle)
            answer = node.agent.worker.answer

            async def meanwhile(*args: Any) -> Any:
                worked = await answer(*args)
                if what == "settings":
                    gate.configure(gate.settings.with_value("allowed_algorithms", "fedavg"))
                elif what == "policies":
                    rules.write_text(rules.read_text() + '@id("no") forbid (principal, action, resource);')
                return worked

            monkeypatch.setattr(node.agent.worker, "answer", meanwhile)
            if what == "nothing":
                assert (await node.task(bundle, ASK, X)).nbytes
                return
            with pytest.raises(NotAllowed, match="approved_algorithms|'no'"):
                await node.task(bundle, ASK, X)
            assert node.audit()[-1].detail["stage"] == "rules"

    asyncio.run(main())


def test_a_ledger_has_a_say(tmp_path: Path) -> None:
    class Spent:
        name = "spent"

        def account(self, facts: Facts) -> Account:
            assert facts.run == "run-1"
            return Account("all")

        def most(self, facts: Facts) -> Json:
            return 1

        def refuses(self, spent: Json, facts: Facts) -> Decision:
            return Decision(False, self.name, "the privacy budget of this dataset is spent")

    class Broken(Spent):
        def most(self, facts: Facts) -> Json:
            raise RuntimeError("the text of an exception stays here")

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle = probe()
            await node.approved(bundle)
            for ledger, says in ((Spent(), "budget"), (Broken(), "the ledger failed")):
                node.agent.book.ledgers = (ledger,)  # type: ignore[assignment]
                await refused(node, NotAllowed, says, bundle, ASK, X)
                assert node.audit()[-1].detail["stage"] == "reserve"

    asyncio.run(main())


def test_the_stages_of_the_gate_in_their_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            assert [stage.name for stage in node.agent.gate.stages] == [
                "authenticate",
                "approved",
                "facts",
                "rules",
                "reserve",
                "work",
                "approved",
                "rules",
                "promise",
                "settle",
                "what leaves",
                "digest",
                "approved",
                "audit",
            ]

    asyncio.run(main())


def test_settings_that_cannot_be_noted_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the rules nor the ledgers: those of the one with the others are nobody's settings."""

    def full(home: Path, rules: tuple[Any, ...]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main() -> None:
        async with running(tmp_path) as node:
            gate = node.agent.gate
            before = gate.stages, gate.rules, gate.book.ledgers, gate.settings
            monkeypatch.setattr(persons, "note", full)
            with pytest.raises(OSError, match="No space"):
                gate.configure(gate.settings)
            assert (gate.stages, gate.rules, gate.book.ledgers, gate.settings) == before

    asyncio.run(main())


def test_a_stage_that_fails_is_a_no_and_gives_back_what_was_reserved(tmp_path: Path) -> None:
    class Broken:
        name = "broken"

        async def __call__(self, task: Passage) -> None:
            raise RuntimeError("stays here")

    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            await node.approved(bundle)
            first = first_ask(bundle)
            whole, gate = node.agent.gate.stages, node.agent.gate
            for i in range(len(whole) + 1):
                gate.stages = (*whole[:i], Broken(), *whole[i:])
                with pytest.raises(NodeFailed, match="could not answer"):
                    await node.task(bundle, first.data["of"], first.arrays)
                await eventually(lambda: not node.agent.book._reserved)  # the disk may still be busy with it
                settled = [stage.name for stage in whole[:i]].count("settle")
                assert [line.spent for line in node.agent.book.lines("visits")] == [1] * settled  # the same ask: once
            gate.stages = whole
            await node.task(bundle, first.data["of"], first.arrays)
            assert [line.spent for line in node.agent.book.lines("visits")] == [1]

    asyncio.run(main())


def test_what_an_answer_tells_for_good_is_on_disk_before_it_leaves_and_nothing_else_is_told(tmp_path: Path) -> None:
    said: dict[str, Json] = {"run sha 3": {"survivors": ["alpha", "beta"]}}

    class Tells:
        name = "tells"

        def __call__(self, task: Passage) -> None:
            task.worked = task.worked._replace(spent={"told": dict(said)})

    class Looks:
        name = "looks"

        def __call__(self, task: Passage) -> None:
            assert dict(Promises(tmp_path)) == {"run sha 3": {"survivors": ["alpha", "beta"]}}
            assert not task.worked.spent

    async def main() -> None:
        async with running(tmp_path) as node:
            bundle, gate = probe(), node.agent.gate
            await node.approved(bundle)
            at = [stage.name for stage in gate.stages].index("work") + 1
            whole = gate.stages
            gate.stages = (*whole[:at], Tells(), *whole[at:-1], Looks(), whole[-1])
            for _ in range(2):  # the same again
                await node.task(bundle, ASK, X)
            assert node.actions()[-2:] == ["task.answered", "task.answered"]
            said["run sha 3"] = {"survivors": ["alpha"]}
            await refused(node, NotAllowed, "a sum of this step was told before", bundle, ASK, X)
            assert node.audit()[-1].detail["stage"] == "promise"

    asyncio.run(main())


def test_an_answer_is_booked_while_it_is_computed_and_not_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            await node.approved(bundle)
            first, computed = first_ask(bundle), threading.Event()
            book, answer, settle = node.agent.book.book, node.agent.worker.answer, node.agent.book.settle
            on_disk: list[bool] = []

            def slow(reservation: Reservation) -> None:
                assert computed.wait(PATIENCE)  # where the work waited for the disk, it never began
                book(reservation)

            async def answered(*args: Any) -> Worked:
                worked = await answer(*args)
                computed.set()
                return worked

            def settled(reservation: Reservation, *args: Any) -> None:
                on_disk.append(node.agent.book.booked(reservation))
                settle(reservation, *args)

            monkeypatch.setattr(node.agent.book, "book", slow)
            monkeypatch.setattr(node.agent.worker, "answer", answered)
            monkeypatch.setattr(node.agent.book, "settle", settled)
            await node.task(bundle, first.data["of"], first.arrays)
            assert on_disk == [True]
            assert [line.spent for line in node.agent.book.lines("visits")] == [1]

    asyncio.run(main())


def test_what_cannot_be_booked_does_not_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(reservation: Reservation) -> None:
        raise RuntimeError("stays here")

    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            await node.approved(bundle)
            first = first_ask(bundle)
            monkeypatch.setattr(node.agent.book, "book", broken)
            with pytest.raises(NodeFailed, match="could not answer"):
                await node.task(bundle, first.data["of"], first.arrays)
            assert node.audit()[-1].detail["stage"] == "settle"
            assert not node.agent.book._reserved
            assert not node.agent.book.lines("visits")

    asyncio.run(main())


def first_ask(bundle: Bundle) -> Record:
    """What a run asks first."""
    algorithm = algorithms.build(bundle.config)
    return algorithm.ask(algorithm.init(bundle.config.to_json())).record  # type: ignore[union-attr]


def test_consent_binds_the_amount(tmp_path: Path) -> None:
    """Two rounds were approved: no step after them is answered, no other round, and no step in ever other words."""

    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path, "sgd_classifier", max_failed_rounds=2)
            await node.approved(bundle)
            await refused(node, NotAllowed, "step 999000 was not consented", bundle, {"round": 1}, step=999_000)
            await refused(node, NotAllowed, "round 999000 was not consented", bundle, {"round": 999_000}, step=3)
            await refused(node, NotAllowed, "at most 7 steps", bundle, {}, step=7)
            first = first_ask(bundle)
            for _ in range(5):  # the same ask, five times: once
                await node.task(bundle, first.data["of"], first.arrays)
            otherwise = [dict.fromkeys(("count", "mean"), np.zeros(length)) for length in (1, 2, 3)]
            for arrays in otherwise[:2]:  # two more attempts at the step that ask otherwise
                await node.task(bundle, first.data["of"], arrays)
            await refused(node, NotAllowed, "asked in 3 ways already", bundle, first.data["of"], otherwise[2])
            await node.task(bundle, first.data["of"], first.arrays)  # what was paid for is answered again
            few = probe(num_rounds=2)
            await node.approved(few, "run-2")
            await refused(node, NotAllowed, "round 999000", few, {"round": 999_000}, X, run="run-2", step=1)

    asyncio.run(main())


def test_an_approval_ends_with_its_run(tmp_path: Path) -> None:
    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            first = first_ask(bundle)
            await node.approved(bundle)
            await node.task(bundle, first.data["of"], first.arrays)
            await node.coordinator.ask("finished", {"run": "run-1", "state": "completed"})
            await refused(node, NotApproved, "completed", bundle, first.data["of"], first.arrays)
            assert [line.spent for line in node.agent.book.lines("visits")] == [1]  # this outlives it
            await node.propose(bundle, "run-2")
            await node.coordinator.ask("finished", {"run": "run-2", "state": "cancelled"})
            with pytest.raises(Conflict, match=r"has ended \(cancelled\)"):
                node.agent.gate.approve("run-2", actor="owner")
            assert [p.run for p in node.agent.approvals.pending()] == []
            await node.coordinator.ask("finished", {"run": "nobody knows it", "state": "\x00" * 99})
            assert node.actions().count("run.ended") == 3

    asyncio.run(main())


def test_the_owner_hears_that_the_coordinator_did_not_take_the_decision(tmp_path: Path) -> None:
    """The node was away when the run was cancelled, so it does not know yet."""

    async def main() -> None:
        async with running(tmp_path) as node:
            await node.coordinator.until("hello")
            await node.propose(probe())
            node.coordinator.refuse["consent"] = Conflict("run run-1 is cancelled")
            said = await asyncio.to_thread(control.ask, tmp_path, "approve", run="run-1", actor="owner")
            assert said["refused"] == "run run-1 is cancelled"
            await node.propose(probe(128), "run-2")
            node.coordinator.refuse["consent"] = Conflict("run run-2 is cancelled")
            done = await asyncio.to_thread(
                CliRunner().invoke, group, ["node", "approve", "run-2", "--home", str(tmp_path)]
            )
            assert isinstance(done.exception, Conflict)
            assert "did not take it: run run-2 is cancelled" in done.exception.message

    asyncio.run(main())


def test_an_approval_is_taken_back_whatever_the_coordinator_says(tmp_path: Path) -> None:
    """Of a run that goes on it takes no other decision; the node needs none of it to refuse the next task."""

    async def main() -> None:
        async with running(tmp_path) as node:
            await node.coordinator.until("hello")
            bundle = probe()
            await node.approved(bundle)
            await node.task(bundle, ASK, X)
            node.coordinator.refuse["consent"] = Conflict("run run-1 is running")
            done = await asyncio.to_thread(
                CliRunner().invoke, group, ["node", "revoke", "run-1", "--home", str(tmp_path)]
            )
            assert done.exception is None, done.exception
            assert "revoked" in done.output
            assert node.agent.approvals.unsent() == []
            await refused(node, NotApproved, "revoked", bundle, ASK, X, step=1)

    asyncio.run(main())


def test_answers_are_counted_over_all_runs_and_people(tmp_path: Path) -> None:
    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path, policy=Policy(most_queries=2)) as node:
            bundle = data_bundle(tmp_path)
            first = first_ask(bundle)
            for run in ("run-1", "run-2", "run-3"):
                await node.approved(bundle, run)
            await node.task(bundle, first.data["of"], first.arrays)
            await node.task(bundle, first.data["of"], first.arrays)  # the reply was lost
            await node.task(bundle, first.data["of"], first.arrays, run="run-2")
            await refused(node, NotAllowed, "are used up", bundle, first.data["of"], first.arrays, run="run-3")
            assert [line.said for line in node.agent.book.lines("visits")] == ["100 %: 2 of at most 2 asks answered"]
        async with running(tmp_path, policy=Policy(most_queries=2)) as node:  # after a restart it is still so
            await refused(node, NotAllowed, "are used up", bundle, first.data["of"], first.arrays, run="run-3")

    asyncio.run(main())


def test_an_algorithm_that_the_owner_does_not_allow(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, policy=Policy(allowed_algorithms=("fedavg",))) as node:
            bundle = probe()
            await node.approved(bundle)
            await refused(node, NotAllowed, "'probe' is not among", bundle, ASK, X)

    asyncio.run(main())


def test_a_training_plan_needs_the_owners_leave(tmp_path: Path) -> None:
    """Even where the owner approved the run by mistake."""

    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            plan = {"source": "import os\n", "name": "Plan"}
            bundle = data_bundle(tmp_path, plan=plan)
            await node.approved(bundle)
            await refused(node, NotAllowed, "training_plans", bundle, {})

    asyncio.run(main())


# ---------------------------------------------------------------- data


def test_too_few_rows_take_no_part(tmp_path: Path) -> None:
    async def main() -> None:
        with_data(tmp_path, rows=9)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            await node.approved(bundle)
            await refused(node, NotAllowed, "minimum_samples", bundle, {})

    asyncio.run(main())


def test_a_catalogue_that_promises_more_rows_than_there_are(tmp_path: Path) -> None:
    async def main() -> None:
        with_data(tmp_path, rows=9)
        file = tmp_path / "catalogue.json"
        content = json.loads(file.read_text())
        content["datasets"][0]["rows"] = 500
        file.write_text(json.dumps(content))
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            await node.approved(bundle)
            first = first_ask(bundle)
            await refused(node, NotAllowed, "minimum_samples", bundle, first.data["of"], first.arrays)

    asyncio.run(main())


def test_a_changed_dataset_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            await node.approved(bundle)
            write_csv(tmp_path / "visits.csv", 61)
            first = first_ask(bundle)
            with pytest.raises(HanseError, match="has changed since"):
                await node.task(bundle, first.data["of"], first.arrays)
            assert node.audit()[-1].action == "task.refused"
            Catalogue(tmp_path).refresh("visits")
            await refused(node, NotApproved, "has changed since it was approved", bundle, {})
            Catalogue(tmp_path).remove("visits")
            await refused(node, NotFound, "not here any more", bundle, {})

    asyncio.run(main())


def test_another_dataset_than_the_one_shown_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            for dataset in ({"name": "visits", "version": "0" * 64}, {"name": "other", "version": "1"}, None):
                with pytest.raises(NotApproved):
                    await node.propose(bundle, dataset=dataset)
            unbound = Bundle({**bundle.content, "datasets": {}})
            await node.propose(unbound, dataset=bundle.content["datasets"]["alpha"])
            node.agent.gate.approve("run-1", actor="owner")
            await refused(node, NotApproved, "no dataset of this node", unbound, {})

    asyncio.run(main())


def test_another_purpose_than_the_one_that_the_hash_binds_is_refused(tmp_path: Path) -> None:
    """Its owner, and policies that ask for the purpose, took the coordinator's word for it."""

    async def main() -> None:
        async with running(tmp_path, policy=Policy(standing="accept-allowed")) as node:
            for purpose in ("research: heart failure", "", "to test "):
                with pytest.raises(NotApproved, match="another purpose"):
                    await node.propose(probe(purpose="to sell"), purpose=purpose)
            assert not node.agent.approvals.proposals()
            assert (await node.propose(probe(purpose="to sell"))).data["decision"] == "accept"

    asyncio.run(main())


def test_nobody_else_says_in_which_country_a_node_is(tmp_path: Path) -> None:
    """A coordinator that put another one into the proposal would be refused, whatever the policies make of it."""

    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            unsaid = data_bundle(tmp_path)

            def placed(country: str) -> Bundle:
                alpha = {**unsaid.content["datasets"]["alpha"], "country": country}
                return Bundle({**unsaid.content, "datasets": {"alpha": alpha}})

            with pytest.raises(NotApproved, match="in DE, and its owner has declared none"):
                await node.propose(placed("DE"))
            node.agent.settings.with_value("country", "CH").save(tmp_path)
            await asyncio.to_thread(control.ask, tmp_path, "reload", actor="owner")
            for told in (placed("DE"), unsaid):
                with pytest.raises(NotApproved, match="its owner has declared CH"):
                    await node.propose(told)
            await node.propose(placed("CH"))
            facts = await node.agent.gate._known.facts(node.agent.approvals.get("run-1"))
            assert facts.countries == ("CH",)
            assert (await node.coordinator.until("hello", 2))[1].body.data["country"] == "CH"
            for wrong in ("UK", "ch", "CHE"):
                with pytest.raises(ConfigError, match="ISO 3166-1"):
                    node.agent.settings.with_value("country", wrong)

    asyncio.run(main())


def test_runs_that_are_asked_in_turn_have_their_own_facts(tmp_path: Path) -> None:
    """What is the same in each task of a run is found out once, and not for another run."""
    seen: list[Facts] = []

    class Seeing:
        name = "seeing"

        def decide(self, facts: Facts) -> Decision:
            seen.append(facts)
            return Decision(True, self.name)

    async def main() -> None:
        async with running(tmp_path) as node:
            runs = {"run-1": probe(64, purpose="to test"), "run-2": probe(128, purpose="to try")}
            for run, bundle in runs.items():
                await node.approved(bundle, run)
            rule_by(node, Seeing())
            for step in range(2):
                for run, bundle in runs.items():
                    await node.task(bundle, {"round": step + 1}, X, run=run, step=step)
            found = [(f.run, f.bundle, f.purpose, f.step, f.round, f.bytes) for f in seen]
            purposes = {"run-1": "to test", "run-2": "to try"}
            assert found == [
                (run, runs[run].sha256, purposes[run], step, step + 1, 64) for step in range(2) for run in runs
            ]
            assert all(one.time < other.time for one, other in itertools.pairwise(seen))

    asyncio.run(main())


def test_facts_of_a_run_follow_what_the_owner_registers_anew(tmp_path: Path) -> None:
    """The very same rows under other tags, while the run is under way."""

    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            await node.propose(data_bundle(tmp_path))
            kept, known = node.agent.approvals.get("run-1"), node.agent.gate._known
            first = (await known.facts(kept)).dataset
            Catalogue(tmp_path).remove("visits")
            with pytest.raises(NotFound, match="not here any more"):
                await known.facts(kept)
            Catalogue(tmp_path).add(tmp_path / "visits.csv", "visits", tags=["closed"])
            then = (await known.facts(kept)).dataset
            assert first is not None
            assert then == dataclasses.replace(first, tags=("closed",))

    asyncio.run(main())


def test_facts_that_rules_see(tmp_path: Path) -> None:
    async def main() -> None:
        with_data(tmp_path)
        async with running(tmp_path) as node:
            bundle = data_bundle(tmp_path)
            found = (await node.propose(bundle)).data
            assert found["decision"] == "pending"
            kept = node.agent.approvals.get("run-1")
            last = await node.agent.gate._known.facts(kept)
            assert (last.step, last.operation) == (103, "proposal")
            said = last.of_another(
                step=3, exchange=0, operation="answer", combine="sum", round=1, bytes=100, time=last.time
            )
            version = Catalogue(tmp_path).get("visits").version
            assert dataclasses.asdict(said) == {
                "sender": "coordinator",
                "proposer": "Ada",
                "purpose": "to test",
                "study": None,
                "run": "run-1",
                "bundle": bundle.sha256,
                "algorithm": "newton",
                "model": "logistic_regression",
                "settings": bundle.config.to_json(),
                "rounds": 2,
                "steps": 104,
                "nodes": 1,
                "features": ("age", "marker", "town"),
                "plan": False,
                "at_once": False,
                "needs_data": True,
                "countries": ("",),
                "gathering": {"agree": "plain", "sum": "plain"},
                "transforms": (),
                "privacy": None,
                "dataset": {"name": "visits", "version": version, "tags": ()},
                "rows": 60,
                "step": 3,
                "exchange": 0,
                "operation": "answer",
                "combine": "sum",
                "round": 1,
                "bytes": 100,
                "exposed": said.exposed,
                "time": said.time,
            }
            used = {
                "algorithm",
                "plan",
                "at_once",
                "needs_data",
                "rows",
                "rounds",
                "bytes",
                "step",
                "steps",
                "round",
                "gathering",
                "privacy",
                "transforms",
            }
            for missing in dataclasses.asdict(said):
                decided = await policy.decide(node.agent.gate.rules, without(missing, of=said))
                assert all(d.allowed for d in decided) != (missing in used), missing

    asyncio.run(main())
