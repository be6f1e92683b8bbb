"""A run's evidence: whole it is sound; any byte of it that is another is found, and so is what the coordinator itself
would sign anew."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hanse.coordinator.settings import CoordinatorSettings
from hanse.errors import Tampered
from hanse.evidence import Verified, seal, verify
from hanse.evidence.archive import unpack
from hanse.evidence.crate import described
from hanse.evidence.sealed import MANIFEST, SIGNATURE
from hanse.experiment.cli_audit import audit
from hanse.identity import Authority
from hanse.messages import dumps, loads
from hanse.store.states import TERMINAL, RunState

from .federation import Federation

POLICY = '@id("all") permit (principal, action, resource);'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Authority, Path]:
    """The evidence of a run of two nodes with keys, beside which another run went on."""
    home = tmp_path_factory.mktemp("federation")
    (home / "rules.cedar").write_text(POLICY)

    async def main() -> tuple[bytes, Authority]:
        async with Federation(home, CoordinatorSettings(policy_file=str(home / "rules.cedar"))) as f:
            f.people("a", "b", "c")
            nodes = [await f.node(name, signs=True, consent="node", standing="accept") for name in ("a", "b")]
            await f.node("c", standing="accept")
            run, other = [
                (await f.propose(expected_client_ids=names, purpose="research"))["session_id"]
                for names in (["a", "b"], ["c"])
            ]
            await f.state(run, "completed")
            await f.state(other, "completed")
            assert all(node.finished for node in nodes) or await f.until(lambda _: all(n.finished for n in nodes))
            await f.until(lambda _: f.store.audit.entries()[-1].detail.get("to") == "completed")
            answer = await f.call("sci", "GET", f"/api/runs/{run}/evidence")
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "application/zip"
            assert f.it.authority is not None
            return answer.content, f.it.authority

    return *asyncio.run(main()), home


Evidence = tuple[bytes, Authority, Path]


def test_it_is_sound_and_says_what_it_rests_on(made: Evidence) -> None:
    raw, authority, _ = made
    found = verify(raw, authority.pem)
    assert found.problems == ()
    said = "\n".join(found.notes)
    assert "decisions signed by their nodes: a, b" in said
    done = [step for line in unpack(raw)["rounds.jsonl"].splitlines() if (step := json.loads(line))["status"] == "ok"]
    assert len(done) > 1
    assert f"{len(done)} steps, each with who took part" in said
    assert found.state == "completed"
    assert found.head[0] > 3
    files = unpack(raw)
    assert hashlib.sha256(files["proposal.json"]).hexdigest() == found.bundle
    (texts,) = json.loads(files["policies.json"]).values()
    assert texts == {"rules.cedar": POLICY}
    assert "research" in files["run.json"].decode()


def test_it_tells_nothing_of_other_runs(made: Evidence) -> None:
    files = unpack(made[0])
    for name, content in files.items():
        assert b'"c"' not in content, name


def test_it_is_an_ro_crate(made: Evidence) -> None:
    files = unpack(made[0])
    crate = json.loads(files["ro-crate-metadata.json"])
    graph = {one["@id"]: one for one in crate["@graph"]}
    assert len(graph) == len(crate["@graph"])  # each thing once
    assert graph["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = graph[graph["ro-crate-metadata.json"]["about"]["@id"]]
    assert {"name", "description", "datePublished", "license"} <= {*root}
    assert {part["@id"] for part in root["hasPart"]} == {*files} - {"ro-crate-metadata.json"}

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [value["@id"]] if set(value) == {"@id"} else [r for v in value.values() for r in references(v)]
        return [r for v in value for r in references(v)] if isinstance(value, list) else []

    outside = ("http://", "https://")
    assert all(r in graph for r in references(crate["@graph"]) if not r.startswith(outside))
    assert graph["#decision-a"]["@type"] == "AuthorizeAction"


def test_any_byte_that_is_another_is_found(made: Evidence) -> None:
    """Each byte of the file is changed in turn, in the small parts; every 97th elsewhere."""
    raw, authority, _ = made
    code = raw.index(unpack(raw)["preview.txt"])
    long = range(code, code + len(unpack(raw)["preview.txt"]))
    sound = verify(raw, authority.pem)
    assert not sound.problems
    places = [*range(0, len(raw), 53), *range(len(raw) - 1200, len(raw)), *range(200)]
    for name in unpack(raw):
        start = raw.index(unpack(raw)[name])
        places += [start, start + len(unpack(raw)[name]) - 1]
    for place in places:
        if place in long and place % 53:
            continue
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(Tampered):
            verify(bytes(changed), authority.pem)


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -30])
def test_what_is_cut_off_or_has_more_at_its_ends_is_found(made: Evidence, cut: int) -> None:
    raw = made[0]
    for wrong in (raw[:cut], raw + b"x", b"x" + raw, raw + raw):
        with pytest.raises(Tampered):
            verify(wrong)


def forged(made: Evidence, change: Callable[[dict[str, bytes]], None]) -> tuple[str, ...]:
    """What is found where the coordinator itself changes a part and signs all of it anew."""
    return resigned(made, change).problems


def resigned(made: Evidence, change: Callable[[dict[str, bytes]], None]) -> Verified:
    raw, authority, _ = made
    files = unpack(raw)
    manifest = loads(files[MANIFEST].decode())
    del files[MANIFEST], files[SIGNATURE]
    change(files)
    about = {name: value for name, value in manifest.items() if name not in ("form", "files")}
    return verify(seal(about, files, authority.sign), authority.pem)


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    def edit(files: dict[str, bytes]) -> None:
        files[name] = dumps(change(loads(files[name].decode()))).encode()

    return edit


def test_a_coordinator_cannot_turn_a_decision_round_or_make_one(made: Evidence) -> None:
    def turned(given: Any) -> Any:
        given[0]["decision"] = "reject"
        return given

    assert any("not the decision that stands there" in p for p in forged(made, edited("consents.json", turned)))
    assert any("b did not agree" in p for p in forged(made, edited("consents.json", lambda given: given[:1])))

    def another(given: Any) -> Any:
        given[1]["proof"] = given[0]["proof"]
        return given

    assert forged(made, edited("consents.json", another))

    def unsigned(given: Any) -> Any:
        given[1]["proof"] = None
        return given

    assert any("yes of b is not signed" in p for p in forged(made, edited("consents.json", unsigned)))

    def none_and_never_started(files: dict[str, bytes]) -> None:
        edited("consents.json", lambda given: given[:1])(files)
        edited("run.json", lambda run: {**run, "started": None})(files)

    assert any("b did not agree" in p for p in forged(made, none_and_never_started))

    def taken_back(files: dict[str, bytes]) -> None:
        proof = loads(files["consents.json"].decode())[0]["proof"]  # a yes
        event = {"id": 9_999, "kind": "consent.withdrawn", "node": "a", "time": "now", "detail": {"proof": proof}}
        files["events.jsonl"] += dumps(event).encode() + b"\n"

    assert any("is not that a took its approval back" in p for p in forged(made, taken_back))


def test_dates_of_node_and_coordinator_that_are_apart_are_said(made: Evidence) -> None:
    """The node's key signs its own; the coordinator can only date when it heard of a decision."""
    assert not [note for note in resigned(made, lambda files: None).notes if "dates its decision" in note]

    def later(given: Any) -> Any:
        at = datetime.fromisoformat(given[0]["time"]) + timedelta(hours=5)
        return [{**given[0], "time": at.isoformat()}, *given[1:]]

    found = resigned(made, edited("consents.json", later))
    [said] = [note for note in found.notes if "dates its decision" in note]
    assert "before the coordinator heard of it" in said
    assert all("the description of the crate" in problem for problem in found.problems)  # as it was not made anew


def test_a_coordinator_cannot_put_other_code_or_another_purpose_under_the_decisions(made: Evidence) -> None:
    def other_code(files: dict[str, bytes]) -> None:
        content = loads(files["proposal.json"].decode())
        content["code"] = {name: source + "\n# and more" for name, source in content["code"].items()}
        files["proposal.json"] = dumps(content).encode()

    assert any("the proposal has the SHA-256" in p for p in forged(made, other_code))

    def other_proposer(run: Any) -> Any:
        return {**run, "proposer": "eve"}

    assert any("not the decision" in p for p in forged(made, edited("run.json", other_proposer)))


def test_a_preview_says_what_the_proposal_says(made: Evidence) -> None:
    """Not only in its first line: it is what people read."""

    def reads(before: bytes, after: bytes) -> Callable[[dict[str, bytes]], None]:
        def change(files: dict[str, bytes]) -> None:
            assert before in files["preview.txt"]
            files["preview.txt"] = files["preview.txt"].replace(before, after, 1)

        return change

    for before, after in (
        (b"num_rounds = 3", b"num_rounds = 1"),
        (b"def answer(", b"def  answer("),
        (b"# settings", b""),
    ):
        assert any("the preview" in p for p in forged(made, reads(before, after))), before


def test_a_preview_of_another_release_is_held_by_its_code(made: Evidence) -> None:
    """Its words are that release's; the code in it reads alike in each."""
    raw, authority, _ = made
    files = unpack(raw)
    manifest = loads(files.pop(MANIFEST).decode())
    del files[SIGNATURE]
    other = dumps({**loads(files["proposal.json"].decode()), "hanse": "0.0.1"}).encode()
    names = {name: value for name, value in manifest.items() if name not in ("form", "files")}
    about = {**names, "bundle": hashlib.sha256(other).hexdigest()}
    shown = files["preview.txt"].replace(manifest["bundle"].encode(), about["bundle"].encode())
    shown = shown.replace(b"# settings", b"# what was set", 1)
    found = verify(seal(about, {**files, "proposal.json": other, "preview.txt": shown}, authority.sign))
    assert any("for its settings see the proposal" in note for note in found.notes)
    changed = shown.replace(b"def answer(", b"def  answer(", 1)
    found = verify(seal(about, {**files, "proposal.json": other, "preview.txt": changed}, authority.sign))
    assert any("the preview is of another proposal" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RunState.PENDING, "PotentialActionStatus"),
        (RunState.AWAITING_CONSENT, "PotentialActionStatus"),
        (RunState.RUNNING, "ActiveActionStatus"),
        (RunState.PAUSED, "ActiveActionStatus"),
        (RunState.STOPPING, "ActiveActionStatus"),
        (RunState.COMPLETED, "CompletedActionStatus"),
        *((state, "FailedActionStatus") for state in sorted(TERMINAL - {RunState.COMPLETED})),
    ],
)
def test_each_state_of_a_run_is_one_of_an_action(state: RunState, said: str) -> None:
    run = {"id": "r", "state": str(state), "proposer": "p"}
    graph = json.loads(described(run, [], {}, "2026-01-01T00:00:00+00:00"))["@graph"]
    (action,) = (one for one in graph if one["@id"] == "#run")
    assert action["actionStatus"] == {"@id": f"http://schema.org/{said}"}


def test_the_audit_log_is_held_by_its_chain(made: Evidence) -> None:
    def changed(files: dict[str, bytes]) -> None:
        files["audit.jsonl"] = files["audit.jsonl"].replace(b'"decision":"accept"', b'"decision":"reject"', 1)

    assert any("does not fit its hash" in p for p in forged(made, changed))

    def without(files: dict[str, bytes]) -> None:
        lines = files["audit.jsonl"].splitlines(keepends=True)
        files["audit.jsonl"] = b"".join(lines[:2] + lines[3:])

    assert forged(made, without)


def test_other_authorities_are_told_apart(made: Evidence, tmp_path: Path) -> None:
    raw, authority, _ = made
    other = Authority.open(tmp_path / "other")
    assert any("another than the expected" in p for p in verify(raw, other.pem).problems)
    files = unpack(raw)
    manifest = loads(files[MANIFEST].decode())
    del files[MANIFEST], files[SIGNATURE]
    about = {name: value for name, value in manifest.items() if name not in ("form", "files")}
    files["authority.crt"] = other.pem
    found = verify(seal(about, files, other.sign), authority.pem)
    assert len(found.problems) >= 2  # signed by somebody else, and the nodes' certificates are not of that one


def test_the_command_says_it_in_words_and_in_its_status(made: Evidence, tmp_path: Path) -> None:
    raw, authority, _ = made
    (tmp_path / "sound.zip").write_bytes(raw)
    (tmp_path / "authority.crt").write_bytes(authority.pem)
    runner = CliRunner()
    good = runner.invoke(audit, ["verify", f"{tmp_path}/sound.zip", "--authority", f"{tmp_path}/authority.crt"])
    assert good.exit_code == 0, good.output
    assert "is sound" in good.output
    (tmp_path / "model").write_bytes(b"another")
    bad = runner.invoke(audit, ["verify", f"{tmp_path}/sound.zip", "--model", f"{tmp_path}/model", "--json"])
    assert bad.exit_code == 1
    assert "the model has the SHA-256" in json.loads(bad.output)["problems"][0]
    (tmp_path / "bad.zip").write_bytes(raw.replace(b"research", b"commerce"))
    bad = runner.invoke(audit, ["verify", f"{tmp_path}/bad.zip"])
    assert bad.exit_code == 1
    assert "NOT sound" in bad.output


def test_who_may_fetch_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            await f.node("a", standing="accept")
            await f.node("b")
            run = (await f.propose(expected_client_ids=["a"]))["session_id"]
            await f.state(run, "completed")
            for who in ("sci", "op", "owner-a"):
                answer = await f.call(who, "GET", f"/api/runs/{run}/evidence")
                assert answer.status_code == 200
                assert any("yes of a is not signed" in problem for problem in verify(answer.content).problems)
                found = verify(answer.content, unsigned=["a"])
                assert found.problems == ()
                assert any("coordinator's word alone: a" in note for note in found.notes)  # this node has no key
            await f.refused("owner-b", "GET", f"/api/runs/{run}/evidence", None, 403)
            await f.refused("op", "GET", "/api/runs/none/evidence", None, 404)

    asyncio.run(main())
