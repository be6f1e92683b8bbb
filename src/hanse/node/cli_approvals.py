"""What was proposed to a node, and its owner's word on it: ``hanse node proposals``, ``show``, ``approve``, ...

A decision reaches a running agent over its control socket; without one it is written to the approvals
file, and the agent tells the coordinator when it starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.errors import ConfigError, Conflict, NotFound
from hanse.node.command import ask_agent, home_option, joined, owner
from hanse.terminal import line, table, visible

if TYPE_CHECKING:
    from hanse.node.approvals import Approvals, Proposal


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
@click.option("--changes", is_flag=True, help="Only what it asks that the last one that was approved did not.")
@click.option("--config", "settings", is_flag=True, help="Only its settings, as JSON for hanse privacy audit.")
@click.option(
    "--audit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What hanse privacy audit --json wrote of it: kept beside it, and shown from now on.",
)
def show(home: Path, run: str, sha256: str, changes: bool, settings: bool, audit: Path | None) -> None:
    """What a run would do: its settings, and the code that would run here."""
    from hanse.bundle import thaw
    from hanse.node import audits
    from hanse.node.approvals import Approvals

    approvals = Approvals(joined(home))
    _heard_of(approvals, home, run)
    found = approvals.get(run, sha256)
    if settings:
        click.echo(json.dumps(found.content()["config"], indent=2))
        return
    if audit is not None:
        audits.keep(home, found.sha256, audit)
    if changes:
        _changes(approvals, found)
        return
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
    if found.state == "pending":
        click.echo("# " + line(_how_many(home, found)))
    for said in audits.sentences(home, found.sha256):
        click.echo("# " + line(said))
    click.echo(visible(thaw(found.text, found.sha256).preview()))


def _heard_of(approvals: Approvals, home: Path, run: str) -> None:
    """Has a node that knows no such run ask its coordinator. Raises ``NotFound`` where there is none."""
    if approvals.knows(run):
        return
    try:
        ask_agent(home, "examine", run=run)
    except ConnectionError:
        raise NotFound(
            f"no run {run!r} was proposed to this node so far; it does not run, and hears of new ones when it is "
            "started (hanse node start)"
        ) from None


def _how_many(home: Path, found: Proposal) -> str:
    try:
        one = _alone(home, found.run, found.sha256)
    except Conflict as error:
        return f"to approve it: {error.message}"
    if one["allowed"]:
        return "to approve it: one person is enough"
    return f"to approve it: two persons, each with --as NAME ({one['reason']})"


def _changes(approvals: Approvals, found: Proposal) -> None:
    """Against the last that was approved of the same person's on the same data set."""
    from hanse.differences import differences

    def about(proposal: Proposal) -> tuple[str, str]:
        return proposal.proposer, str((proposal.dataset or {}).get("name", ""))

    before = [
        p
        for p in approvals.proposals()
        if p.decision == "accept"
        and (p.run, p.sha256) != (found.run, found.sha256)
        and p.time
        and about(p) == about(found)
    ]
    if not before:
        click.echo(f"nothing of {line(found.proposer)} on this data set was approved before: read hanse node show")
        return
    last = max(before, key=lambda p: p.time)
    click.echo(
        f"# against run {line(last.run)}, hash {last.sha256[:12]}, approved at {last.time[:16]} by {line(last.actor)}"
    )
    told = [f"purpose: {found.purpose!r}, before {last.purpose!r}"] if found.purpose != last.purpose else []
    told += differences(last.content(), found.content())
    for said in told or ["nothing is changed"]:
        click.echo(visible(said))


@click.command()
@home_option
@click.option("--take-back", "sha256", default="", metavar="HASH", help="End those of a hash; a prefix will do.")
def standing(home: Path, sha256: str) -> None:
    """Standing approvals: what is approved by itself when it is proposed again (hanse node approve --until)."""
    from hanse.node.standing import StandingApprovals
    from hanse.store.audit import AuditLog

    kept = StandingApprovals(joined(home))
    if sha256:
        for one in kept.take_back(sha256):
            detail = {"sha256": one.sha256, "proposer": one.proposer, "purpose": one.purpose}
            AuditLog(home / "audit.jsonl").append(owner(), "standing.taken_back", "", detail)
            click.echo(
                f"hash {one.sha256[:12]} of {line(one.proposer)} is asked again; what was approved so far goes on"
            )
        return
    rows = [
        (one.sha256[:12], one.proposer, one.purpose[:50], one.until[:16], "ended" if one.days_left <= 0 else one.actor)
        for one in kept.given()
    ]
    click.echo(table(("hash", "of", "purpose", "until", "by"), rows))


def _stands(home: Path, run: str, sha256: str, until: datetime) -> None:
    """The same proposal is approved by itself until the end of that day, in UTC."""
    from hanse.node.approvals import Approvals
    from hanse.node.standing import StandingApprovals
    from hanse.store.audit import AuditLog

    given = StandingApprovals(home).give(
        Approvals(home).get(run, sha256), until.replace(tzinfo=UTC) + timedelta(days=1), owner()
    )
    detail = {"sha256": given.sha256, "proposer": given.proposer, "purpose": given.purpose, "until": given.until}
    AuditLog(home / "audit.jsonl").append(owner(), "standing.given", run, detail)
    click.echo(
        f"proposed again by {line(given.proposer)} for the same purpose, it is approved until {given.until[:16]} UTC"
    )


def _decision(name: str, help: str, reason_needed: bool = False) -> click.Command:
    optional: dict[str, Any] = {"required": True} if reason_needed else {"default": ""}

    @click.command(name, help=help)
    @home_option
    @click.argument("run")
    @click.option("--sha256", default="", help="The hash that you have looked at; a prefix must fit.")
    @click.option("--reason", help="Told to the data scientist.", **optional)
    def decide(home: Path, run: str, sha256: str, reason: str, until: datetime | None = None, person: str = "") -> None:
        if until is not None and until.replace(tzinfo=UTC) + timedelta(days=1) <= datetime.now(UTC):
            raise ConfigError(f"{until:%Y-%m-%d} is past; name a later day")
        named = _person(home, run, sha256, person) if name == "approve" else {}
        if named and until is not None:
            raise ConfigError("this takes two persons each time: leave --until out")
        done = _decide(home, name, run, sha256, reason, **named)
        if done.get("refused"):
            raise Conflict(f"noted here, but the coordinator did not take it: {line(done['refused'])}")
        click.echo(f"run {done['run']}, hash {done['sha256'][:12]}: {done['state']}")
        if name == "approve" and done["state"] == "pending":
            click.echo(
                f"approved by {', '.join(map(line, done['approvers']))}; it counts once a second person approves it"
            )
            return
        if until is not None:
            _stands(home, done["run"], done["sha256"], until)
        if name == "approve":
            _warn_of_rules(home, done)
        if name == "revoke":
            _cannot_undo(home, done["run"])

    return decide


def _cannot_undo(home: Path, run: str) -> None:
    from hanse.node.withdrawn import sentences
    from hanse.store.audit import AuditLog

    for said in sentences(AuditLog(joined(home) / "audit.jsonl").each(), run):
        click.echo(said)


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


def _alone(home: Path, run: str, sha256: str) -> Mapping[str, Any]:
    """Whether one person may approve, by the running node, or else by what can be known without it. Raises
    ``Conflict`` where only the running node can say so."""
    try:
        said: Mapping[str, Any] = ask_agent(home, "alone", run=run, sha256=sha256)
        return said
    except ConnectionError:
        pass
    from hanse.node import persons
    from hanse.node.settings import NodeSettings

    one = persons.at_rest(home, NodeSettings.load(home))
    return {"allowed": one.allowed, "reason": one.reason}


def _person(home: Path, run: str, sha256: str, person: str) -> dict[str, str]:
    """Who approves, where it takes two persons."""
    one = _alone(joined(home), run, sha256)
    if one["allowed"]:
        return {}
    if not person:
        raise ConfigError(
            f"this takes two persons ({line(one['reason'])}): say who you are with --as NAME (hanse node approver list)"
        )
    passphrase = os.environ.get("HANSE_PASSPHRASE") or click.prompt(f"Passphrase of {person}", hide_input=True)
    return {"person": person, "passphrase": passphrase}


_as = click.option("--as", "person", default="", metavar="NAME", help="Who you are, where it takes two persons.")
approve = _as(
    click.option(
        "--until",
        type=click.DateTime(["%Y-%m-%d"]),
        help="Approve the same by itself, until that day, when the same person proposes it again for the same purpose.",
    )(_decision("approve", "Approve exactly what was proposed: this run, this hash."))
)
reject = _decision("reject", "Reject a proposal.", reason_needed=True)
revoke = _decision("revoke", "Take an approval back: the next task is refused. Says what that cannot undo.")


def _decide(
    home: Path, do: str, run: str, sha256: str, reason: str, person: str = "", passphrase: str = ""
) -> Mapping[str, Any]:
    actor = person or owner()
    named = {"person": person, "passphrase": passphrase} if person else {}
    try:
        done: Mapping[str, Any] = ask_agent(
            joined(home), do, run=run, sha256=sha256, actor=actor, reason=reason, **named
        )
        return done
    except ConnectionError:
        pass  # nobody runs: the file is ours
    from hanse.node.approvals import Approvals
    from hanse.node.approvers import Approvers
    from hanse.node.settings import NodeSettings
    from hanse.node.standing import StandingApprovals
    from hanse.store.audit import AuditLog

    approvals, audit = Approvals(home), AuditLog(home / "audit.jsonl")
    _heard_of(approvals, home, run)
    days = NodeSettings.load(home).policy.approval_days
    more: dict[str, Any] = {"days": days} if do == "approve" else {}
    if do != "approve":
        StandingApprovals(home).end(approvals.get(run, sha256).sha256)
    if person:
        Approvers(home).check(person, passphrase)
        do = "approve_one_of_two"
    proposal: Proposal = getattr(approvals, do)(run, sha256, actor=actor, reason=reason, **more)
    action = "proposal.first_approval" if proposal.decision == "pending" else f"proposal.{proposal.state}"
    detail = {"sha256": proposal.sha256, "reason": reason}
    audit.append(actor, action, proposal.run, {**detail, "approvers": list(proposal.approvers)} if person else detail)
    return proposal.public()


@click.group()
def approver() -> None:
    """Persons of whom two have to approve: always (policy set two_persons true), or where policies say so."""


@approver.command("list")
@home_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_approvers(home: Path, as_json: bool) -> None:
    """Their names."""
    from hanse.node.approvers import Approvers

    names = Approvers(joined(home)).names()
    click.echo(json.dumps(names) if as_json else table(("name",), [(name,) for name in names]))


@approver.command()
@home_option
@click.argument("name")
def add(home: Path, name: str) -> None:
    """Add one, who types a passphrase; or give one another passphrase."""
    from hanse.node.approvers import Approvers
    from hanse.store.audit import AuditLog

    kept = Approvers(joined(home))
    if name in kept.names():
        kept.check(name, os.environ.get("HANSE_PASSPHRASE") or click.prompt("Passphrase so far", hide_input=True))
        fresh = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True)
    else:
        asked = os.environ.get("HANSE_PASSPHRASE")
        fresh = asked or click.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
    kept.add(name, fresh)
    AuditLog(home / "audit.jsonl").append(owner(), "approver.added", name)
    click.echo(f"{line(name)} may approve as one of two")


@approver.command()
@home_option
@click.argument("name")
def remove(home: Path, name: str) -> None:
    """Remove one. What the person has approved, and no second has yet, waits for two others."""
    from hanse.node.approvals import Approvals
    from hanse.node.approvers import Approvers
    from hanse.store.audit import AuditLog

    Approvers(joined(home)).remove(name)
    Approvals(home).withdraw(name)
    AuditLog(home / "audit.jsonl").append(owner(), "approver.removed", name)
    click.echo(f"{line(name)} approves no more")
