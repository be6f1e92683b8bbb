"""What policies cost: microseconds a decision, and what they add to a round of 1 KB with ten nodes.

Decisions are timed as the gate takes them, from facts to a yes: ``evaluated`` where no two are equal, ``remembered``
where all are. The round is that of the probe, over gRPC with mutual TLS, as in ``bench/rounds.py``: with policies at
every node and at the coordinator, and without, in turn (A B A B ...). ``added_cpu`` is the median over the pairs of
what all processes together spent more for a task, ``added_time`` the same of the seconds of a round. Two runs of one
kind differ by some per cent on a busy machine, so ``share_of_round`` says it in another way: the decisions that one
round takes (one at each node, evaluated, and two for each node at the coordinator, remembered), at the measured cost
of each, over the processor time of a round without policies.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from _processes import cpu_seconds
from _report import Report, numbers
from _runs import join, one_run, probe, when

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation, hanse  # noqa: E402
from hanse.cedar.policies import Policies  # noqa: E402
from hanse.coordinator.governance import VOCABULARY as COORDINATOR  # noqa: E402
from hanse.policy.policy_file import VOCABULARY as NODE  # noqa: E402
from tests.policy.some_facts import facts  # noqa: E402

SHORT = 3  # rounds of a run that is there for its start and end
FORBIDS = {
    "nodes": "context.nodes >= 2",
    "purpose": 'context.purpose like "research: *"',
    "algorithm": '["probe", "fedavg", "newton"].contains(context.algorithm)',
    "size": "context.bytes <= 100000000",
    "hours": "context.time.hour >= 0 && context.time.weekday <= 7",
    "rounds": "context.rounds <= 10000",
    "step": "context.step < 100000",
}


def policies(actions: dict[str, str]) -> str:
    """One permit, and for each condition a forbid, for the actions that have what it asks (else for all)."""
    made = ['@id("all") permit (principal, action, resource);']
    for name, condition in FORBIDS.items():
        where = actions.get(name, "action")
        if where:
            made.append(f'@id("{name}") forbid (principal, {where}, resource) unless {{ {condition} }};')
    return "\n".join(made)


AT_NODE = policies({})
AT_COORDINATOR = policies({"size": 'action == Action::"share_model"', "step": ""})


def decision_us(read: Policies, count: int, equal: bool) -> float:
    """Microseconds of processor time that one decision takes; the best of three."""
    asked = [facts(step=0 if equal else k, steps=count + 1, purpose="research: bench") for k in range(count)]
    best = float("inf")
    for attempt in range(3):
        read = Policies({"bench.cedar": f"// {attempt}\n{AT_NODE}"}, NODE)
        if equal:
            read.decide("answer", "Ada", "r", asked[0])
        began = time.process_time()
        for one in asked:
            assert read.decide("answer", one.proposer, one.run, one).allowed
        best = min(best, time.process_time() - began)
    return best / count * 1e6


def round_cost(nodes: int, rounds: int, home: Path, governed: bool) -> tuple[float, float]:
    """Processor seconds of all processes for a task, and the median seconds of a round."""
    for name, text in (("node.cedar", AT_NODE), ("coordinator.cedar", AT_COORDINATOR)):
        (home / name).write_text(text)
    arguments = ["--set", f"policy_file={home / 'coordinator.cedar'}"] if governed else []
    with Federation(home / "federation", *arguments) as federation:
        join(federation, nodes)
        if governed:
            for name in federation.nodes:
                where = str(home / "federation" / name)
                hanse("node", "policy", "set", "--home", where, "policy_file", str(home / "node.cedar"))
        ask = partial(federation.rest, token=federation.account("scientist", "data_scientist"))
        settings = {"purpose": "research: bench"}
        one_run(ask, {**probe(nodes, SHORT, bytes=1024), **settings})
        before = cpu_seconds(federation)
        one_run(ask, {**probe(nodes, SHORT, bytes=1024), **settings})
        start_and_end = cpu_seconds(federation) - before
        before = cpu_seconds(federation)
        done = one_run(ask, {**probe(nodes, rounds, bytes=1024), **settings})
        spent = cpu_seconds(federation) - before - start_and_end
        begins = [when(r["started"]) for r in done["rounds"]]
        periods = [b - a for a, b in zip(begins, begins[1:], strict=False)]
        return spent / (nodes * (rounds - SHORT)), statistics.median(periods)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=2000)
    parser.add_argument("--nodes", type=numbers, default=[10], help="0: decisions alone")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    read = Policies({"bench.cedar": AT_NODE}, NODE)
    Policies({"bench.cedar": AT_COORDINATOR}, COORDINATOR)
    evaluated, remembered = (decision_us(read, options.decisions, equal) for equal in (False, True))
    row: dict[str, Any] = {
        "policies": len(read.policies),
        "evaluated_us": evaluated,
        "remembered_us": remembered,
        "decisions_per_s": 1e6 / evaluated,
    }
    columns = [*row, "nodes", "cpu_us_per_task", "added_cpu", "added_time", "share_of_round"]
    report = Report(columns, options.json)
    for nodes in options.nodes:
        if not nodes:
            report.add({**row, **dict.fromkeys(columns[len(row) :])})
            continue
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _ in range(options.pairs):
            for governed in found:
                with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
                    found[governed].append(round_cost(nodes, options.rounds, Path(folder), governed))
        added = [
            statistics.median(b[k] / a[k] - 1 for a, b in zip(found[False], found[True], strict=True)) for k in (0, 1)
        ]
        task_us = statistics.median(cpu for cpu, _ in found[False]) * 1e6
        report.add(
            {
                **row,
                "nodes": nodes,
                "cpu_us_per_task": task_us,
                "added_cpu": added[0],
                "added_time": added[1],
                "share_of_round": (evaluated + 2 * remembered) / task_us,
            }
        )


if __name__ == "__main__":
    main()
