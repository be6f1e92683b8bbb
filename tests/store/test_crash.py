"""A coordinator killed in the middle of its rounds: what was acknowledged is there, and whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from hanse.messages import Record, digest
from hanse.store.store import Store

_LOOP = """
import sys, numpy as np
from hanse.messages import Record
from hanse.store.store import Store
url, folder, run, first = sys.argv[1:4] + [int(sys.argv[4])]
store = Store(url, folder)
for step in range(first, 10**6):
    n = 50_000 if step % 2 else 100  # every other state is a blob
    state = Record({"step": step}, {"w": np.full(n, float(step))})
    record = {"label": "train", "round": step, "metrics": {"loss": 1 / (step + 1)}}
    for sha in store.rounds.checkpoint(run, step, state, record):
        store.blobs.delete(sha)
    store.audit.append("hanse", "round", run, {"step": step}, sync=False)
    print(step, flush=True)
"""


def test_killed_three_times_it_goes_on_where_it_was(store: Store, url: str, tmp_path: Path, running: str) -> None:
    folder, first = tmp_path / "store", 0
    for kill in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _LOOP, url, str(folder), running, str(first)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(15 + kill):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = [int(s) for s in process.stdout.read().split("\n")[:-1] if s]
        process.stdout.close()
        process.wait()
        acknowledged = max(said, default=first + 14 + kill)
        with Store(url, folder, fsync=False) as reopened:
            latest = reopened.rounds.latest_checkpoint(running)
            assert latest is not None
            step, state = latest
            assert acknowledged <= step <= acknowledged + 1  # the last may be in, but not yet said
            n = 50_000 if step % 2 else 100
            assert digest(state) == digest(Record({"step": step}, {"w": np.full(n, float(step))}))
            assert [r.step for r in reopened.rounds.list(running)] == list(range(step + 1))
            told = [e.detail["step"] for e in reopened.events.since(run=running, kinds=["round"], limit=10**6)]
            assert told == list(range(step + 1))  # record, state and event came together, each once
            assert reopened.runs.get(running).step == step
            for kept in reopened.rounds.checkpoints(running):
                assert reopened.rounds.load(running, kept).data == {"step": kept}
            reopened.sweep(grace_s=0)
            assert len(reopened.blobs.sizes()) <= 2
            reopened.audit.append("test", "looked", running)
            assert reopened.audit.verify().ok
            audited = [e.detail["step"] for e in reopened.audit.entries() if e.action == "round"]
            assert audited[-1] >= acknowledged
        first = step + 1
