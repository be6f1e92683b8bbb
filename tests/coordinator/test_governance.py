"""The operator's policies: who may propose, which nodes take part and are sent a step, who may see a result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.bundle import freeze
from hanse.cedar import files
from hanse.config import RunConfig
from hanse.coordinator import driving, governance
from hanse.coordinator.evidence import POLICIES
from hanse.coordinator.governance import Governance, OwnPolicies, RunAdmission
from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import ConfigError
from hanse.kinds import Ask, Combine
from hanse.messages import Record
from hanse.table import Column, Table

from .federation import PROBE, Federation

ALL = '@id("all") permit (principal, action, resource);\n'
NOT = '@id("no-marketing") @says("not for sale") forbid (principal, action == Action::"propose", resource)\n'
NOT += 'when { context.purpose like "*marketing*" };\n'
BETA = '@id("not-b") forbid (principal, action == Action::"take_part", resource) when { context.node == "b" };\n'
LARGE = '@id("small-models") forbid (principal, action == Action::"share_model", resource)\n'
LARGE += 'when { context.node == "b" && context.bytes > 1000 };\n'
MINE = '@id("own-results") forbid (principal, action == Action::"read_result", resource) unless { context.own };\n'


def governed(tmp_path: Path, text: str, test: Callable[[Federation], Awaitable[None]]) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.cedar").write_text(text)

    async def body() -> None:
        async with Federation(tmp_path, CoordinatorSettings(policy_file=str(tmp_path / "rules"))) as f:
            f.people("a", "b")
            for node in ("a", "b"):
                await f.node(node, standing="accept")
            await test(f)

    asyncio.run(body())


def decisions(f: Federation) -> list[Any]:
    return [e for e in f.store.events.since(kinds=["policy.decision"])]


def test_who_may_not_propose_is_told_by_which_policy(tmp_path: Path) -> None:
    async def test(f: Federation) -> None:
        asked = {"federated_strategy": "probe", "sample_id_column": None, "purpose": "marketing"}
        said = await f.refused("sci", "POST", "/api/training/start", asked, 403)
        assert "forbidden by policy 'no-marketing' (not for sale)" in said
        assert f.store.runs.list() == []
        run = (await f.propose(purpose="research"))["session_id"]
        assert await f.state(run, "completed", "failed") == "completed"
        [refused] = [e for e in await f.until(lambda _: len(decisions(f)) > 3) if e.detail.get("allowed") is False]
        assert (refused.kind, refused.actor, refused.detail["by"]) == ("policy.decision", "sci", "no-marketing")
        assert len(refused.detail["version"]) == 12
        await f.until(lambda _: any(e.action == "policy.decision" for e in f.store.audit.entries()))

    governed(tmp_path, ALL + NOT, test)


def test_each_proposal_that_is_refused_is_noted(tmp_path: Path) -> None:
    async def test(f: Federation) -> None:
        for rounds in (1, 2, 2):  # the same again is the same decision
            asked = {
                "federated_strategy": "probe",
                "sample_id_column": None,
                "purpose": "marketing",
                "num_rounds": rounds,
            }
            await f.refused("sci", "POST", "/api/training/start", asked, 403)
        await f.until(lambda _: len(decisions(f)) > 1)
        found = decisions(f)
        assert len({e.detail["bundle"] for e in found}) == len(found) == 2

    governed(tmp_path, ALL + NOT, test)


def test_a_node_that_may_take_no_part_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    async def test(f: Federation) -> None:
        proposed = await f.propose()
        assert any("b takes no part: forbidden by policy 'not-b'" in said for said in proposed["warnings"])
        assert f.store.runs.get(proposed["session_id"]).nodes == ("a",)
        asked = {"federated_strategy": "probe", "sample_id_column": None, "expected_client_ids": ["a", "b"]}
        said = await f.refused("sci", "POST", "/api/training/start", asked, 403)
        assert "these nodes may take no part: b: forbidden by policy 'not-b'" in said

    governed(tmp_path, ALL + BETA, test)


def test_policies_ask_where_nodes_are(tmp_path: Path) -> None:
    """The country that a node declares is in what owners agree to, and a node that declares none is in no list."""
    europe = '@id("europe") @says("data in CH or DE") forbid (principal, action == Action::"take_part", resource)\n'
    europe += 'unless { context has country && ["CH", "DE"].contains(context.country) };\n'
    one = '@id("one-law") forbid (principal, action == Action::"propose", resource)\n'
    one += 'when { context.countries.contains("FR") } unless { ["FR"].containsAll(context.countries) };\n'

    async def test(f: Federation) -> None:
        rows = Table({"x": Column.numeric([1.0, 2.0, 3.0, 4.0]), "y": Column.numeric([0.0, 1.0, 0.0, 1.0])})
        for name, country in (("c", "CH"), ("d", "DE"), ("u", "US"), ("n", "")):
            await f.node(name, {"t": rows}, standing="accept", country=country)
        wanted = {"model_name": "logistic_regression", "federated_strategy": "fedavg", "target_column": "y"}
        proposed = await f.propose(**wanted)
        run = f.store.runs.get(proposed["session_id"])
        assert run.nodes == ("c", "d")
        assert sorted(w.split(" ")[0] for w in proposed["warnings"] if "policy 'europe'" in w) == ["n", "u"]
        shown = await f.ok("sci", "GET", f"/api/training/sessions/{run.id}")
        assert shown["datasets"]["c"]["country"] == "CH"
        assert "t at d in DE, version v1" in shown["code_preview"]
        assert (await f.ok("sci", "GET", "/api/nodes"))["nodes"][-1]["country"] == "US"
        await f.nodes["c"].hello(country="FR")
        f.nodes["c"].country = "FR"
        asked = {**PROBE, **wanted, "expected_client_ids": ["c", "d"]}
        assert "'one-law'" in await f.refused("sci", "POST", "/api/training/start", asked, 403)
        said = await f.nodes["c"].hello(country="Swiss")
        assert (said.kind, "ISO 3166-1" in said.body.data["message"]) == ("error", True)

    governed(tmp_path, ALL + europe + one, test)


def test_where_no_node_is_left_the_reason_is_the_policies(tmp_path: Path) -> None:
    async def test(f: Federation) -> None:
        asked = {"federated_strategy": "probe", "sample_id_column": None}
        said = await f.refused("sci", "POST", "/api/training/start", asked, 403)
        assert "no node is left: a: nothing permits it" in said

    governed(tmp_path, '@id("p") permit (principal, action == Action::"propose", resource);', test)


def test_who_may_not_be_sent_a_step_is_not_and_the_record_says_why(tmp_path: Path) -> None:
    async def test(f: Federation) -> None:
        run = (await f.propose(model_options={"bytes": 4096}, min_completed=1, min_available_nodes=1))["session_id"]
        assert await f.state(run, "completed", "failed") == "completed"
        steps = [r.record for r in f.store.rounds.list(run)]
        for step in steps:
            assert step["asked"] == ["a"]
            assert "small-models" in step["chosen"]["left_out"]["b"]
        assert f.nodes["b"].tasks == []
        noted = [e for e in decisions(f) if e.node == "b" and not e.detail["allowed"]]
        assert len(noted) == 1  # once, not in each step

    governed(tmp_path, ALL + LARGE, test)


def test_a_run_that_may_not_go_on_now_waits_and_goes_on_when_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "_RETRY_S", 0.05)
    monkeypatch.setattr(files, "OVER_S", 0.0)
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    later = (
        '@id("not-now") forbid (principal, action == Action::"share_model", resource) when { context.bytes >= 0 };\n'
    )

    async def test(f: Federation) -> None:
        run = (await f.propose())["session_id"]
        assert await f.state(run, "paused") == "paused"
        assert "forbidden by policy 'not-now'" in f.store.runs.get(run).reason
        rules = tmp_path / "rules" / "a.cedar"
        rules.write_text(ALL.replace("action", "acton", 1))  # a mistake: nothing is decided
        await f.until(lambda _: "cannot be read now" in f.store.runs.get(run).reason)
        assert f.nodes["a"].tasks == []
        rules.write_text(ALL)
        assert await f.state(run, "completed", "failed") == "completed"
        versions = {e.detail["version"] for e in decisions(f) if e.run == run}
        assert len(versions) == 2

    governed(tmp_path, ALL + later, test)


def test_nothing_is_decided_by_policies_that_cannot_be_kept_for_the_evidence(tmp_path: Path) -> None:
    """A disk that is full, or a folder that is a file: a run waits, and nobody gets a traceback."""

    async def test(f: Federation) -> None:
        (tmp_path / POLICIES).write_text("in the way")
        asked = {"federated_strategy": "probe", "sample_id_column": None, "purpose": "research"}
        said = await f.refused("sci", "POST", "/api/training/start", asked, 503)
        assert "cannot be kept now" in said
        assert str(tmp_path) not in said
        assert decisions(f) == []
        (tmp_path / POLICIES).unlink()
        run = (await f.propose())["session_id"]
        assert await f.state(run, "completed", "failed") == "completed"
        [kept] = (tmp_path / POLICIES).iterdir()
        assert kept.stem == decisions(f)[0].detail["version"]

    governed(tmp_path, ALL, test)


def test_each_question_is_asked_of_the_policies_as_they_are_and_a_step_by_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "OVER_S", 0.0)
    monkeypatch.setattr(files, "LOOK_S", 0.0)
    rules = tmp_path / "rules.cedar"
    rules.write_text(ALL)
    engine = OwnPolicies(rules, tmp_path / "kept")
    config = RunConfig.parse({"federated_strategy": "probe"})
    frozen = freeze(config, {"features": [], "kinds": {}}, {})
    admission = RunAdmission(Governance(engine, lambda *_: None), frozen, "r", "ada", "data_scientist", "ab", {})
    looks = 0

    def looking(self: files.PolicyFiles, real: Callable[[files.PolicyFiles], Any] = files.PolicyFiles._look) -> Any:
        nonlocal looks
        looks += 1
        return real(self)

    async def body() -> None:
        nonlocal looks
        ask = Ask(Record({}), Combine.SUM, "probe", 1)
        assert await admission.refused(ask, 0, "ab") == {}
        monkeypatch.setattr(files.PolicyFiles, "_look", looking)
        for step in range(20):  # no time passes between a change and the question
            looks = 0
            rules.write_text(ALL + BETA * (step % 2) + f"// {step}")
            assert [*await admission.refused(ask, step, "ab")] == ["b"] * (step % 2)
            assert looks == 3  # what they read, take_part and share_model, whatever the number of nodes

    asyncio.run(body())


WHEN = '@id("now") forbid (principal, action == Action::"share_model", resource) when {{ {} }};\n'
LARGER = Record({}, {"x": np.zeros(1000)})


@pytest.mark.parametrize(
    ("what", "then"),
    [
        ("context has step && context.step == 1", {"step": 1}),
        ("context has round && context.round == 2", {"round": 2}),
        ('context.label == "other"', {"label": "other"}),
        ("context.bytes > 4096", {"record": LARGER}),
        ("context.bytes > 4096", {"each": {"b": LARGER}}),
        ("context.time.hour == 13", {"hour": 13}),
        ("context.failures > 0", {"failed": {"b": "away"}}),
        ('context.role == "other"', {"role": "other"}),
        ("context.rows > 5", {"nodes": "abc"}),
    ],
)
def test_a_step_that_differs_in_what_policies_read_is_decided_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, then: dict[str, Any]
) -> None:
    rules, role = tmp_path / "rules.cedar", {"now": "data_scientist"}
    if "rows" in what:
        what = "context has rows && context.rows > 5"
    rules.write_text(ALL + WHEN.format(what))
    monkeypatch.setattr(governance, "_ROLE_S", 0.0)
    config = RunConfig.parse({"federated_strategy": "probe"})
    frozen = freeze(config, {"features": [], "kinds": {}}, {"c": {"name": "d", "version": "1", "most_rows": 9}})
    engine = Governance(OwnPolicies(rules, tmp_path / "kept"), lambda *_: None)
    admission = RunAdmission(engine, frozen, "r", "ada", "data_scientist", "ab", {}, lambda: role["now"])
    asked = 0

    async def refused(*given: Any) -> dict[str, str]:
        nonlocal asked
        asked += 1
        return await Governance.refused(engine, *given)

    monkeypatch.setattr(engine, "refused", refused)

    async def body() -> None:
        monkeypatch.setattr(governance, "now", lambda: datetime(2026, 5, 4, 12, 30, tzinfo=UTC))
        ask = Ask(Record({}, {"x": np.zeros(10)}), Combine.SUM, "probe", 1)
        assert await admission.refused(ask, 0, "ab") == {}
        before = asked
        assert await admission.refused(ask, 0, "ab") == {}
        assert asked == before  # what is the same is not asked again
        monkeypatch.setattr(governance, "now", lambda: datetime(2026, 5, 4, then.get("hour", 12), 30, tzinfo=UTC))
        admission.seen(then.get("failed", {}))
        role["now"] = then.get("role", role["now"])
        changed = {name: then[name] for name in ("round", "label", "record", "each") if name in then}
        found = await admission.refused(replace(ask, **changed), then.get("step", 0), then.get("nodes", "ab"))
        assert found

    asyncio.run(body())


ROLE = '@id("scientists") forbid (principal, action == Action::"share_model", resource)\n'
ROLE += 'unless { context.role == "data_scientist" };\n'


def test_a_run_of_an_account_that_was_disabled_has_no_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies heard the role that it had had."""
    monkeypatch.setattr(driving, "_RETRY_S", 0.05)

    async def test(f: Federation) -> None:
        run = (await f.propose(auto_start=False))["session_id"]
        await f.until(lambda _: f.store.consents.tally(run).complete)
        who = f.store.accounts.find("sci")
        assert who is not None
        f.store.accounts.disable(who.id)
        await f.ok("op", "POST", f"/api/training/sessions/{run}/execute", status=202)
        assert await f.state(run, "paused", "completed") == "paused"
        assert "policy 'scientists'" in f.store.runs.get(run).reason
        assert f.nodes["a"].tasks == []

    governed(tmp_path, ALL + ROLE, test)


def test_a_role_that_is_another_one_in_the_middle_of_a_run_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(governance, "_ROLE_S", 0.0)
    rules = tmp_path / "rules.cedar"
    rules.write_text(ALL + ROLE)
    config = RunConfig.parse({"federated_strategy": "probe"})
    frozen, roles = freeze(config, {"features": [], "kinds": {}}, {}), ["data_scientist", "data_owner", ""]
    engine = Governance(OwnPolicies(rules, tmp_path / "kept"), lambda *_: None)
    about = (frozen, "r", "ada", "data_scientist", "ab", {}, lambda: roles.pop(0))
    admission = RunAdmission(engine, *about)

    async def body() -> None:
        ask = Ask(Record({}), Combine.SUM, "probe", 1)
        assert await admission.refused(ask, 0, "ab") == {}
        assert {*await admission.refused(ask, 1, "ab")} == {*"ab"}
        assert {*await admission.refused(ask, 2, "ab")} == {*"ab"}

    asyncio.run(body())


def test_who_may_not_see_a_result_does_not(tmp_path: Path) -> None:
    async def test(f: Federation) -> None:
        run = (await f.propose())["session_id"]
        assert await f.state(run, "completed", "failed") == "completed"
        for what in ("model", "card", "statistics"):
            said = await f.refused("op", "GET", f"/api/runs/{run}/{what}", None, 403)
            assert "own-results" in said
        assert (await f.call("sci", "GET", f"/api/runs/{run}/model")).status_code == 200

    governed(tmp_path, ALL + MINE, test)


def test_without_policies_nothing_is_asked_and_with_wrong_ones_nothing_starts(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path / "home") as f:
            f.people("a")
            await f.node("a", standing="accept")
            run = (await f.propose())["session_id"]
            assert await f.state(run, "completed", "failed") == "completed"
            assert decisions(f) == []
            assert "left_out" not in f.store.rounds.list(run)[0].record["chosen"]

    asyncio.run(body())
    (tmp_path / "a.cedar").write_text(ALL + BETA.replace("node", "nodd"))
    with pytest.raises(ConfigError, match="nodd"):
        Federation(tmp_path / "other", CoordinatorSettings(policy_file=str(tmp_path / "a.cedar")))
