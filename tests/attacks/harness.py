"""A federation of real processes with small, real tables, and what the attacks on it share."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from demo.federation import Federation, hanse
from tests.waiting import PATIENCE, until

ENDED = ("completed", "failed", "rejected", "expired", "cancelled")
Json = Any

SETTINGS: dict[str, Json] = {
    "model_name": "logistic_regression",
    "federated_strategy": "fedavg",
    "target_column": "y",
    "sample_id_column": None,
    "seed": 7,
    "consent_timeout_s": 600.0,
    "wait_timeout_s": 60.0,
}


def table(path: Path, site: int, rows: int = 120) -> Path:
    """A site's patients; each site's are a little different."""
    rng = np.random.default_rng(site)
    x = rng.normal(site / 4, 1, (rows, 3))
    y = (x @ [1.0, -2.0, 0.5] + rng.normal(0, 1, rows) > 0).astype(int)
    lines = ["a,b,c,y", *(",".join([*(f"{v:.4f}" for v in row), str(label)]) for row, label in zip(x, y, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def site_name(place: int) -> str:
    return f"site-{chr(ord('a') + place)}"


def join(federation: Federation, count: int, start: bool = True, **policy: str) -> list[str]:
    """Enrols so many nodes, each with its table, and starts them."""
    names = [site_name(i) for i in range(count)]
    policy = {"standing": "accept-allowed", **policy}
    for i, name in enumerate(names):
        home = federation.enrol(name, **policy)
        file = table(federation.home / f"{name}.csv", i)
        hanse("node", "dataset", "add", str(file), "--name", "patients", "--home", str(home))
    for name in names if start else ():
        federation.start_node(name, wait=False)
    for name in names if start else ():
        federation.nodes[name].wait_ready()
    return names


def propose(federation: Federation, **settings: Json) -> str:
    made = federation.rest("POST", "/api/training/start", {**SETTINGS, **settings})
    return str(made["session_id"])


def session(federation: Federation, run: str) -> Json:
    return federation.rest("GET", f"/api/training/sessions/{run}")


def rounds(federation: Federation, run: str) -> list[Json]:
    found: list[Json] = federation.rest("GET", f"/api/runs/{run}/rounds")["rounds"]
    return found


def ended(federation: Federation, run: str, patience: float = PATIENCE) -> Json:
    """The session once it is over."""
    # the coordinator is not asked again and again: each look has it send all that the run is
    until(lambda: kept(federation.home, "SELECT state FROM runs WHERE id = ?", run) in ENDED, patience=patience)
    return session(federation, run)


def kept(home: Path, question: str, run: str) -> Json:
    """What the coordinator's database says of a run, without asking the coordinator."""
    with contextlib.closing(
        sqlite3.connect(f"file:{home / 'coordinator' / 'hanse.db'}?mode=ro", uri=True, timeout=PATIENCE)
    ) as database:
        (found,) = database.execute(question, (run,)).fetchone()
    return found


def steps_done(home: Path, run: str) -> int:
    return int(kept(home, "SELECT count(*) FROM rounds WHERE run = ?", run))


def worker_of(process_id: int) -> int:
    """The node's worker process."""
    (worker,) = [c.pid for c in psutil.Process(process_id).children() if "worker_main" in " ".join(c.cmdline())]
    return worker


def events(federation: Federation, kind: str) -> list[Json]:
    found: list[Json] = federation.rest("GET", f"/api/events?kind={kind}&limit=1000")["events"]
    return found


def audit(federation: Federation, node: str) -> list[Json]:
    """A node's audit log, as its owner reads it (and verified)."""
    import json

    said = hanse("node", "audit", "--json", "--last", "0", "--home", str(federation.home / node))
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


class Pinch:
    """A TCP proxy that can stop forwarding without closing anything: a cut cable, no FIN and no RST."""

    def __init__(self, target: tuple[str, int]) -> None:
        import socket

        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.open = threading.Event()
        self.open.set()
        self._sockets: list[Any] = [self._listener]
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        import socket

        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.open.is_set():
                self._sockets.append(near)  # taken by the kernel, never answered
                continue
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: Any, sink: Any) -> None:
        cut = False
        try:
            while data := source.recv(65536):
                cut = cut or not self.open.is_set()
                if cut:  # what was cut stays cut: only a new connection passes
                    continue
                sink.sendall(data)
        except OSError:
            pass
        if not cut and self.open.is_set():
            for end in (source, sink):
                end.close()

    def close(self) -> None:
        for one in self._sockets:
            one.close()
