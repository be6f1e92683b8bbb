"""``hanse node``: what the owner of a node does. Each command loads what it needs when it runs.

Its datasets are in :mod:`hanse.node.cli_datasets`, its decisions in :mod:`hanse.node.cli_approvals`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hanse.errors import ConfigError, Conflict, HanseError
from hanse.logs import log_options
from hanse.node import cli_approvals, cli_budget, cli_datasets, cli_models
from hanse.node.command import ask_agent, changed_settings, home_option, joined
from hanse.terminal import table


@click.group()
def node() -> None:
    """Run a node beside an institution's data."""


node.add_command(cli_datasets.dataset)
for _command in (
    cli_approvals.proposals,
    cli_approvals.show,
    cli_approvals.approve,
    cli_approvals.reject,
    cli_approvals.revoke,
    cli_approvals.standing,
    cli_approvals.approver,
    cli_budget.budget,
    cli_models.models,
    cli_models.predict,
):
    node.add_command(_command)


# ---------------------------------------------------------------- life


@node.command()
@home_option
@click.option("--join", "token", required=True, metavar="TOKEN", help="The join token from the coordinator's operator.")
@click.option("--name", "name", default="", metavar="ID", help="This node's id; needed unless the token names it.")
@click.option(
    "--address",
    default="",
    help="Where this node calls, as this machine calls it: folder:///mnt/sync joins through that folder. "
    "[default: what the token says]",
)
@click.option(
    "--consent",
    type=click.Choice(["node", "coordinator"]),
    default="node",
    show_default=True,
    help="Where approvals are taken: only here, or also by you at the coordinator's page.",
)
def init(home: Path, token: str, name: str, address: str, consent: str) -> None:
    """Make a key, join a coordinator and write node.toml."""
    from hanse.identity import JoinToken
    from hanse.node.join import join
    from hanse.node.settings import FILE, CoordinatorAddress, NodeSettings

    decoded = JoinToken.decode(token)
    chosen = name or decoded.node_id
    if not chosen:
        raise ConfigError("this token does not name a node; choose an id with --name")
    if decoded.node_id and chosen != decoded.node_id:
        raise ConfigError(f"the token is for node {decoded.node_id!r}, not {chosen!r}")
    before = NodeSettings.load(home) if (home / FILE).exists() else NodeSettings()
    if before.node_id not in ("", chosen):
        raise Conflict(f"this folder belongs to node {before.node_id!r}; choose another with --home")
    identity = join(home, decoded, chosen, address, lambda text: click.echo(text, err=True))
    home.chmod(0o700)
    import dataclasses

    where = CoordinatorAddress(identity.address, decoded.url)
    dataclasses.replace(before, node_id=chosen, consent=consent, coordinator=where).save(home)
    click.echo(
        f"{chosen} has joined {address or decoded.url}. Next: hanse node dataset add PATH, then hanse node start"
    )


@node.command()
@home_option
@click.option("--foreground/--background", default=True, show_default=True, help="Stay in this terminal, or detach.")
@click.option("--verbose", is_flag=True, help="Log more.")
@log_options
@click.option("--detached", is_flag=True, hidden=True)
def start(home: Path, foreground: bool, verbose: bool, log_format: str, log_file: Path | None, detached: bool) -> None:
    """Run the node until it is stopped (SIGTERM, Ctrl-C, or hanse node stop)."""
    import logging

    from hanse.node.settings import NodeSettings

    settings = NodeSettings.load(home)
    if not foreground:
        _detach(home, log_format, log_file or home / "agent.log", verbose)
        return
    from hanse import logs

    logs.begin(logging.DEBUG if verbose else logging.INFO, log_format, log_file, streams=detached)
    from hanse.allocator import keep_warm, pause_collector

    keep_warm()
    pause_collector()
    from hanse.node.agent import serve

    logging.getLogger("hanse.node").info("node %s starts", settings.node_id)
    serve(home)


def _detach(home: Path, log_format: str, log_file: Path, verbose: bool) -> None:
    import subprocess

    if _running(home):
        raise Conflict("the node runs already; hanse node status says more, hanse node stop ends it")
    how = ["--detached", "--log-format", log_format, "--log-file", str(log_file), *(["--verbose"] if verbose else [])]
    with open(log_file, "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "hanse.cli", "node", "start", "--home", str(home), *how],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for _ in range(300):  # until it listens, or has ended
        if _running(home):
            click.echo(f"the node runs (process {child.pid}); its log is {log_file}")
            return
        if child.poll() is not None:
            break
        time.sleep(0.05)
    raise Conflict(f"the node did not start; the reason is in {log_file}")


@node.command()
@home_option
@click.option("--wait", default=60.0, show_default=True, help="Most seconds until it has ended.")
def stop(home: Path, wait: float) -> None:
    """End the node that runs in this folder; what it is asked meanwhile waits until it is started again."""
    import os
    import select
    import signal

    try:
        pid = int(ask_agent(joined(home), "status")["pid"])
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except (ConnectionError, ProcessLookupError):
        raise Conflict("no node is running in this folder") from None
    if not select.select([process], [], [], wait)[0]:
        raise HanseError(f"the node was told to end and has not in {wait:g} s (process {pid}); its log may say why")
    click.echo("the node has ended")


@node.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(home: Path, as_json: bool) -> None:
    """Whether the node runs, is connected, and what it is doing."""
    from hanse.node.approvals import Approvals
    from hanse.node.catalogue import Catalogue
    from hanse.node.settings import NodeSettings

    settings = NodeSettings.load(home)
    found: dict[str, Any] = {"node": settings.node_id, "coordinator": settings.coordinator.address, "running": False}
    try:
        found |= ask_agent(home, "status") | {"running": True}
    except ConnectionError:
        pass
    found["datasets"] = [d.name for d in Catalogue(home).list()]
    found["pending"] = [p.run for p in Approvals(home).pending()]
    if as_json:
        click.echo(json.dumps(found))
        return
    for key, value in found.items():
        listed = (", ".join(map(str, value)) or "none") if isinstance(value, list) else value
        click.echo(f"{key:16} {'-' if listed in (None, '') else listed}")


# ---------------------------------------------------------------- policy and audit


@node.group("policy")
def policy_group() -> None:
    """What this node allows."""


@policy_group.command("show")
@home_option
def policy_show(home: Path) -> None:
    """The settings in node.toml."""
    from hanse.node.settings import NodeSettings

    click.echo(NodeSettings.load(home).to_toml().strip())


@policy_group.command("set")
@home_option
@click.argument("key")
@click.argument("value")
def policy_set(home: Path, key: str, value: str) -> None:
    """Change one setting; a running node follows at once. Lists are separated by commas."""
    from hanse import policy
    from hanse.node.settings import NodeSettings

    after = NodeSettings.load(home).with_value(key, value)
    after.policy.check_names()
    policy.rules(after.owner(home))  # what cannot be read is said now, and nothing is changed
    changed_settings(home, after)
    click.echo(f"{key} = {value}")


@node.command()
@home_option
@click.option("--verify", is_flag=True, help="Check the chain; exit status 1 if it is broken.")
@click.option("--last", default=50, show_default=True, help="So many entries; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def audit(home: Path, verify: bool, last: int, as_json: bool) -> None:
    """What was asked of this node and what it answered."""
    from hanse.store.audit import AuditLog

    log = AuditLog(joined(home) / "audit.jsonl")
    entries = log.entries()
    shown = entries[-last:] if last else entries
    if as_json:
        for entry in shown:
            click.echo(json.dumps(entry._asdict(), ensure_ascii=False))
    else:
        rows = [(e.seq, e.time[:19], e.actor, e.action, e.subject, _brief(e.detail)) for e in shown]
        click.echo(table(("seq", "time", "who", "what", "run", "detail"), rows))
    if not verify:
        return
    verdict = log.verify()
    if not verdict.ok:
        raise HanseError(f"the audit log is broken at entry {verdict.first_bad}: {verdict.reason}")
    click.echo(f"the chain of {verdict.entries} entries is whole", err=as_json)


@node.command()
@home_option
@click.argument("evidence", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("proof", type=click.Path(dir_okay=False, path_type=Path))
def included(home: Path, evidence: Path, proof: Path) -> None:
    """Whether what this node sent in a run was counted.

    EVIDENCE is what hanse run evidence fetched, PROOF what hanse run inclusion did. The digests of what was sent are
    read from this node's audit log; the coordinator has signed what it counted."""
    from hanse.evidence import verify
    from hanse.evidence.included import included as check
    from hanse.identity import load_identity
    from hanse.messages import loads
    from hanse.store.audit import AuditLog

    identity = load_identity(joined(home))
    try:
        raw, told = evidence.read_bytes(), loads(proof.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise HanseError(f"{error}") from None
    sound = verify(raw, identity.ca_pem)
    if sound.problems:
        raise HanseError(f"the evidence is not sound: {sound.problems[0]}")
    found = check(raw, told, AuditLog(joined(home) / "audit.jsonl").each())
    if found.node != identity.node_id:
        raise HanseError(f"the proof is for node {found.node!r}; this is {identity.node_id!r}")
    for step, why in sorted(found.left_out.items()):
        click.echo(f"step {step}: answered, and left out: {why}")
    for step, why in sorted(found.unsaid.items()):
        click.echo(f"step {step}: answered, and NOT accounted for: {why}")
    for step, why in sorted(found.problems.items()):
        click.echo(f"step {step}: NOT shown: {why}")
    if found.apart_s >= 1:
        click.echo(f"this node dates its replies up to {found.apart_s:.0f} s outside of the coordinator's steps")
    click.echo(f"{len(found.counted)} steps counted what this node sent, as the coordinator has signed")
    if not found.sound:
        raise SystemExit(1)


@node.command()
@home_option
def fingerprint(home: Path) -> None:
    """This node's key, for the owners of other nodes to pin.

    Tell it them over another way than the coordinator; each sets it at their node, in the list node_fingerprints."""
    from hanse.identity import load_identity
    from hanse.signing import fingerprint

    identity = load_identity(home)
    click.echo(f"{identity.node_id}={fingerprint(identity.cert_pem)}")


# ---------------------------------------------------------------- small things


def _running(home: Path) -> bool:
    try:
        ask_agent(home, "status")
    except (ConnectionError, HanseError):
        return False
    return True


def _brief(detail: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={str(v)[:60]}" for k, v in detail.items() if v not in (None, ""))
