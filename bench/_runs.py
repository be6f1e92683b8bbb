"""A run of a real federation, proposed and waited for; and a federation whose nodes accept it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation  # noqa: E402

ENDED = ("completed", "failed", "rejected", "cancelled", "expired")


class Ask(Protocol):
    """One request to the coordinator's REST interface; JSON in and out."""

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None, /) -> Any: ...


def one_run(ask: Ask, settings: Mapping[str, Any], patience_s: float = 600) -> dict[str, Any]:
    """Proposes a run that every expected node must complete, waits for its end; its ``session`` and its ``rounds``."""
    run = ask("POST", "/api/training/start", settings)["session_id"]
    ends = time.monotonic() + patience_s
    while (session := ask("GET", f"/api/training/sessions/{run}"))["state"] not in ENDED:
        if time.monotonic() > ends:
            raise RuntimeError(f"run {run} is still {session['state']} after {patience_s:g} s")
        time.sleep(0.2)
    if session["state"] != "completed":
        raise RuntimeError(f"run {run} is {session['state']}: {session['reason']}")
    recorded = ask("GET", f"/api/runs/{run}/rounds?limit=100000")  # a round may take many steps
    return {"session": session, "rounds": recorded["rounds"]}


def probe(nodes: int, rounds: int, **options: Any) -> dict[str, Any]:
    """Settings of a run that sends arrays to and fro and touches no data; ``options`` of the probe."""
    return {
        "federated_strategy": "probe",
        "num_rounds": rounds,
        "model_options": options,
        "min_available_nodes": nodes,
        "min_completed": nodes,
    }


def join(federation: Federation, nodes: int, **policy: str) -> None:
    """Enrols so many nodes that accept what their rules allow, and returns when they are on line. ``policy``: further
    settings of their owners."""
    names = [f"node-{k:03}" for k in range(nodes)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: federation.enrol(name, standing="accept-allowed", **policy), names))
    for name in names:
        federation.start_node(name, wait=False)
    for process in federation.nodes.values():
        process.wait_ready(300)


def periods(started: Iterable[str]) -> list[float]:
    """Seconds from the beginning of each step to that of the next one, of when each began."""
    begins = [when(text) for text in started]
    return [b - a for a, b in zip(begins, begins[1:], strict=False)]


def when(text: str) -> float:
    """Seconds since 1970 of a time that the coordinator tells."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
