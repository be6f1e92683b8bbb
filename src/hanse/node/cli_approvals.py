"""What was proposed to a node, and its owner's word on it: ``hanse node proposals``, ``show``, ``approve``, ...

A decision reaches a running agent over its control socket; without one it is written to the approvals
file, and the agent tells the coordinator when it starts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.errors import Conflict
from hanse.node.command import ask_agent, home_option, joined, owner
from hanse.terminal import line, table, visible

if TYPE_CHECKING:
    from hanse.node.approvals import Proposal


@click.command()
@home_option
@click.option("--all", "everything", is_flag=True, help="Also those that were decided or have expired.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def proposals(home: Path, everything: bool, as_json: bool) -> None:
    """What was proposed to this node."""
    from hanse.node.approvals import Approvals

    approvals = Approvals(joined(home))
    found = approvals.proposals() if everything else approvals.pending()
    if as_json:
        click.echo(json.dumps([p.public() for p in found]))
        return
    click.echo(
        table(
            ("run", "hash", "state", "from", "dataset", "expires", "purpose"),
            [
                (
                    p.run,
                    p.sha256[:12],
                    p.state,
                    p.proposer,
                    (p.dataset or {}).get("name", "-"),
                    p.expires[:16],
                    p.purpose[:50],
                )
                for p in found
            ],
        )
    )


@click.command()
@home_option
@click.argument("run")
@click.option("--sha256", default="", help="Which hash, where a run was proposed with several; a prefix will do.")
def show(home: Path, run: str, sha256: str) -> None:
    """What a run would do: its settings, and the code that would run here."""
    from hanse.bundle import thaw
    from hanse.node.approvals import Approvals

    found = Approvals(joined(home)).get(run, sha256)
    dataset = "none" if found.dataset is None else f"{found.dataset['name']}, version {found.dataset['version'][:12]}"
    for said in (
        f"run {found.run}: {found.state}",
        f"proposed by {found.proposer}, expires {found.expires}",
        f"purpose: {found.purpose or '(none given)'}",
        f"dataset: {dataset}",
    ):
        click.echo("# " + line(said))
    try:
        for rule in ask_agent(home, "examine", run=found.run, sha256=found.sha256):
            click.echo("# " + line(f"rule {rule['rule']}: {'allows it' if rule['allowed'] else _forbids(rule)}"))
    except ConnectionError:
        click.echo("# (start the node to see what its rules say)")
    click.echo(visible(thaw(found.text, found.sha256).preview()))


def _decision(name: str, help: str, reason_needed: bool = False) -> click.Command:
    optional: dict[str, Any] = {"required": True} if reason_needed else {"default": ""}

    @click.command(name, help=help)
    @home_option
    @click.argument("run")
    @click.option("--sha256", default="", help="The hash that you have looked at; a prefix must fit.")
    @click.option("--reason", help="Told to the data scientist.", **optional)
    def decide(home: Path, run: str, sha256: str, reason: str) -> None:
        done = _decide(home, name, run, sha256, reason)
        if done.get("refused"):
            raise Conflict(f"noted here, but the coordinator did not take it: {line(done['refused'])}")
        click.echo(f"run {done['run']}, hash {done['sha256'][:12]}: {done['state']}")
        if name == "approve":
            _warn_of_rules(home, done)

    return decide


def _forbids(rule: Mapping[str, Any]) -> str:
    remedy = f" (to allow it: hanse node policy set {rule['remedy']})" if rule["remedy"] else ""
    return f"FORBIDS IT: {rule['reason']}{remedy}"


def _warn_of_rules(home: Path, approved: Mapping[str, Any]) -> None:
    """An approval does not go before the rules: what they will refuse is said now, not in a round."""
    try:
        said = ask_agent(home, "examine", run=approved["run"], sha256=approved["sha256"])
    except ConnectionError:
        click.echo("the node does not run, so its rules were not asked; hanse node show tells them then", err=True)
        return
    for rule in said:
        if not rule["allowed"]:
            click.echo(
                "warning: this node will refuse the run all the same: " + line(f"rule {rule['rule']} {_forbids(rule)}"),
                err=True,
            )


approve = _decision("approve", "Approve exactly what was proposed: this run, this hash.")
reject = _decision("reject", "Reject a proposal.", reason_needed=True)
revoke = _decision("revoke", "Take an approval back; the next task is refused.")


def _decide(home: Path, do: str, run: str, sha256: str, reason: str) -> Mapping[str, Any]:
    actor = owner()
    try:
        done: Mapping[str, Any] = ask_agent(joined(home), do, run=run, sha256=sha256, actor=actor, reason=reason)
        return done
    except ConnectionError:
        pass  # nobody runs: the file is ours
    from hanse.node.approvals import Approvals
    from hanse.node.settings import NodeSettings
    from hanse.store.audit import AuditLog

    approvals, audit = Approvals(home), AuditLog(home / "audit.jsonl")
    days = NodeSettings.load(home).policy.approval_days
    more: dict[str, Any] = {"days": days} if do == "approve" else {}
    proposal: Proposal = getattr(approvals, do)(run, sha256, actor=actor, reason=reason, **more)
    audit.append(actor, f"proposal.{proposal.state}", proposal.run, {"sha256": proposal.sha256, "reason": reason})
    return proposal.public()
