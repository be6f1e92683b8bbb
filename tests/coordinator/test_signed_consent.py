"""What owners decide is kept with their nodes' signatures; a decision that is forged or replayed is not taken."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hanse.decisions import proven
from hanse.identity import read_certificate
from hanse.store.nodes import CertificateOnFile
from hanse.table import Column, Table

from .federation import Federation


@pytest.mark.parametrize("where", ["at the node", "at the coordinator", "standing", "at the coordinator, away"])
def test_a_decision_is_kept_with_the_nodes_signature(tmp_path: Path, where: str) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            node = await f.node(
                "a",
                signs=True,
                consent="node" if where == "at the node" else "coordinator",
                standing="accept" if where == "standing" else "pending",
                online="away" not in where,
            )
            session = await f.propose(expected_client_ids=["a"])
            run = session["session_id"]
            if where == "at the node":
                await f.until(lambda _: run in node.proposals)
                await node.decide(run, "accept")
            elif where != "standing":
                if "away" not in where:
                    await f.until(lambda _: run in node.proposals)
                await f.consent(session, "a")
            if "away" in where:
                (told,) = f.store.consents.list(run)
                assert told.proof is None  # an owner decided by REST, and the node has not heard of it
                node.proposals[run] = f.it.runs.consent.proposal(f.store.runs.get(run), "a")
                await f.connect("a")
            await f.state(run, "completed")
            await f.until(lambda _: f.store.consents.list(run)[0].proof is not None)
            (given,) = f.store.consents.list(run)
            said = proven(given.proof, f.it.authority.pem)  # type: ignore[union-attr]
            assert (said.run, said.node, said.sha256) == (run, "a", session["code_hash"])
            assert (said.decision, said.proposer) == ("accept", "sci")
            assert (await f.ok("sci", "GET", f"/api/training/sessions/{run}"))["consents"]["a"]["signed"] is True

    asyncio.run(main())


def test_a_decision_that_is_not_this_nodes_about_this_run_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            node, other = [await f.node(name, signs=True, consent="node") for name in ("a", "b")]
            runs = [(await f.propose(expected_client_ids=["a", "b"], num_rounds=n))["session_id"] for n in (3, 4)]
            await f.until(lambda _: all(r in n.proposals for r in runs for n in (node, other)))
            run, later = runs
            sha256 = node.proposals[run]["sha256"]

            async def say(proof: Any, **more: Any) -> str:
                asked = {"run": run, "sha256": sha256, "decision": "accept", "reason": "", "actor": "owner"}
                answer = await node.say("consent", **{**asked, **more}, proof=proof)
                return str(answer.body.data.get("message", answer.kind))

            assert "its accept to run" in await say(node.proof(later, "accept"))  # replayed from another run
            assert "its reject to run" in await say(node.proof(run, "reject"))  # turned round
            assert "expected" in await say(node.proof(run, "accept", sha256="ab" * 32))  # swapped code
            assert "proposal of 'eve'" in await say(node.proof(run, "accept", proposer="eve"))
            assert "what a signed is its accept" in await say(other.proof(run, "accept"))
            forged = {**node.proof(run, "accept"), "signature": node.proof(run, "reject")["signature"]}
            assert "does not fit" in await say(forged)
            assert "text, signature and certificate" in await say({"text": "yes"})
            f.it._certified.add("a")  # as a connection with a certificate does
            assert "without a proof" in await say(None)
            read = read_certificate(f.identity("a").cert_pem)  # of the same key: the certificate is another
            f.store.nodes.renew("a", CertificateOnFile(read.serial, read.fingerprint))
            assert "does not count any more" in await say(node.proof(run, "accept"))
            assert not f.store.consents.list(run)

    asyncio.run(main())


def test_an_approval_that_is_taken_back_in_the_middle_of_a_run_leaves_a_signed_event(tmp_path: Path) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            node = await f.node("a", signs=True, consent="node")
            node.hold = asyncio.Event()
            run = (await f.propose(expected_client_ids=["a"]))["session_id"]
            await f.until(lambda _: run in node.proposals)
            await node.decide(run, "accept")
            await f.until(lambda _: bool(node.tasks))
            await node.decide(run, "reject", "no longer")  # the coordinator answers: it runs
            events = await f.until(lambda found: any(e.kind == "consent.withdrawn" for e in found))
            (withdrawn,) = [e for e in events if e.kind == "consent.withdrawn"]
            said = proven(withdrawn.detail["proof"], f.it.authority.pem)  # type: ignore[union-attr]
            assert (said.decision, said.reason) == ("reject", "no longer")
            node.hold.set()
            await f.state(run, "completed", "rejected")
            await f.until(lambda _: any(e.action == "consent.withdrawn" for e in f.store.audit.entries()))

    asyncio.run(main())


@pytest.mark.databases
def test_an_owner_is_shown_what_is_new_since_the_last_that_was_agreed_to(tmp_path: Path) -> None:
    """Of own nodes alone: what another node's owner agreed to before is none of theirs."""

    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            for node in ("a", "b"):
                await f.node(node)
            first = await f.propose(expected_client_ids=["a"])
            shown = await f.ok("owner-a", "GET", f"/api/training/sessions/{first['session_id']}")
            assert shown["changes"] == {}  # nothing was agreed to before
            await f.consent(first, "a")
            await f.state(first["session_id"], "completed")
            second = await f.propose(expected_client_ids=["a", "b"], num_rounds=9)
            path = f"/api/training/sessions/{second['session_id']}"
            told = (await f.ok("owner-a", "GET", path))["changes"]
            assert {*told} == {"a"}
            assert told["a"]["since"] == first["session_id"]
            assert "setting num_rounds: 9, before 3" in told["a"]["lines"]
            for who in ("owner-b", "sci", "op"):
                assert (await f.ok(who, "GET", path))["changes"] == {}
            f.account("eve", "data_scientist")
            raw = {"federated_strategy": "probe", "sample_id_column": None, "expected_client_ids": ["a"]}
            other = await f.ok("eve", "POST", "/api/training/start", raw, 201)
            assert (await f.ok("owner-a", "GET", f"/api/training/sessions/{other['session_id']}"))["changes"] == {}

    asyncio.run(main())


@pytest.mark.databases
def test_what_is_new_is_said_against_the_last_that_was_agreed_to_on_the_same_data(tmp_path: Path) -> None:
    """What was agreed to on another data set of the node in between is no measure, and hides none."""

    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            data = Table({"x": Column.numeric([1.0, 2.0] * 20), "y": Column.numeric([0.0, 1.0] * 20)})
            await f.node("a", {"d": data, "e": data}, tags={"d": ["heart"], "e": ["late"]})
            asked = {"federated_strategy": "fedavg", "model_name": "logistic_regression", "target_column": "y"}
            runs = []
            for tag, rounds in (("heart", 1), ("late", 2)):
                session = await f.propose(**asked, tags=[tag], num_rounds=rounds)
                await f.consent(session, "a")
                await f.state(session["session_id"], "completed")
                runs.append(session["session_id"])
            third = await f.propose(**asked, tags=["heart"], num_rounds=3)
            path = f"/api/training/sessions/{third['session_id']}"
            told = (await f.ok("owner-a", "GET", path))["changes"]["a"]
            assert told["since"] == runs[0]
            assert "setting num_rounds: 3, before 1" in told["lines"]

    asyncio.run(main())
