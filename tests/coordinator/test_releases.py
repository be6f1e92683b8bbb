"""Nodes and coordinators of other releases, and runs that wait for them or failed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import hanse
from hanse.coordinator import consent, driving
from hanse.errors import HanseError, NodeFailed, OtherRelease, StorageFailed
from hanse.messages import Message
from hanse.store.states import RunState
from hanse.transport import Progress

from .federation import Federation, SiteNode

OTHER = "7.3.1"


async def upgrade(f: Federation, node: str, release: str = OTHER) -> None:
    """The node comes back with another release."""
    known = f.store.nodes.get(node)
    f.store.nodes.describe(node, capabilities={**known.capabilities, "hanse": release})


def test_a_node_of_another_release_is_named_at_the_proposal(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a", standing="accept")
            await f.node("b", standing="accept")
            await upgrade(f, "b")
            settings = {"federated_strategy": "probe", "num_rounds": 1, "sample_id_column": None}
            said = await f.refused("sci", "POST", "/api/training/start", settings, 409)
            assert f"b runs hanse {OTHER}" in said
            assert f"this coordinator runs hanse {hanse.__version__}" in said
            assert "expected_client_ids" in said
            shown = {n["id"]: n for n in (await f.ok("op", "GET", "/api/nodes"))["nodes"]}
            assert shown["a"]["warnings"] == []
            assert OTHER in shown["b"]["warnings"][0]
            run = (await f.propose(expected_client_ids=["a"]))["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"

    asyncio.run(body())


def test_a_proposal_that_the_node_cannot_run_is_rejected_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a")
            real = site.handle

            async def older(peer: str, message: Message, progress: Progress) -> Message:
                if message.kind == "proposal":
                    raise OtherRelease("the run was proposed by hanse 0.1.1, and here is hanse 0.1.0")
                return await real(peer, message, progress)

            f.transport.attach("a", older)
            await site.hello()
            run = (await f.propose())["session_id"]
            assert await f.state(run, "rejected", "completed") == "rejected"
            assert "0.1.1" in f.store.runs.get(run).reason
            assert "a cannot take part" in f.store.runs.get(run).reason

    asyncio.run(body())


def test_a_run_waits_for_nodes_that_are_being_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many more refusals than a run may have failed attempts; it is paused with what the nodes say."""
    monkeypatch.setattr(driving, "_RETRY_S", 0.02)
    monkeypatch.setattr(driving, "_LONGEST_RETRY_S", 0.02)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            away = [8]
            real = site.answerer.answer

            def upgrading(*args: object, **more: object) -> object:
                if len(site.tasks) > 2 and away[0]:
                    away[0] -= 1
                    raise OtherRelease("here is hanse 7.3.1; bring both to one release")
                return real(*args, **more)  # type: ignore[arg-type]

            monkeypatch.setattr(site.answerer, "answer", upgrading)
            run = (await f.propose(num_rounds=6, max_failed_rounds=1))["session_id"]
            assert await f.state(run, "completed", "failed", "rejected") == "completed"
            assert away == [0]
            told = [e.detail for e in f.store.events.since(run=run, kinds=["run.state"])]
            paused = [t["reason"] for t in told if t["to"] == "paused"]
            assert len(paused) == 8
            assert all("waits for a" in reason and "7.3.1" in reason for reason in paused)
            done = [r.round for r in f.store.rounds.list(run) if r.status == "ok"]
            assert done == [1, 2, 3, 4, 5, 6]

    asyncio.run(body())


def test_a_run_goes_on_without_a_node_that_it_can_do_without(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a", standing="accept")
            late = await f.node("b", standing="accept")

            def upgraded(*args: object, **more: object) -> object:
                raise OtherRelease("here is hanse 7.3.1")

            late.answerer.answer = upgraded  # type: ignore[method-assign,assignment]
            run = (await f.propose(min_completed=1))["session_id"]
            assert await f.state(run, "completed", "failed", "paused") == "completed"
            assert "7.3.1" in f.store.rounds.list(run)[0].record["failures"]["b"]

    asyncio.run(body())


async def failed_after(f: Federation, site: SiteNode, rounds: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run whose node breaks after so many rounds, and is mended then."""
    real, broken = site.answerer.answer, [True]

    def breaks(*args: object, **more: object) -> object:
        if broken[0] and len(site.tasks) > rounds:
            raise ValueError("a fault in the node")
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(site.answerer, "answer", breaks)
    run: str = (await f.propose(num_rounds=5, max_failed_rounds=0))["session_id"]
    assert await f.state(run, "completed", "failed") == "failed"
    broken[0] = False
    return run


def test_a_failed_run_goes_on_from_its_last_state_once_its_owners_agree_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            run = await failed_after(f, site, 3, monkeypatch)
            await f.until(lambda _: site.finished == ["failed"])
            assert f.store.rounds.checkpoints(run)
            site.standing = "pending"
            site.tasks.clear()
            await f.ok("sci", "POST", f"/api/training/sessions/{run}/resume")
            again = await f.ok("sci", "GET", f"/api/training/sessions/{run}")
            assert again["state"] == "awaiting_consent"
            assert again["remaining"] == ["a"]
            assert site.tasks == []
            await f.consent(again, "a")
            assert await f.state(run, "completed", "failed") == "completed"
            assert [int(t.split("/")[1]) for t in site.tasks] == [3, 4]
            assert [r.round for r in f.store.rounds.list(run)] == [1, 2, 3, 4, 5]
            ended = f.store.runs.get(run)
            assert ended.ended is not None
            whole = (await f.propose(num_rounds=5))["session_id"]
            await f.consent(await f.ok("sci", "GET", f"/api/training/sessions/{whole}"), "a")
            assert await f.state(whole, "completed", "failed") == "completed"
            assert f.store.runs.get(whole).result == ended.result  # as if nothing had happened
            await f.until(lambda _: not f.store.rounds.checkpoints(run))

    asyncio.run(body())


def test_a_failed_run_keeps_its_states_over_a_restart_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            run = await failed_after(f, site, 2, monkeypatch)
        async with Federation(tmp_path) as f:
            assert f.store.rounds.checkpoints(run)
            f.store.sweep(failed_s=0.0)
            assert not f.store.rounds.checkpoints(run)
            await asyncio.sleep(0)

    asyncio.run(body())


def test_who_gives_a_failed_run_up_frees_its_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            run = await failed_after(f, site, 2, monkeypatch)
            await f.ok("sci", "POST", f"/api/training/sessions/{run}/cancel")
            await f.until(lambda _: not f.store.rounds.checkpoints(run))
            assert "only a paused run" in await f.refused(
                "sci", "POST", f"/api/training/sessions/{run}/resume", None, 409
            )

    asyncio.run(body())


def test_runs_that_another_release_began_end_with_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            site.hold = asyncio.Event()
            going = (await f.propose())["session_id"]
            await f.until(lambda _: bool(site.tasks))
            site.standing = "pending"
            waiting = (await f.propose())["session_id"]
        monkeypatch.setattr(hanse, "__version__", OTHER)
        async with Federation(tmp_path) as f:
            for run, state in ((going, RunState.FAILED), (waiting, RunState.REJECTED)):
                found = f.store.runs.get(run)
                assert found.state is state
                assert "0.1.0" in found.reason
                assert OTHER in found.reason
            f.people("a")
            said = await f.refused("sci", "POST", f"/api/training/sessions/{going}/resume", None, 409)
            assert "0.1.0" in said

    asyncio.run(body())


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (NodeFailed("node a did not answer within 10 s"), 2),
        (StorageFailed("the disk of node a fails (No space left on device); its owner has to make room"), 9),
    ],
)
def test_a_node_that_cannot_take_note_now_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: HanseError, times: int
) -> None:
    """It stays on line, so no greeting brings the proposal: the run would wait for it until it expires."""
    monkeypatch.setattr(consent, "_AGAIN_S", (0.01, 0.01))
    monkeypatch.setattr(consent, "_FAULT_S", 0.01)

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            site = await f.node("a", standing="accept")
            real, busy = site.handle, [times]

            async def slow(peer: str, message: Message, progress: Progress) -> Message:
                if message.kind == "proposal" and busy[0]:
                    busy[0] -= 1
                    raise type(said)(said.message)
                return await real(peer, message, progress)

            f.transport.attach("a", slow)
            await site.hello()
            run = (await f.propose())["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            assert busy == [0]

    asyncio.run(body())
