"""Studies: each asks its nodes, and is seen by its people; what is of no study is as if there were none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hanse.bundle import Bundle
from hanse.cli import group
from hanse.coordinator.access import TABLE
from hanse.coordinator.routes.events import EventsSeen
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import Conflict, NotFound
from hanse.store import Store
from hanse.table import Column, Table
from tests.waiting import PATIENCE

from .federation import Federation

PROBE = {"federated_strategy": "probe", "num_rounds": 2, "sample_id_column": None}


async def two_studies(f: Federation) -> None:
    """Nodes a, b in heart (sci), c in lung (eve), d in none; ann is in no study."""
    f.people("a", "b", "c", "d")
    for name in ("eve", "ann"):
        f.account(name, "data_scientist")
    for node in ("a", "b", "c", "d"):
        await f.node(node, standing="accept")
    heart = {"name": "heart", "purpose": "heart failure", "people": ["sci"], "nodes": ["a", "b"]}
    made = await f.ok("op", "POST", "/api/studies", heart, 201)
    assert (made["people"], made["nodes"], made["closed"]) == (["sci"], ["a", "b"], None)
    await f.ok("op", "POST", "/api/studies", {"name": "lung", "people": ["eve"], "nodes": ["c"]}, 201)


@pytest.mark.databases
def test_a_run_asks_the_nodes_of_its_study_and_no_other_run_does(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            await two_studies(f)
            proposed = await f.ok("sci", "POST", "/api/training/start", {**PROBE, "study": "heart"}, 201)
            run = proposed["session_id"]
            assert proposed["study"] == "heart"
            assert proposed["purpose"] == "heart failure"  # that of the study, where the run says none
            assert await f.state(run, "completed", "failed") == "completed"
            assert f.store.runs.get(run).nodes == ("a", "b")
            assert Bundle(f.store.runs.bundle(run)).content["config"]["study"] == "heart"  # owners agree to it
            own = await f.ok("sci", "POST", "/api/training/start", {**PROBE, "study": "heart", "purpose": "mine"}, 201)
            assert own["purpose"] == "mine"
            free = await f.ok("ann", "POST", "/api/training/start", PROBE, 201)
            assert f.store.runs.get(free["session_id"]).nodes == ("d",)
            for who, asked, said in (
                ("ann", {"study": "heart"}, "ann is in no open study 'heart'"),
                ("ann", {"study": "none"}, "ann is in no open study 'none'"),
                ("sci", {"study": "heart", "expected_client_ids": ["a", "c"]}, "c: not in the study heart"),
                ("sci", {"expected_client_ids": ["a", "d"]}, "a: asked by their studies alone"),
                ("op", {"expected_client_ids": ["a"]}, "a: asked by their studies alone"),
            ):
                assert said in await f.refused(who, "POST", "/api/training/start", {**PROBE, **asked}, 403)
            assert (await f.call("op", "POST", "/api/training/start", {**PROBE, "study": "lung"})).status_code == 201

    asyncio.run(body())


def test_who_is_in_no_study_sees_nothing_of_it(tmp_path: Path) -> None:
    """On every route that tells of runs, nodes, models or events."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await two_studies(f)
            run = (await f.ok("sci", "POST", "/api/training/start", {**PROBE, "study": "heart"}, 201))["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            tried = 0
            for method, path in TABLE:
                if method != "GET" or "{session_id}" not in path or path.endswith("/inclusion"):
                    continue
                tried += 1
                for who, allowed in (("sci", True), ("op", True), ("eve", False), ("ann", False), ("owner-c", False)):
                    answer = await f.call(who, "GET", path.replace("{session_id}", run).replace("{step}", "0"))
                    seen = answer.status_code != 403
                    assert seen is allowed or (who == "sci" and not seen and "this is for" in answer.text), (who, path)
                    assert not (not allowed and run in answer.text.replace(f"run {run}", "")), (who, path)
            assert tried >= 8
            for who, nodes in (
                ("sci", "abd"),
                ("eve", "cd"),
                ("ann", "d"),
                ("op", "abcd"),
                ("owner-a", "abd"),
                ("owner-d", "d"),
            ):
                listed = await f.ok(who, "GET", "/api/nodes")
                assert [node["id"] for node in listed["nodes"]] == [*nodes], who
                assert [c["client_id"] for c in (await f.ok(who, "GET", "/api/clients"))["clients"]] == [*nodes]
                assert [c["client_id"] for c in (await f.ok(who, "GET", "/clients"))["clients"]] == [*nodes]
                for node in "abcd":
                    for path in (f"/api/nodes/{node}", f"/clients/{node}"):
                        expected = 200 if node in nodes else 404
                        assert (await f.call(who, "GET", path)).status_code == expected, (who, path)
            for who, count in (("sci", 1), ("eve", 0), ("op", 1), ("owner-a", 1), ("owner-c", 0)):
                listed = await f.ok(who, "GET", "/api/training/sessions")
                assert (len(listed["sessions"]), listed["total"]) == (count, count), who
                assert ((await f.ok(who, "GET", "/status"))["run"] == run) == bool(count), who
                events = (await f.ok(who, "GET", f"/api/events?limit=1000&run={run}"))["events"]
                assert bool(events) == bool(count), who
            events = (await f.ok("eve", "GET", "/api/events?limit=1000"))["events"]
            assert {event["node"] for event in events} <= {None, "c", "d"}
            assert not any(event["kind"].startswith("study.") for event in events)
            for who, seen in (("sci", True), ("eve", False)):
                assert bool((await f.ok(who, "GET", "/api/models"))["models"]) is seen
                compared = await f.call(who, "GET", f"/api/models/compare?first={run}:1&second={run}:last")
                assert (compared.status_code == 200) is seen
                assert ((await f.call(who, "GET", f"/api/models?run={run}")).status_code == 200) is seen

    asyncio.run(body())


def test_what_is_changed_counts_from_then_on_and_is_in_the_audit(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            await two_studies(f)
            run = (await f.ok("sci", "POST", "/api/training/start", {**PROBE, "study": "heart"}, 201))["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            eve = f.store.accounts.find("eve")
            assert eve is not None
            started = f.store.events.since(0, 1000, run=run)
            assert not EventsSeen(f.it, eve).of(started)
            changed = await f.ok("op", "POST", "/api/studies/heart", {"people": ["eve"], "nodes": ["a"]})
            assert (changed["people"], changed["nodes"], changed["purpose"]) == (["eve"], ["a"], "heart failure")
            assert len(EventsSeen(f.it, eve).of(started)) == len(started)
            assert (await f.call("eve", "GET", f"/api/training/sessions/{run}")).status_code == 200
            assert (await f.call("sci", "GET", f"/api/training/sessions/{run}")).status_code == 200  # proposed by sci
            await f.refused("sci", "POST", "/api/training/start", {**PROBE, "study": "heart"}, 403)
            await f.ok("op", "POST", "/api/studies/heart/close", {})
            await f.refused("eve", "POST", "/api/training/start", {**PROBE, "study": "heart"}, 403)
            free = await f.ok("sci", "POST", "/api/training/start", PROBE, 201)
            assert f.store.runs.get(free["session_id"]).nodes == ("a", "b", "d")  # in no open study any more
            assert (await f.call("eve", "GET", f"/api/training/sessions/{run}")).status_code == 200
            await f.ok("op", "POST", "/api/studies/lung", {"nodes": ["a", "c"]})
            await f.ok("op", "POST", "/api/studies/heart", {"people": ["sci", "eve"]})
            listed = await f.ok("sci", "GET", "/api/nodes")  # who was with it in a study that is closed is not in lung
            assert [node["id"] for node in listed["nodes"]] == ["b", "d"]
            for who, path, sent, status in (
                ("op", "/api/studies", {"name": "heart"}, 409),
                ("op", "/api/studies", {"name": "../x"}, 422),
                ("op", "/api/studies", {"name": "x", "people": ["nobody"]}, 404),
                ("op", "/api/studies/none", {}, 404),
                ("op", "/api/studies/none/close", {}, 404),
                ("sci", "/api/studies", {"name": "x"}, 403),
                ("owner-a", "/api/studies/lung", {"people": ["owner-a"]}, 403),
            ):
                await f.refused(who, "POST", path, sent, status)
            assert [s["name"] for s in (await f.ok("eve", "GET", "/api/studies"))["studies"]] == ["heart", "lung"]
            assert (await f.ok("ann", "GET", "/api/studies"))["studies"] == []
            assert [s["name"] for s in (await f.ok("owner-c", "GET", "/api/studies"))["studies"]] == ["lung"]
            while sum(e.action == "study.changed" for e in f.store.audit.entries()) < 3:
                await asyncio.sleep(0.01)
            told = [e for e in f.store.audit.entries() if e.action.startswith("study.")]
            said = [e.action.removeprefix("study.") for e in told]
            assert said == ["made", "made", "changed", "closed", "changed", "changed"]
            assert told[2].detail["people"] == ["eve"]

    asyncio.run(body())


def test_a_stream_goes_on_after_rights_were_changed(tmp_path: Path) -> None:
    """It ended whenever such a change was among what a reader had not seen yet, so who came back was put out again."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            await two_studies(f)
            f.it.chronicle.closed = True  # the stream ends after what there is
            answer = await f.call("sci", "GET", "/api/events/stream?since=0")
            assert answer.text.startswith(": connected")
            f.it.chronicle.closed = False

            async def first() -> bytes:
                async with f.http.stream(
                    "GET", "/api/events/stream?since=0", headers={"authorization": f"Bearer {f.tokens['sci']}"}
                ) as stream:
                    async for piece in stream.aiter_bytes():
                        if b"id: " in piece:
                            return piece
                return b""

            waiting = asyncio.ensure_future(first())
            await asyncio.sleep(0)
            closing = asyncio.get_running_loop().call_later(5.0, f.it.chronicle.close_streams)
            async with asyncio.timeout(PATIENCE):
                assert b"node." in await waiting
            closing.cancel()

    asyncio.run(body())


def test_policies_can_ask_for_the_study(tmp_path: Path) -> None:
    (tmp_path / "rules.cedar").write_text(
        '@id("studies") permit (principal, action, resource) when { context has study && context.study == "heart" };'
    )

    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(policy_file=str(tmp_path / "rules.cedar"))) as f:
            await two_studies(f)
            await f.refused("ann", "POST", "/api/training/start", PROBE, 403)
            run = (await f.ok("sci", "POST", "/api/training/start", {**PROBE, "study": "heart"}, 201))["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"

    asyncio.run(body())


def test_the_command_makes_and_changes_them(tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        said = CliRunner().invoke(group, ["coordinator", *arguments, "--home", str(tmp_path / "home")])
        if said.exception is not None and not isinstance(said.exception, SystemExit):
            raise said.exception
        return said.output

    with pytest.raises(NotFound, match="there is no coordinator in .*home: run this in the folder"):
        run("account", "add", "ada", "--role", "data_scientist")
    Store(None, tmp_path / "home").close()
    run("account", "add", "ada", "--role", "data_scientist")
    run("account", "add", "bob", "--role", "data_scientist")
    assert "study heart: ada; nodes: a, b" in run(
        "study", "add", "heart", "--person", "ada", "--node", "a", "--node", "b"
    )
    with pytest.raises(Conflict):
        run("study", "add", "heart")
    with pytest.raises(NotFound, match="there is no account 'eve'"):
        run("study", "change", "heart", "--person", "eve")
    said = run("study", "change", "heart", "--person", "bob", "--remove-person", "ada", "--remove-node", "a")
    assert "study heart: bob; nodes: b" in said
    run("study", "close", "heart")
    [told] = json.loads(run("study", "list", "--json"))
    assert (told["people"], told["nodes"], told["closed"] is None) == (["bob"], ["b"], False)


NOISY = {"federated_strategy": "fedavg", "model_name": "logistic_regression", "target_column": "y", "num_rounds": 1}


def site() -> dict[str, Table]:
    return {"t": Table({"x": Column.numeric([1.0, 2.0] * 20), "y": Column.numeric([0.0, 1.0] * 20)})}


@pytest.mark.databases
def test_its_runs_spend_no_more_together_than_it_may(tmp_path: Path) -> None:
    """Also where they are proposed at the same moment; one that never started gives back what it had asked for."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            for node in ("a", "b"):
                await f.node(node, site())
            study = {"name": "heart", "people": ["sci"], "nodes": ["a", "b"], "most_epsilon": 3.0}
            made = await f.ok("op", "POST", "/api/studies", study, 201)
            assert (made["most_epsilon"], made["most_delta"], made["runs"]) == (3.0, 1e-4, 0)
            asked = {**NOISY, "study": "heart", "privacy": {"epsilon": 1.0, "ranges": {"x": [0, 3]}}}
            said = await f.refused("sci", "POST", "/api/training/start", {**asked, "privacy": None}, 403)
            assert "each of its runs promises differential privacy" in said
            answers = await asyncio.gather(*(f.call("sci", "POST", "/api/training/start", asked) for _ in range(5)))
            assert sorted(answer.status_code for answer in answers) == [201, 201, 201, 403, 403]
            [said] = {a.json()["error"]["message"] for a in answers if a.status_code == 403}
            assert "may spend epsilon 3 in all; its 3 runs have 3, so this one may have 0 and asks for 1" in said
            assert (await f.call("sci", "POST", "/api/training/start", {**PROBE, "study": "heart"})).status_code == 201
            run = next(a.json()["session_id"] for a in answers if a.status_code == 201)
            await f.ok("sci", "POST", f"/api/training/sessions/{run}/cancel", {})
            [now] = (await f.ok("sci", "GET", "/api/studies"))["studies"]
            assert now["spent"] == {"epsilon": 2.0, "delta": 2e-5, "exact_runs": 0}
            more = {**asked, "privacy": {**asked["privacy"], "delta": 9e-5}}  # type: ignore[dict-item]
            assert "spend delta 0.0001" in await f.refused("sci", "POST", "/api/training/start", more, 403)
            await f.ok("sci", "POST", "/api/training/start", asked, 201)
            for wrong in ({"most_epsilon": 0}, {"most_epsilon": "3"}, {"most_delta": 2}, {"ends": "2027-01-01T00:00"}):
                await f.refused("op", "POST", "/api/studies/heart", wrong, 422)
            only = {"name": "x", "most_delta": 1e-5}
            assert "give both" in await f.refused("op", "POST", "/api/studies", only, 422)

    asyncio.run(body())


def test_runs_of_before_that_promised_nothing_are_said(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            f.people("a")
            await f.node("a", site())
            await f.ok("op", "POST", "/api/studies", {"name": "heart", "people": ["sci"], "nodes": ["a"]}, 201)
            await f.ok("sci", "POST", "/api/training/start", {**NOISY, "study": "heart"}, 201)
            now = await f.ok("op", "POST", "/api/studies/heart", {"most_epsilon": 2, "most_delta": 1e-3})
            assert (now["runs"], now["spent"]["exact_runs"], now["most_delta"]) == (1, 1, 1e-3)
            assert (await f.ok("op", "POST", "/api/studies/heart", {"most_epsilon": 4}))["most_delta"] == 1e-3

    asyncio.run(body())


def test_after_its_end_nothing_is_proposed_and_its_nodes_stay_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            await two_studies(f)
            asked = {**PROBE, "study": "heart"}
            assert (await f.ok("op", "POST", "/api/studies/heart", {"ends": "2099-01-01T00:00:00Z"}))["ends"]
            await f.ok("sci", "POST", "/api/training/start", asked, 201)
            monkeypatch.setattr("hanse.store.studies.now", lambda: 4_100_000_000.0)  # 2099-12-03
            said = await f.refused("sci", "POST", "/api/training/start", asked, 403)
            assert "the study heart ended on 2099-01-01" in said
            await f.refused("op", "POST", "/api/training/start", asked, 403)
            said = await f.refused("ann", "POST", "/api/training/start", {**PROBE, "expected_client_ids": ["a"]}, 403)
            assert "a: asked by their studies alone" in said
            await f.ok("op", "POST", "/api/studies/heart", {"ends": "2101-01-01T00:00:00+02:00"})
            await f.ok("sci", "POST", "/api/training/start", asked, 201)

    asyncio.run(body())


def test_the_command_says_what_is_left(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        home = ["--home", str(tmp_path / "home")]
        return str(CliRunner().invoke(group, ["coordinator", *arguments, *home], catch_exceptions=False).output)

    Store(None, tmp_path / "home").close()
    bounds = ("--ends", "2099-12-31", "--epsilon", "8")
    assert "study heart, open until 2099-12-31T00:00: nobody; nodes: nobody; epsilon 0 of 8" in run(
        "study", "add", "heart", *bounds
    )
    assert "study heart, ended 2020-01-01T00:00" in run("study", "change", "heart", "--ends", "2020-01-01")
    assert "ended 2020-01-01T00:00" in run("study", "list")
    [told] = json.loads(run("study", "list", "--json"))
    assert (told["most_epsilon"], told["most_delta"], told["spent"]["epsilon"]) == (8.0, 1e-4, 0)
