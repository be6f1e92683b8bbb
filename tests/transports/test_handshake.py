"""A handshake that fails is explained in a sentence."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import pytest

import hanse.identity
from hanse.identity import Authority
from hanse.messages import MAX_MESSAGE_BYTES, Memory
from hanse.transports import Caller
from hanse.transports._grpc_coordinator import GrpcCoordinator
from hanse.transports.grpc import line
from tests.transports.grpc_federation import credentials_of, echo, identity
from tests.waiting import PATIENCE


async def said_by(node_of: Authority, server_of: Authority, ahead: datetime.timedelta) -> str:
    """What a node reports that dials a coordinator whose certificate was made so far ahead of the node's clock."""
    coordinator = GrpcCoordinator(echo)
    with pytest.MonkeyPatch.context() as patch:
        real = hanse.identity._now()
        patch.setattr(hanse.identity, "_now", lambda: real + ahead)
        credentials = credentials_of(server_of)
    where = await coordinator.start("127.0.0.1:0", credentials)
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def report(what: str, detail: str) -> None:
        if not found.done():
            found.set_result(f"{what}: {detail}")

    address = f"grpc://{where}"
    me = identity(node_of, "ulm", address)
    calling = line(address, Caller("ulm", lambda: me, echo, Memory, report, lambda *what: None, MAX_MESSAGE_BYTES))
    calling.start()
    try:
        return await asyncio.wait_for(found, PATIENCE)
    finally:
        await calling.close()
        await coordinator.stop()


@pytest.mark.parametrize("days", [1.25, 9, 600])
def test_clocks_that_are_apart_let_a_node_in(tmp_path: Path, days: float) -> None:
    """Also where a coordinator was started with a wrong clock, which was put right later."""
    authority = Authority.open(tmp_path)
    said = asyncio.run(said_by(authority, authority, datetime.timedelta(days=days)))
    assert said.startswith("connected")


def test_a_clock_before_the_authority_began_and_the_coordinators_are_both_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = datetime.timedelta(days=9)
    with monkeypatch.context() as patch:
        real = hanse.identity._now()
        patch.setattr(hanse.identity, "_now", lambda: real + ahead)
        authority = Authority.open(tmp_path)
    said = asyncio.run(said_by(authority, authority, ahead))
    here = datetime.datetime.now(datetime.UTC)
    assert f"this node's clock says {here:%Y-%m-%d}" in said
    assert f"from {here + ahead - datetime.timedelta(days=2):%Y-%m-%d}" in said
    assert "set the clock" in said


def test_another_authority_is_named(tmp_path: Path) -> None:
    mine, other = Authority.open(tmp_path / "a"), Authority.open(tmp_path / "b")
    said = asyncio.run(said_by(mine, other, datetime.timedelta()))
    assert "of another authority than the one that this node joined" in said
