"""What policies cost: microseconds a decision, and what they add to a round of 1 KB with ten nodes.

Decisions are timed as the gate takes them, by the rule, from facts to a yes, with a look whether the file has changed:
``evaluated`` where no two are equal, ``remembered`` where all are. ``coordinator_us`` is what a coordinator takes for
one node in one step: may it take part, may it be sent this.

The round is that of the probe, over gRPC with mutual TLS, as in ``bench/rounds.py``. One federation of one set of
processes decides by policies at every node and at the coordinator, and by none, in turn, as it is told between runs
(``_switched.py``). A run is a block of so many rounds, and the order of blocks is A B B A A B B A ..., so
two neighbours are of both kinds or of one kind. ``added`` is the geometric mean, over the pairs of both kinds, of what
rounds with policies took more; ``within`` half of its interval of 95 % (Student's t over the pairs). The row
``control`` is the same of the pairs of one kind, the later block over the earlier: what differs from 0 there is what
the measure cannot tell apart. ``cpu`` is the processor time of all processes together between two rounds, as exactly
as the kernel counts it; ``time`` is of the median seconds of a block's rounds. The first rounds of a run, in which each
node decides anew, are left out. ``share_of_round`` says it in another way: a remembered decision at the node and those
of the coordinator, over the processor time of a task without policies. The policies read what those that are shipped
read, so rounds are equal but for the minute; one that reads the step or the round is evaluated in each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import _switched
import numpy as np
from _processes import family
from _report import Report, numbers
from _runs import join, one_run, periods, probe, when
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation  # noqa: E402
from hanse.bundle import freeze  # noqa: E402
from hanse.config import RunConfig  # noqa: E402
from hanse.coordinator.governance import Governance, OwnPolicies, RunAdmission  # noqa: E402
from hanse.kinds import Ask, Combine  # noqa: E402
from hanse.messages import Record  # noqa: E402
from hanse.registry import find  # noqa: E402
from tests.policy.some_facts import facts  # noqa: E402

FIRST = 5  # rounds of each run that are left out
KINDS = (False, True, True, False)  # without policies, with, with, without, and so on
FORBIDS = {
    "nodes": "context.nodes >= 0 && context.nodes < 100000",  # a run without data names none
    "purpose": 'context.purpose like "research: *"',
    "algorithm": '["probe", "fedavg", "newton"].contains(context.algorithm)',
    "size": "context.bytes <= 100000000",
    "hours": "context.time.hour >= 0 && context.time.weekday <= 7",
    "rounds": "context.rounds <= 10000",
}


def policies(actions: dict[str, str]) -> str:
    """One permit, and for each condition a forbid, for the actions that have what it asks (else for all)."""
    made = ['@id("all") permit (principal, action, resource);']
    for name, condition in FORBIDS.items():
        where = actions.get(name, "action")
        made.append(f'@id("{name}") forbid (principal, {where}, resource) unless {{ {condition} }};')
    return "\n".join(made)


AT_NODE = policies({})
AT_COORDINATOR = policies({"size": 'action == Action::"share_model"'})


def decision_us(home: Path, count: int, equal: bool) -> float:
    """Microseconds of processor time that one decision of a node takes; the best of three."""
    asked = [facts(bytes=1024 if equal else k, purpose="research: bench") for k in range(count)]
    best = float("inf")
    for attempt in range(3):
        (home / "node.cedar").write_text(f"// {attempt}\n{AT_NODE}")
        rule = find("policy", "policy_file").RULE({"policy_file": str(home / "node.cedar")})
        if equal:
            rule.decide(asked[0])
        began = time.process_time()
        for one in asked:
            assert rule.decide(one).allowed
        best = min(best, time.process_time() - began)
    return best / count * 1e6


def coordinator_us(home: Path, count: int) -> float:
    """Microseconds of processor time that a coordinator takes for one node in one step; the best of three."""
    (home / "coordinator.cedar").write_text(AT_COORDINATOR)
    config = RunConfig.parse({"federated_strategy": "probe", "purpose": "research: bench"})
    nodes = [f"node-{k}" for k in range(10)]
    governance = Governance(OwnPolicies(home / "coordinator.cedar", home / "kept"), lambda *_: None)
    frozen = freeze(config, {"features": [], "kinds": {}}, {})
    admission = RunAdmission(governance, frozen, "r", "Ada", "data_scientist", nodes, {})
    ask = Ask(Record({}), Combine.SUM, "probe", 1)

    async def steps() -> float:
        began = time.process_time()
        for step in range(count // len(nodes)):
            assert not await admission.refused(ask, step, nodes)
        return time.process_time() - began

    return min(asyncio.run(steps()) for _ in range(3)) / (count // len(nodes) * len(nodes)) * 1e6


class Meter:
    """Reads the processor time of processes now and then, so that it is known of any moment between. Use as a context
    manager."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._clocks = [(~pid << 3) | 2 for pid in pids]  # CPUCLOCK_SCHED of a process, see clock_getcpuclockid(3)
        self._read: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(0.02):
            self._read.append((time.time(), sum(map(time.clock_gettime, self._clocks))))

    def between(self, begin: float, end: float) -> float:
        """Processor seconds from one moment to another, in seconds since 1970."""
        times, spent = zip(*self._read, strict=True)
        at_begin, at_end = np.interp([begin, end], times, spent)
        return float(at_end - at_begin)


def turn(federation: Federation, on: bool) -> None:
    """All processes decide by their policies from now on, or by none."""
    processes = (federation.coordinator, *federation.nodes.values())
    for process in processes:
        process.ready = _switched.said(on)
        os.kill(process.pid, _switched.ON if on else _switched.OFF)
    for process in processes:
        process.wait_ready(30)


Block = tuple[float, float]  # processor seconds for a task, median seconds of a round


def blocks(nodes: int, rounds: int, pairs: int, home: Path, tell: Callable[[list[Block]], None]) -> list[Block]:
    """What rounds take in ``2 * pairs`` blocks, of the kinds ``KINDS`` in turn."""
    for name, text in (("node.cedar", AT_NODE), ("coordinator.cedar", AT_COORDINATOR)):
        (home / name).write_text(text)
    found: list[Block] = []
    written = f"policy_file={home / 'coordinator.cedar'}"
    program = Path(_switched.__file__)
    with Federation(home / "federation", "--set", written, program=program) as federation:
        join(federation, nodes, policy_file=str(home / "node.cedar"))
        ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))
        settings = {**probe(nodes, FIRST + rounds, bytes=1024), "purpose": "research: bench"}
        for on in (False, True, False, True):  # code is loaded, memory taken
            turn(federation, on)
            one_run(ask, settings)
        pids = [pid for each in (federation.coordinator, *federation.nodes.values()) for pid in family(each.pid)]
        for k in range(2 * pairs):
            on = KINDS[k % 4]
            turn(federation, on)
            with Meter(pids) as meter:
                done = one_run(ask, settings)
            run = done["session"]["session_id"]
            decided = federation.rest("GET", f"/api/events?run={run}&kind=policy.decision")["events"]
            assert bool(decided) == on, f"block {k} has {len(decided)} decisions"
            begins = [step["started"] for step in done["rounds"]][FIRST:]
            spent = meter.between(when(begins[0]), when(begins[-1]))
            found.append((spent / nodes / (len(begins) - 1), statistics.median(periods(begins))))
            tell(found)
        again = [pid for each in (federation.coordinator, *federation.nodes.values()) for pid in family(each.pid)]
        assert again == pids, "a process ended meanwhile, whose time is not known"
    return found


def ratio(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """By how much the second of a pair is more, as a share: the geometric mean, and half of its interval of 95 %."""
    if len(pairs) < 2:
        return (pairs[0][1] / pairs[0][0] - 1 if pairs else None), None
    logs = np.log([b / a for a, b in pairs])
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    return float(np.expm1(logs.mean())), float(half)


def compared(found: Sequence[Block]) -> dict[str, dict[str, float | None]]:
    """The pairs of both kinds, and those of one kind."""
    rows: dict[str, dict[str, float | None]] = {"policies": {}, "control": {}}
    for k, what in enumerate(("cpu", "time")):
        taken = [block[k] for block in found]
        both = [pair if i % 4 == 0 else pair[::-1] for i, pair in enumerate(zip(taken, taken[1:], strict=False))][::2]
        one = list(zip(taken, taken[1:], strict=False))[1::2]
        for name, pairs in (("policies", both), ("control", one)):
            rows[name][f"{what}_added"], rows[name][f"{what}_within"] = ratio(pairs)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=2000)
    parser.add_argument("--nodes", type=numbers, default=[10], help="0: decisions alone")
    parser.add_argument("--rounds", type=int, default=40, help="of a block")
    parser.add_argument("--pairs", type=int, default=60, help="of a block with policies and one without")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
        evaluated, remembered = (decision_us(Path(folder), options.decisions, equal) for equal in (False, True))
        coordinator = coordinator_us(Path(folder), options.decisions)
    row: dict[str, Any] = {
        "policies": 1 + len(FORBIDS),
        "evaluated_us": evaluated,
        "remembered_us": remembered,
        "decisions_per_s": 1e6 / evaluated,
        "coordinator_us": coordinator,
    }
    Report(list(row), options.json).add(row)
    added = [f"{what}_{of}" for what in ("cpu", "time") for of in ("added", "within")]
    report = Report(["of", "nodes", "cpu_us_per_task", "round_ms", *added, "share_of_round"], options.json)
    for nodes in filter(None, options.nodes):

        def tell(found: list[Block]) -> None:
            if len(found) % 10 == 0:
                said = {of: [figures["cpu_added"], figures["cpu_within"]] for of, figures in compared(found).items()}
                print(f"block {len(found)} of {2 * options.pairs}; so far: {said}", file=sys.stderr, flush=True)

        with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
            found = blocks(nodes, options.rounds, options.pairs, Path(folder), tell)
        without = [block for k, block in enumerate(found) if not KINDS[k % 4]]
        task_us, seconds = (statistics.median(each) for each in zip(*without, strict=True))
        about = {"nodes": nodes, "cpu_us_per_task": task_us * 1e6, "round_ms": seconds * 1e3}
        for name, figures in compared(found).items():
            share = (remembered + coordinator) / (task_us * 1e6) if name == "policies" else None
            report.add({"of": name, **about, **figures, "share_of_round": share})


if __name__ == "__main__":
    main()
