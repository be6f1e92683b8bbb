"""What mllabiome's document states, shown with real processes (docs/conformance.md, rows M)."""

from __future__ import annotations

import struct

from tests.waiting import until

from .conftest import HEART, PATIENT, TOWN, VALUE, World, approve, await_proposal, hanse
from .recorder import payloads

RARE = [TOWN.encode(), PATIENT.encode(), b"1234.567", *(struct.pack(code, VALUE) for code in ("<d", ">d", "<f", ">f"))]


def test_no_raw_row_is_on_the_wire_or_at_the_coordinator(world: World) -> None:
    """M1, M22, S2: every byte between two nodes and their coordinator, TLS taken off: greeting, heartbeats,
    proposals, statistics, models, a refusal and errors. None holds a patient's id, value or town; nor does
    any file of the coordinator."""
    place = str(world.federation.home / "hill")
    for model in ("logistic_regression", "xgboost", "random_forest"):
        run = world.propose(model_name=model, **HEART)
        approve(world, run)
        session = world.until(run, "completed", "failed")
        assert session["state"] == "completed", session["reason"]
    rejected = world.propose(model_name="xgboost", **HEART)
    await_proposal(world, rejected)
    hanse("node", "reject", rejected, "--reason", "not now", "--home", place)
    assert world.until(rejected, "rejected")["state"] == "rejected"
    # a node's data are damaged after its owner agreed: the error names neither path nor content
    failing = world.propose(model_name="logistic_regression", auto_start=False, max_failed_rounds=0, **HEART)
    approve(world, failing)
    before = world.data("hill").read_text(encoding="utf-8")
    world.data("hill").write_text(before.replace(f",{VALUE},", f",{TOWN} {VALUE},"), encoding="utf-8")
    try:
        world.rest("POST", f"/api/training/sessions/{failing}/execute")
        reason = world.until(failing, "failed")["reason"]
    finally:
        world.data("hill").write_text(before, encoding="utf-8")
    assert "hill" in reason
    assert str(world.federation.home) not in reason

    until(lambda: all(b'"kind":"heartbeat"' in recorder.sent() for recorder in world.recorders.values()), 0.2)
    for name, recorder in world.recorders.items():
        sent = recorder.sent()
        of_hill = ("consent", "error") if name == "hill" else ()
        for kind in ("hello", "heartbeat", "reply", *of_hill):
            assert f'"kind":"{kind}"'.encode() in sent, (name, kind)
        assert b"marker" in sent  # names of columns do travel: we look at the right bytes
        assert b'"kind":"task"' in recorder.received()
        for rare in RARE:
            for seen in (recorder.up, recorder.down, sent, recorder.received()):
                assert rare not in seen, (name, rare)
        assert str(world.federation.home).encode() not in sent  # nor a path of the node's machine
    files = [p for p in (world.federation.home / "coordinator").rglob("*") if p.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        assert not [rare for rare in RARE if rare in content], path


def test_the_recorder_sees_what_is_cut_in_two() -> None:
    """The search above finds what it looks for, also where HTTP/2 cuts it and mixes streams."""

    def frame(stream: int, body: bytes) -> bytes:
        return len(body).to_bytes(3, "big") + b"\0\0" + stream.to_bytes(4, "big") + body

    first, second = TOWN.encode()[:5], TOWN.encode()[5:]
    wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(1, first) + frame(3, b"xx") + frame(1, second)
    assert TOWN.encode() not in wire
    assert TOWN.encode() in payloads(wire)
