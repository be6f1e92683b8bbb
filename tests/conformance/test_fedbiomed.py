"""What Fed-BioMed's document states of its components, shown with real processes (docs/conformance.md, rows B)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
import psutil

from hanse.coordinator.cli import start
from hanse.node.settings import NodeSettings

from .conftest import PROBE, World, approve, hanse

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_a_node_listens_nowhere(world: World) -> None:
    """B6: no process of a node has a port open; its one connection goes out to where the coordinator is."""
    for name, process in world.federation.nodes.items():
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) > 1  # the worker too
        connections = [c for p in family for c in p.net_connections("inet")]
        assert [c for c in connections if c.status == psutil.CONN_LISTEN] == []
        port = int(world.recorders[name].address.rsplit(":", 1)[1])
        assert {c.raddr.port for c in connections if c.raddr} == {port}


def test_what_was_asked_waits_for_the_node(world: World) -> None:
    """B17, B20, B21: a run is proposed while a node is away, the coordinator is killed and started again; when
    the node comes, it fetches the proposal and then its tasks, in order, each answered once."""
    federation = world.federation
    federation.nodes["hill"].stop()
    run = world.propose(**PROBE, expected_client_ids=["hill", "lake"])
    federation.coordinator.kill()
    federation.coordinator.start()
    federation.start_node("hill")
    approve(world, run)
    session = world.until(run, "completed", "failed")
    assert session["state"] == "completed", session["reason"]
    rounds = world.rest("GET", f"/api/runs/{run}/rounds")["rounds"]
    assert [r["round"] for r in rounds] == [1, 2, 3]
    assert all(set(r["participants"]) == {"hill", "lake"} and not r["failures"] for r in rounds)
    place = str(federation.home / "hill")
    told = [json.loads(line) for line in hanse("node", "audit", "--json", "--last", "0", "--home", place).splitlines()]
    answered = [e for e in told if e["subject"] == run and e["action"] == "task.answered"]
    assert [e["detail"]["step"] for e in answered] == [r["step"] for r in rounds]


def test_every_setting_of_node_and_coordinator_is_documented() -> None:
    """B25, B26: docs/reference has each of them."""
    text = "".join((REFERENCE / f"{page}.md").read_text(encoding="utf-8") for page in ("node", "coordinator"))
    settings = NodeSettings()
    for section in ("policy", "limits", "coordinator"):
        for field in dataclasses.fields(getattr(settings, section)):
            assert f"`{section}.{field.name}`" in text, f"{section}.{field.name}"
    for field in dataclasses.fields(NodeSettings):
        assert f"`{field.name}`" in text or f"`{field.name}." in text, field.name
    for option in start.params:
        assert isinstance(option, click.Option)
        assert f"`{option.opts[0]}`" in text, option.opts[0]
