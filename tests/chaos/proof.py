"""What has to be so when all is over, whatever happened: each function gives the sentences that say what is not."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.world import NODES, World

Json = Any
_PAGE = 500
_KEPT = (
    "SELECT DISTINCT r.id, r.state FROM checkpoints c JOIN runs r ON r.id = c.run WHERE r.state IN "
    "('completed', 'rejected', 'expired', 'cancelled')"
)


async def runs(
    world: World, references: Mapping[str, str], proposed: Mapping[str, str]
) -> tuple[list[str], dict[str, int]]:
    """Every run that the coordinator took is there, has ended, and ended with the undisturbed bytes or with a reason;
    and how many ended how."""
    found = await _listed(world)
    wrong = [f"run {run} was taken and is not there any more" for run in proposed if run not in found]
    ends: dict[str, int] = {}
    for run in found:
        session = await world.ask("GET", f"/api/training/sessions/{run}")
        state, name = session["state"], session["config"]["name"]
        ends[state] = ends.get(state, 0) + 1
        if state == "completed":
            sha = (session["result"] or {}).get("sha256")
            if sha != references[name]:
                wrong.append(f"run {run} ({name}) ended with {sha}, undisturbed with {references[name]}")
        elif state not in ("failed", "rejected", "expired", "cancelled"):
            wrong.append(f"run {run} ({name}) is {state}: {session['reason']}")
        elif not session["reason"]:
            wrong.append(f"run {run} ({name}) is {state} without a reason")
    return wrong, ends


async def _listed(world: World) -> list[str]:
    """All runs that are there, page after page."""
    found: list[str] = []
    while True:
        path = f"/api/training/sessions?limit={_PAGE}&offset={len(found)}"
        page = (await world.ask("GET", path))["sessions"]
        found += [session["session_id"] for session in page]
        if len(page) < _PAGE:
            return found


async def told_apart(world: World) -> list[str]:
    """What the coordinator counted as an answer stands in the audit log of the node that gave it."""
    wrong = []
    answered = {name: _answered(world.sites / name / "audit.jsonl") for name in NODES}
    for run in await _listed(world):
        for step in (await world.ask("GET", f"/api/runs/{run}/rounds"))["rounds"]:
            for node in step["participants"]:
                if (run, step["step"]) not in answered[node]:
                    wrong.append(f"{node} answered step {step['step']} of {run}, and its audit log does not say so")
    return wrong


def _answered(file: Path) -> set[tuple[str, int]]:
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    return {(e["subject"], e["detail"]["step"]) for e in entries if e["action"] == "task.answered"}


def chains(world: World) -> Iterator[str]:
    """The hash chains of all audit logs are whole; databases are sound."""
    for name in NODES:
        yield from _command("node", "audit", "--verify", "--last", "1", "--home", str(world.sites / name))
    yield from _command("coordinator", "audit", "--verify", "--home", str(world.hub / "home"))
    for path in (*world.folder.rglob("*.db"), *world.hub.rglob("*.db"), *world.sites.rglob("*.db")):
        with sqlite3.connect(path) as database:
            said = database.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            yield f"{path.name}: {said[:200]}"


def ledgers(world: World) -> Iterator[str]:
    """What was answered was booked: the budget of every node can be read."""
    for name in NODES:
        yield from _command("node", "budget", "--home", str(world.sites / name))


def _command(*arguments: str) -> Iterator[str]:
    done = subprocess.run([sys.executable, "-m", "hanse.cli", *arguments], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        yield f"hanse {' '.join(arguments[:2])}: {(done.stderr or done.stdout).strip()[-500:]}"


def left_behind(world: World, before: set[str]) -> Iterator[str]:
    """After all was stopped: no process, no socket, no shared memory, no half file, no state of a run that is over."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        told = " ".join(process.info["cmdline"] or ())
        if process.pid != os.getpid() and str(world.folder) in told and "chaos" not in told.split(str(world.folder))[0]:
            yield f"process {process.pid} is left: {told[:200]}"
    after = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    yield from (f"shared memory {name} is left" for name in sorted(after - before) if "hanse" in name)
    yield from (f"{path} is left" for path in world.sites.rglob("control.sock"))
    yield from (f"{path} is left" for path in (world.hub / "home" / "spool").glob("*"))
    for folder in (world.hub, world.sites):
        yield from (f"{path} is left" for path in folder.rglob("*.tmp*"))
    if world.postgres is not None:
        kept = world.postgres.query(_KEPT, world.postgres.url)
    else:
        with sqlite3.connect(world.hub / "home" / "hanse.db") as database:
            kept = database.execute(_KEPT).fetchall()
    yield from (f"run {run} is {state} and keeps a checkpoint" for run, state in kept)


def logs(world: World) -> Iterator[str]:
    """No traceback in any log that is not of a fault of storage."""
    for log in world.folder.glob("*.log"):
        text = log.read_text(errors="replace")
        for part in text.split("Traceback (most recent call last):")[1:]:
            last = next((line for line in part.splitlines()[1:] if line and not line.startswith((" ", "\t"))), "")
            if not any(word in last for word in ("No space", "database or disk", "disk I/O", "Input/output")):
                yield f"{log.name}: {last[:300]}"
