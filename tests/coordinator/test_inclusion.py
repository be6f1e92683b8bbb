"""A node is shown that just what it sent was counted; a reply that was exchanged, or left out, is found by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanse.errors import WireError
from hanse.evidence import seal
from hanse.evidence.archive import unpack
from hanse.evidence.included import included
from hanse.evidence.sealed import MANIFEST, SIGNATURE
from hanse.messages import Message, dumps, loads, receipt
from hanse.store.audit import AuditLog

from .federation import Federation


def logged(home: Path, node: Any) -> AuditLog:
    """Has the node write an audit log of what it answers, as the gate does."""
    log, handle = AuditLog(home / f"{node.name}.jsonl", sync=False), node.handle

    async def noting(peer: str, message: Message, progress: Any) -> Message:
        answer: Message = await handle(peer, message, progress)
        if message.kind == "task":
            said = message.body.data
            detail = {name: said[name] for name in ("step", "exchange", "op")}
            log.append(peer, "task.answered", said["run"], {**detail, "reply": receipt(answer.body)})
        return answer

    node.handle = noting
    return log


@pytest.mark.parametrize("size", [64, 2 << 20])
def test_what_a_node_sent_is_in_what_was_signed(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            logs = {}
            for name in ("a", "b"):
                node = await f.node(name, online=False, signs=True, standing="accept")
                logs[name] = logged(tmp_path, node)
                await f.connect(name)
            session = await f.propose(expected_client_ids=["a", "b"], model_options={"bytes": size})
            run = session["session_id"]
            await f.state(run, "completed")
            raw = (await f.call("sci", "GET", f"/api/runs/{run}/evidence")).content
            steps = [json.loads(line) for line in unpack(raw)["rounds.jsonl"].splitlines()]
            assert all({*step["receipts"]} == {"root", "of"} for step in steps)
            shown = await f.ok("sci", "GET", f"/api/runs/{run}/rounds")
            assert not any("receipts" in step for step in shown["rounds"])
            path = f"/api/runs/{run}/inclusion"
            for name in ("a", "b"):
                proof = await f.ok(f"owner-{name}", "GET", f"{path}?client_id={name}")
                found = included(raw, proof, logs[name].each())
                assert found.counted == tuple(range(len(steps)))
                assert not found.problems
                assert found.apart_s < 60  # both are of one clock here
                late = [e._replace(time="2099-01-01T00:00:00+00:00") for e in logs[name].each()]
                assert included(raw, proof, late).apart_s > 1e9
            for who in ("sci", "op"):
                await f.refused(who, "GET", f"{path}?client_id=a", None, 403)
            await f.refused("owner-b", "GET", f"{path}?client_id=a", None, 403)

            # what the other node sent is not what this one did
            proof = await f.ok("owner-a", "GET", f"{path}?client_id=a")
            assert {*included(raw, proof, logs["b"].each()).problems} == {*range(len(steps))}
            assert included(raw, {**proof, "steps": proof["steps"][1:]}, logs["a"].each()).problems.keys() == {0}
            for no_proof in (
                {"run": "other"},
                {"steps": [{}]},
                {"steps": 3},
                {"node": None, "steps": None},
            ):
                with pytest.raises(WireError):
                    included(raw, {**proof, **no_proof}, logs["a"].each())
            for change in ({"salt": "00" * 32}, {"way": []}, {"way": ["x"]}, {"place": 1}, {"sent": []}, {"of": 1}):
                wrong = {**proof, "steps": [{**proof["steps"][0], **change}, *proof["steps"][1:]]}
                assert included(raw, wrong, logs["a"].each()).problems.keys() == {0}, change

    asyncio.run(main())


def test_a_step_of_which_nothing_is_said_is_not_sound(tmp_path: Path) -> None:
    """A coordinator that drops a node from its record, and a step that there is no record of."""

    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            for name in ("a", "b"):
                node = await f.node(name, online=False, standing="accept")
                log = logged(tmp_path, node)
                await f.connect(name)
            run = (await f.propose(expected_client_ids=["a", "b"]))["session_id"]
            await f.state(run, "completed")
            raw = (await f.call("op", "GET", f"/api/runs/{run}/evidence")).content
            proof = await f.ok("owner-b", "GET", f"/api/runs/{run}/inclusion?client_id=b")
            assert included(raw, proof, log.each()).sound
            assert f.it.authority is not None
            authority = f.it.authority

            def signed_anew(change: Callable[[list[Any]], object], **more: str) -> bytes:
                files = unpack(raw)
                manifest = loads(files.pop(MANIFEST).decode())
                del files[SIGNATURE]
                steps = [loads(line.decode()) for line in files["rounds.jsonl"].splitlines()]
                change(steps)
                files["rounds.jsonl"] = b"".join(dumps(step).encode() + b"\n" for step in steps)
                about = {name: value for name, value in manifest.items() if name not in ("form", "files")}
                return seal({**about, **more}, files, authority.sign)

            dropped = included(signed_anew(lambda steps: steps[0]["participants"].pop("b")), proof, log.each())
            assert dropped.unsaid == {0: "the record of the step neither counts this node nor says why not"}
            assert not dropped.sound
            assert not dropped.problems
            last = max(step["step"] for step in proof["steps"])

            def too_late(steps: list[Any]) -> None:
                steps[-1]["participants"].pop("b")
                steps[-1]["failures"]["b"] = f"the run was over before what step {last} asked it came"

            late = included(signed_anew(too_late), proof, log.each())
            assert "the run was over" in late.left_out[last]
            assert late.sound
            short = included(signed_anew(lambda steps: steps.pop()), proof, log.each())
            assert short.unsaid == {last: "there is no record of the step"}
            cancelled = included(signed_anew(lambda steps: steps.pop(), state="cancelled"), proof, log.each())
            assert "before the step was over" in cancelled.left_out[last]
            assert cancelled.sound
            failed = included(signed_anew(lambda steps: steps[-1].update(status="failed")), proof, log.each())
            assert failed.left_out == {last: "the step failed, so nothing of it was counted"}

    asyncio.run(main())


def test_a_node_that_was_left_out_is_told_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with Federation(tmp_path) as f:
            f.people("a", "b")
            logs = {}
            for name in ("a", "b"):
                node = await f.node(name, online=False, standing="accept")
                logs[name] = logged(tmp_path, node)
                await f.connect(name)
            f.nodes["b"].inflate = -1.0  # a weight that no rows can have
            run = (await f.propose(expected_client_ids=["a", "b"], min_completed=1))["session_id"]
            await f.state(run, "completed")
            raw = (await f.call("op", "GET", f"/api/runs/{run}/evidence")).content
            proof = await f.ok("owner-b", "GET", f"/api/runs/{run}/inclusion?client_id=b")
            found = included(raw, proof, logs["b"].each())
            assert not found.counted
            assert "expected a finite number of at least 0" in found.left_out[0]
            assert not found.problems

    asyncio.run(main())
