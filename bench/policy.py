"""What policies cost: microseconds a decision, and what they add to a round of 1 KB with ten nodes.

Decisions are timed as the gate takes them, by the rule, from facts to a yes, with a look whether the file has changed:
``evaluated`` where no two are equal, ``remembered`` where all are. ``coordinator_us`` is what a coordinator takes for
one node in one step: may it take part, may it be sent this. The round is that of the probe, over gRPC with mutual TLS,
as in ``bench/rounds.py``: with policies at every node and at the coordinator, and without, in turn (A B B A ...).
``added_cpu`` is the median over the pairs of what all processes together spent more for a task, ``added_time`` the same
of the seconds of a round, each with how far pairs of one kind differ (``either_way``: the standard error of the mean of
the pairs). Two runs of one kind differ by some per cent on a busy machine, so ``share_of_round`` says it
in another way: a remembered decision at the node and those of the coordinator, over the processor time of a task
without policies. The policies read what those that are shipped read, so rounds are equal but for the minute; one that
reads the step or the round is evaluated in each.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from _processes import cpu_seconds
from _report import Report, numbers
from _runs import join, one_run, periods, probe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo.federation import Federation, hanse  # noqa: E402
from hanse.bundle import freeze  # noqa: E402
from hanse.config import RunConfig  # noqa: E402
from hanse.coordinator.governance import Governance, OwnPolicies, RunAdmission  # noqa: E402
from hanse.kinds import Ask, Combine  # noqa: E402
from hanse.messages import Record  # noqa: E402
from hanse.registry import find  # noqa: E402
from tests.policy.some_facts import facts  # noqa: E402

SHORT = 3  # rounds of a run that is there for its start and end
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
        return spent / (nodes * (rounds - SHORT)), statistics.median(periods(r["started"] for r in done["rounds"]))


def _error(found: list[float]) -> float:
    """The standard error of a mean; of one value nobody knows it."""
    return statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=2000)
    parser.add_argument("--nodes", type=numbers, default=[10], help="0: decisions alone")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
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
    added = ["added_cpu", "cpu_either_way", "added_time", "time_either_way"]
    columns = [*row, "nodes", "cpu_us_per_task", *added, "share_of_round"]
    report = Report(columns, options.json)
    for nodes in options.nodes:
        if not nodes:
            report.add({**row, **dict.fromkeys(columns[len(row) :])})
            continue
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for pair in range(options.pairs):
            for governed in (False, True) if pair % 2 == 0 else (True, False):
                with tempfile.TemporaryDirectory(prefix="hanse-bench-") as folder:
                    found[governed].append(round_cost(nodes, options.rounds, Path(folder), governed))
        more = [[b[k] / a[k] - 1 for a, b in zip(found[False], found[True], strict=True)] for k in (0, 1)]
        told = [of for one in more for of in (statistics.median(one), _error(one))]
        task_us = statistics.median(cpu for cpu, _ in found[False]) * 1e6
        report.add(
            {
                **row,
                "nodes": nodes,
                "cpu_us_per_task": task_us,
                **dict(zip(added, told, strict=True)),
                "share_of_round": (remembered + coordinator) / task_us,
            }
        )


if __name__ == "__main__":
    main()
