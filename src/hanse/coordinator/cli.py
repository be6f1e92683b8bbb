"""``hanse coordinator``: start one, and manage accounts, join tokens, runs and the audit on its machine."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.addresses import LISTEN, full
from hanse.coordinator.cli_parts import database_option, home_option, opened
from hanse.coordinator.cli_study import study
from hanse.errors import ConfigError, NotFound
from hanse.logs import log_options
from hanse.terminal import line, table
from hanse.transports import patience

if TYPE_CHECKING:
    from hanse.store import Store

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@click.group()
def coordinator() -> None:
    """Run the coordinator of a federation."""


@coordinator.command()
@home_option
@database_option
@click.option(
    "--http",
    envvar="HANSE_HTTP",
    default="127.0.0.1:8000",
    show_default=True,
    help="Where to serve the page and REST. (HANSE_HTTP)",
)
@click.option(
    "--listen",
    envvar="HANSE_LISTEN",
    default=LISTEN,
    show_default=True,
    help="The address for nodes; its scheme names the transport. (HANSE_LISTEN)",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    envvar="HANSE_HOST_NAME",
    help="Name or address by which others reach it; may be repeated. (HANSE_HOST_NAME)",
)
@click.option("--tls-cert", envvar="HANSE_TLS_CERT", default="", help="Certificate for HTTPS (PEM). (HANSE_TLS_CERT)")
@click.option("--tls-key", envvar="HANSE_TLS_KEY", default="", help="Its key (PEM). (HANSE_TLS_KEY)")
@click.option("--plain-http", is_flag=True, help="HTTP without TLS; on loopback only.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    envvar="HANSE_EXPECTED_CLIENT_IDS",
    help="Whitelist of node ids; may be repeated. (HANSE_EXPECTED_CLIENT_IDS)",
)
@click.option(
    "--heartbeat",
    type=click.FloatRange(0.1, 3600),
    envvar="HANSE_HEARTBEAT_S",
    default=None,
    help="Seconds between the heartbeats of a node; without, as the transport needs. (HANSE_HEARTBEAT_S)",
)
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting; may be repeated.")
@click.option(
    "--run-default",
    "wanted",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of each run that does not give it itself; may be repeated.",
)
@log_options
def start(
    home: Path,
    database: str,
    http: str,
    listen: str,
    host_names: tuple[str, ...],
    tls_cert: str,
    tls_key: str,
    plain_http: bool,
    expected: tuple[str, ...],
    heartbeat: float | None,
    more: tuple[str, ...],
    wanted: tuple[str, ...],
    log_format: str,
    log_file: Path | None,
) -> None:
    """Start the coordinator; it runs until SIGTERM or Ctrl-C."""
    import dataclasses
    import logging
    import os

    from hanse import event_loop, logs
    from hanse.allocator import keep_warm, pause_collector, settle

    keep_warm()
    pause_collector()
    from hanse.coordinator.run_defaults import RunDefaults, served_at
    from hanse.coordinator.server import Listening, Start, serve
    from hanse.coordinator.settings import CoordinatorSettings

    logs.begin(logging.WARNING, log_format, log_file)
    if click.get_current_context().get_parameter_source("http") is click.core.ParameterSource.DEFAULT:
        http = served_at(os.environ, http)
    patient = patience(listen)
    if heartbeat is not None:
        patient = dataclasses.replace(patient, heartbeat_s=heartbeat)
    listed = {"expected_client_ids": expected} if expected else {}
    defaults = RunDefaults.read(wanted, os.environ)
    settings = CoordinatorSettings.read(more, os.environ, patience=patient, run_defaults=defaults, **listed)

    def ready(where: Listening) -> None:
        click.echo(f"page and REST  {where.url}")
        click.echo(f"nodes          {where.address}")
        click.echo(f"authority      {where.authority}")
        click.echo(f"               people need its certificate: {home / 'authority' / 'authority.crt'}")
        if where.token is not None:
            # what is not a terminal is a log, and a log is no place for it
            shown = f"{where.token}   (shown only now; also" if sys.stdout.isatty() else "(it stands"
            click.echo(f"operator token {shown} in {home / 'operator.token'}): sign in with it on the page")
        settle()
        click.echo("ready")

    event_loop.run(
        serve(Start(home, http, listen, database, host_names, tls_cert, tls_key, plain_http, settings), ready)
    )


coordinator.add_command(study)


@coordinator.group()
def account() -> None:
    """Accounts of people and programs."""


@account.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["operator", "data_owner", "data_scientist"]), required=True)
@click.option("--node", "nodes", multiple=True, help="A node that this data owner decides for; may be repeated.")
@home_option
@database_option
def account_add(name: str, role: str, nodes: tuple[str, ...], home: Path, database: str) -> None:
    """Make an account and print its API token, once."""
    with opened(home, database) as store:
        made, token = store.accounts.create_account(name, role, nodes, actor="command line")
    click.echo(f"{made.role} {made.name} ({made.id}){': ' + ', '.join(made.nodes) if made.nodes else ''}", err=True)
    click.echo(token)


@account.command("list")
@home_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def account_list(home: Path, database: str, as_json: bool) -> None:
    """List accounts."""
    with opened(home, database) as store:
        found = store.accounts.list()
    _table(
        ("account", "role", "id", "nodes", "state"),
        [(a.name, str(a.role), a.id, ", ".join(a.nodes), "disabled" if a.disabled else "active") for a in found],
        as_json,
    )


@account.command("disable")
@click.argument("name")
@home_option
@database_option
def account_disable(name: str, home: Path, database: str) -> None:
    """From now on the account's token opens nothing."""
    with opened(home, database) as store:
        store.accounts.disable(_account(store, name).id, actor="command line")


@account.command("link")
@click.argument("name")
@click.argument("node_id")
@home_option
@database_option
def account_link(name: str, node_id: str, home: Path, database: str) -> None:
    """From now on the data owner NAME decides for NODE_ID."""
    with opened(home, database) as store:
        store.accounts.link(_account(store, name).id, node_id, actor="command line")


@account.command("unlink")
@click.argument("name")
@click.argument("node_id")
@home_option
@database_option
def account_unlink(name: str, node_id: str, home: Path, database: str) -> None:
    """The account NAME no longer decides for NODE_ID."""
    with opened(home, database) as store:
        store.accounts.unlink(_account(store, name).id, node_id, actor="command line")


@coordinator.group()
def token() -> None:
    """API tokens of accounts."""


@token.command("rotate")
@click.argument("name")
@home_option
@database_option
def token_rotate(name: str, home: Path, database: str) -> None:
    """Print a new API token for the account; the old one is worth nothing."""
    with opened(home, database) as store:
        click.echo(store.accounts.rotate_token(_account(store, name).id, actor="command line"))


@coordinator.command("join-token")
@click.argument("node_id")
@click.option("--valid", default="24h", show_default=True, help="How long: 30m, 24h, 7d.")
@click.option("--owner", default=None, help="Account that will decide for the node.")
@click.option("--url", default="", help="Address of the coordinator's HTTP port, if it is not that of its last start.")
@click.option("--address", default="", help="The same for the address where nodes call.")
@home_option
@database_option
def join_token(node_id: str, valid: str, owner: str | None, url: str, address: str, home: Path, database: str) -> None:
    """Print a one-time token that lets NODE_ID join."""
    from hanse.coordinator.enrolment import owner_id
    from hanse.coordinator.server import addresses
    from hanse.identity import Authority, JoinToken, check_node_id

    check_node_id(node_id)
    known = addresses(home)
    url, address = url or known.get("url", ""), full(address) if address else known.get("address", "")
    if not url or not address:
        raise ConfigError("the coordinator has not been started yet; start it first, or give --url and --address")
    with opened(home, database) as store:
        _, secret = store.nodes.join_tokens.create(
            "command line", node_id, owner=owner_id(store, owner), lifetime_s=duration(valid)
        )
    click.echo(JoinToken(url, address, secret, Authority.open(home / "authority").fingerprint(), node_id).encode())


@coordinator.command("join-tokens")
@click.option("--withdraw", default="", metavar="ID", help="Make this one, still unused, worthless.")
@home_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def join_tokens(withdraw: str, home: Path, database: str, as_json: bool) -> None:
    """List join tokens, without their secrets."""
    from hanse.store.database import iso, now

    with opened(home, database) as store:
        if withdraw:
            store.nodes.join_tokens.revoke(withdraw, actor="command line")
        found = store.nodes.join_tokens.list()
    _table(
        ("id", "node", "state", "expires", "made by"),
        [
            (
                t.id,
                t.node or "any",
                f"used by {t.used_by}" if t.used_by else "open" if t.expires > now() else "ended",
                iso(t.expires) or "",
                t.created_by,
            )
            for t in found
        ],
        as_json,
    )


def _admission(name: str, help: str) -> None:
    @coordinator.command(name, help=help)
    @click.argument("node_id")
    @click.option("--reason", default="", help="Kept in the audit.")
    @home_option
    @database_option
    def admit(node_id: str, reason: str, home: Path, database: str) -> None:
        from hanse.coordinator import local
        from hanse.identity import check_node_id

        check_node_id(node_id)
        # a coordinator that runs has to end the node's connection, so it is asked to do it
        if not local.post(home, f"/api/nodes/{node_id}/{name}", {"reason": reason}):
            with opened(home, database) as store:
                getattr(store.nodes, name)(node_id, actor="command line", reason=reason)
        click.echo(f"{node_id}: {name}d")


_admission("revoke", "Shut NODE_ID out, at once.")
_admission("reinstate", "Let a revoked NODE_ID in again; it joins with a new token.")


@coordinator.command()
@home_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def nodes(home: Path, database: str, as_json: bool) -> None:
    """List nodes."""
    from hanse.store.database import iso

    with opened(home, database) as store:
        found = store.nodes.list()
    _table(
        ("node", "state", "owner", "last heard", "datasets"),
        [
            (
                n.id,
                n.status,
                n.owner or "-",
                iso(n.last_heartbeat) or "never",
                ", ".join(str(d.get("name")) for d in n.datasets),
            )
            for n in found
        ],
        as_json,
    )


@coordinator.command()
@click.option("--limit", default=50, show_default=True)
@home_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def runs(limit: int, home: Path, database: str, as_json: bool) -> None:
    """List runs, newest first."""
    from hanse.store.database import iso

    with opened(home, database) as store:
        found = store.runs.list(limit=limit)
    _table(
        ("run", "state", "what", "round", "nodes", "proposed", "reason"),
        [
            (
                r.id,
                str(r.state),
                *_of_what(r.config, r.round or 0),
                ", ".join(r.nodes),
                iso(r.created) or "",
                r.reason,
            )
            for r in found
        ],
        as_json,
    )


def _of_what(config: Mapping[str, Any], done: int) -> tuple[str, str]:
    """The model of a run and its rounds; the algorithm of one of which no model comes."""
    from hanse.algorithms import learns

    strategy = str(config.get("federated_strategy"))
    if not learns(strategy):
        return strategy, "-"
    return str(config.get("model_name")), f"{done}/{config.get('num_rounds')}"


@coordinator.command()
@click.option("--verify", is_flag=True, help="Check the chain; exit status 1 if it is broken.")
@click.option("--since", default=0, help="Entries after this number.")
@home_option
def audit(verify: bool, since: int, home: Path) -> None:
    """Print the audit log, or verify it."""
    from hanse.errors import Tampered
    from hanse.store.audit import AuditLog

    path = home / "audit.jsonl"
    if not path.exists():
        raise NotFound("there is no audit log here yet; is this the coordinator's home?")
    log = AuditLog(path)
    if verify:
        verdict = log.verify()
        if not verdict.ok:
            raise Tampered(f"the audit log is broken at entry {verdict.first_bad}: {verdict.reason}")
        number, digest = log.head
        click.echo(f"{verdict.entries} entries, unbroken; head {number} {digest}")
        return
    for entry in log.entries(since):
        detail = json.dumps(dict(entry.detail), ensure_ascii=False)
        click.echo(line(f"{entry.seq:6} {entry.time} {entry.actor:20} {entry.action:20} {entry.subject:24} {detail}"))


@coordinator.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("federated_state.json"))
@home_option
@database_option
def export_state(file: Path, home: Path, database: str) -> None:
    """Write nodes and runs to FILE (federated_state.json), without secrets."""
    with opened(home, database) as store:
        click.echo(store.state_file.save(file))


@coordinator.command("import")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@home_option
@database_option
def import_state(file: Path, home: Path, database: str) -> None:
    """Merge FILE, which another coordinator exported; stop the coordinator first."""
    with opened(home, database) as store:
        done = store.state_file.load(file, "command line")
    click.echo(f"{len(done.added)} added, {len(done.updated)} updated, {len(done.skipped)} skipped")


def duration(text: str) -> float:
    """Seconds in ``30m``, ``24h``, ``7d``, ``90s``. Raises ``ConfigError``.

    >>> duration("24h")
    86400.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise ConfigError(f"{text!r} is no duration; expected a number with s, m, h or d, as in 24h")
    return float(found[1]) * _UNITS[found[2]]


def _account(store: Store, name: str) -> Any:
    found = store.accounts.find(name)
    if found is None:
        raise NotFound(f"there is no account {name!r}")
    return found


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], as_json: bool = False) -> None:
    if as_json:
        click.echo(json.dumps([dict(zip(head, row, strict=True)) for row in rows]))
        return
    click.echo(table(head, rows))
