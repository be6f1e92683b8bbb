"""``hanse node``: what the owner of a node does. Each command loads what it needs when it runs.

Decisions reach a running agent over its control socket; without one they are written to the
approvals file, and the agent tells the coordinator when it starts.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hanse.errors import ConfigError, Conflict, DataError, HanseError, NotFound
from hanse.terminal import line, visible

if TYPE_CHECKING:
    from hanse.node.approvals import Proposal
    from hanse.node.catalogue import Dataset

Command = TypeVar("Command", bound=Callable[..., Any])


def _home(command: Command) -> Command:
    return click.option(
        "--home", type=click.Path(file_okay=False, path_type=Path), envvar="HANSE_NODE_HOME",
        default="~/.hanse/node", show_default=True, callback=lambda c, p, v: v.expanduser().absolute(),
        help="The node's folder.",
    )(command)  # fmt: skip


@click.group()
def node() -> None:
    """Run a node beside an institution's data."""


# ---------------------------------------------------------------- life


@node.command()
@_home
@click.option("--join", "token", required=True, metavar="TOKEN", help="The join token from the coordinator's operator.")
@click.option("--name", "name", default="", metavar="ID", help="This node's id; needed unless the token names it.")
@click.option("--consent", type=click.Choice(["node", "coordinator"]), default="node", show_default=True,
              help="Where approvals are taken: only here, or also by you at the coordinator's page.")  # fmt: skip
def init(home: Path, token: str, name: str, consent: str) -> None:
    """Make a key, join a coordinator and write node.toml."""
    from hanse.identity import JoinToken
    from hanse.node.join import join
    from hanse.node.settings import FILE, Coordinator, Settings

    decoded = JoinToken.decode(token)
    chosen = name or decoded.node_id
    if not chosen:
        raise ConfigError("this token does not name a node; choose an id with --name")
    if decoded.node_id and chosen != decoded.node_id:
        raise ConfigError(f"the token is for node {decoded.node_id!r}, not {chosen!r}")
    before = Settings.load(home) if (home / FILE).exists() else Settings()
    if before.node_id not in ("", chosen):
        raise Conflict(f"this folder belongs to node {before.node_id!r}; choose another with --home")
    identity = join(home, decoded, chosen)
    home.chmod(0o700)
    import dataclasses

    where = Coordinator(identity.grpc_address, decoded.url)
    dataclasses.replace(before, node_id=chosen, consent=consent, coordinator=where).save(home)
    click.echo(f"{chosen} has joined {decoded.url}. Next: hanse node dataset add PATH, then hanse node start")


@node.command()
@_home
@click.option("--foreground/--background", default=True, show_default=True, help="Stay in this terminal, or detach.")
@click.option("--verbose", is_flag=True, help="Log more.")
def start(home: Path, foreground: bool, verbose: bool) -> None:
    """Run the node until it is stopped (SIGTERM or Ctrl-C)."""
    import logging

    from hanse.node.settings import Settings

    settings = Settings.load(home)
    if not foreground:
        _detach(home)
        return
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    from hanse.allocator import keep_warm

    keep_warm()
    from hanse.node.agent import serve

    logging.getLogger("hanse.node").info("node %s starts", settings.node_id)
    serve(home)


def _detach(home: Path) -> None:
    import subprocess

    with open(home / "agent.log", "ab") as log:
        child = subprocess.Popen([sys.executable, "-m", "hanse.cli", "node", "start", "--home", str(home)],
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # fmt: skip
    for _ in range(300):  # until it listens, or has ended
        if _running(home):
            click.echo(f"the node runs (process {child.pid}); its log is agent.log")
            return
        if child.poll() is not None:
            break
        time.sleep(0.05)
    raise Conflict("the node did not start; the reason is in agent.log")


@node.command()
@_home
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(home: Path, as_json: bool) -> None:
    """Whether the node runs, is connected, and what it is doing."""
    from hanse.node.approvals import Approvals
    from hanse.node.catalogue import Catalogue
    from hanse.node.settings import Settings

    settings = Settings.load(home)
    found: dict[str, Any] = {"node": settings.node_id, "coordinator": settings.coordinator.grpc, "running": False}
    try:
        found |= _ask(home, "status") | {"running": True}
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


# ---------------------------------------------------------------- datasets


@node.group()
def dataset() -> None:
    """The datasets of this node."""


@dataset.command("add")
@_home
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="By default made of the file's name.")
@click.option("--tags", default="", metavar="A,B", help="What runs look for.")
@click.option("--mock", type=click.Path(path_type=Path), help="A file that others may see in place of the data.")
@click.option("--schema", default="", metavar="COLUMN=KIND,...", help="Kinds to be enforced.")
@click.option("--target", metavar="COLUMN", help="Rows per class of it are in the summary that leaves.")
def dataset_add(
    home: Path, path: Path, name: str | None, tags: str, mock: Path | None, schema: str, target: str | None
) -> None:
    """Register the file or folder at PATH."""
    from hanse.node.catalogue import Catalogue

    catalogue = Catalogue(home)
    with _shown("reading") as note:
        added = catalogue.add(path, name, _listed(tags), _schema(schema), mock, note=note)
    try:
        _after_change(home, added, target)
    except DataError:
        catalogue.remove(added.name)
        raise
    click.echo(f"{added.name}: {added.rows} rows, {len(added.schema)} columns, version {added.version[:12]}")


@dataset.command("list")
@_home
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def dataset_list(home: Path, as_json: bool) -> None:
    """The datasets that are registered."""
    from hanse.node.catalogue import Catalogue

    rows = [(d.name, ",".join(d.tags), d.kind, d.rows, len(d.schema), d.version[:12]) for d in Catalogue(home).list()]
    head = ("name", "tags", "kind", "rows", "columns", "version")
    if as_json:
        click.echo(json.dumps([dict(zip(head, row, strict=True)) for row in rows]))
        return
    _table(head, rows)


@dataset.command("remove")
@_home
@click.argument("name")
def dataset_remove(home: Path, name: str) -> None:
    """Forget a dataset; its file stays."""
    from hanse.node.catalogue import Catalogue

    Catalogue(home).remove(name)
    _after_change(home, None)
    click.echo(f"{name} is not offered any more")


@dataset.command("refresh")
@_home
@click.argument("name")
def dataset_refresh(home: Path, name: str) -> None:
    """Register what is in the file now; approvals for the former version end."""
    from hanse.node.catalogue import Catalogue

    with _shown("reading") as note:
        found = Catalogue(home).refresh(name, note)
    _after_change(home, found)
    click.echo(f"{found.name}: {found.rows} rows, version {found.version[:12]}")


@dataset.command("show")
@_home
@click.argument("name")
def dataset_show(home: Path, name: str) -> None:
    """All that the coordinator gets to know of a dataset without a run."""
    from hanse.node.agent import summaries
    from hanse.node.catalogue import Catalogue
    from hanse.node.settings import Settings

    found = Catalogue(home).get(name)
    count = Settings.load(home).policy.minimum_count
    leaves = {"dataset": found.public(count), "summary": summaries(home).get(name)}
    click.echo(json.dumps(leaves, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def _shown(what: str) -> Iterator[Callable[[float], None]]:
    """Shows on the terminal how far something is, once it has taken a second."""
    begun, last, wide = time.monotonic(), 0.0, 0

    def note(done: float) -> None:
        nonlocal last, wide
        now = time.monotonic()
        if sys.stderr.isatty() and now - begun >= 1 and now - last >= 0.2:
            last = now
            left = (now - begun) / done * (1 - done) if done else 0.0
            text = f"{what}: {done:4.0%}, {left:.0f} s left"
            wide = max(wide, len(text))
            click.echo("\r" + text.ljust(wide), nl=False, err=True)

    try:
        yield note
    finally:
        if wide:
            click.echo("\r" + " " * wide + "\r", nl=False, err=True)


def _after_change(home: Path, changed: Dataset | None, target: str | None = None) -> None:
    """Writes the summary that leaves with the next greeting, and tells a running agent. ``target``: None
    for the one that was given when the dataset was added."""
    import os

    from hanse.node.catalogue import Catalogue
    from hanse.node.settings import Settings
    from hanse.node.summary import summary

    try:
        count = Settings.load(home).policy.minimum_count
    except NotFound:
        count = Settings().policy.minimum_count
    file = home / "summaries.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if changed is not None:
        rows = Catalogue(home).source(changed)
        before = known.get(changed.name, {}).get("target")
        target = target or (before if before in rows.schema else None)
        with _shown("summarising") as note:
            said = summary(rows, target, count, changed.metadata_columns, note)
        known[changed.name] = {"version": changed.version, "summary": said, "target": target}
    names = {d.name for d in Catalogue(home).list()}
    temporary = home / f".summaries-{os.getpid()}"
    temporary.write_text(json.dumps({n: e for n, e in known.items() if n in names}), encoding="utf-8")
    temporary.replace(file)
    try:
        _ask(home, "datasets")
    except ConnectionError:
        pass


# ---------------------------------------------------------------- approvals


@node.command()
@_home
@click.option("--all", "everything", is_flag=True, help="Also those that were decided or have expired.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def proposals(home: Path, everything: bool, as_json: bool) -> None:
    """What was proposed to this node."""
    from hanse.node.agent import public
    from hanse.node.approvals import Approvals

    approvals = Approvals(_joined(home))
    found = approvals.proposals() if everything else approvals.pending()
    if as_json:
        click.echo(json.dumps([public(p) for p in found]))
        return
    _table(("run", "hash", "state", "from", "dataset", "expires", "purpose"),
           [(p.run, p.sha256[:12], p.state, p.proposer, (p.dataset or {}).get("name", "-"), p.expires[:16],
             p.purpose[:50]) for p in found])  # fmt: skip


@node.command()
@_home
@click.argument("run")
@click.option("--sha256", default="", help="Which hash, where a run was proposed with several; a prefix will do.")
def show(home: Path, run: str, sha256: str) -> None:
    """What a run would do: its settings, and the code that would run here."""
    from hanse.bundle import thaw
    from hanse.node.approvals import Approvals

    found = Approvals(_joined(home)).get(run, sha256)
    dataset = "none" if found.dataset is None else f"{found.dataset['name']}, version {found.dataset['version'][:12]}"
    for said in (f"run {found.run}: {found.state}", f"proposed by {found.proposer}, expires {found.expires}",
                 f"purpose: {found.purpose or '(none given)'}", f"dataset: {dataset}"):  # fmt: skip
        click.echo("# " + line(said))
    try:
        for rule in _ask(home, "examine", run=found.run, sha256=found.sha256):
            click.echo("# " + line(f"rule {rule['rule']}: {'allows it' if rule['allowed'] else _forbids(rule)}"))
    except ConnectionError:
        click.echo("# (start the node to see what its rules say)")
    click.echo(visible(thaw(found.text, found.sha256).preview()))


def _decision(name: str, help: str, reason_needed: bool = False) -> None:
    optional: dict[str, Any] = {"required": True} if reason_needed else {"default": ""}

    @node.command(name, help=help)
    @_home
    @click.argument("run")
    @click.option("--sha256", default="", help="The hash that you have looked at; a prefix must fit.")
    @click.option("--reason", help="Told to the data scientist.", **optional)
    def decide(home: Path, run: str, sha256: str, reason: str) -> None:
        done = _decide(home, name, run, sha256, reason)
        click.echo(f"run {done['run']}, hash {done['sha256'][:12]}: {done['state']}")
        if name == "approve":
            _warn_of_rules(home, done)


def _forbids(rule: Mapping[str, Any]) -> str:
    remedy = f" (to allow it: hanse node policy set {rule['remedy']})" if rule["remedy"] else ""
    return f"FORBIDS IT: {rule['reason']}{remedy}"


def _warn_of_rules(home: Path, approved: Mapping[str, Any]) -> None:
    """An approval does not go before the rules: what they will refuse is said now, not in a round."""
    try:
        said = _ask(home, "examine", run=approved["run"], sha256=approved["sha256"])
    except ConnectionError:
        click.echo("the node does not run, so its rules were not asked; hanse node show tells them then", err=True)
        return
    for rule in said:
        if not rule["allowed"]:
            click.echo("warning: this node will refuse the run all the same: "
                       + line(f"rule {rule['rule']} {_forbids(rule)}"), err=True)  # fmt: skip


_decision("approve", "Approve exactly what was proposed: this run, this hash.")
_decision("reject", "Reject a proposal.", reason_needed=True)
_decision("revoke", "Take an approval back; the next task is refused.")


def _decide(home: Path, do: str, run: str, sha256: str, reason: str) -> Mapping[str, Any]:
    actor = _actor()
    try:
        done: Mapping[str, Any] = _ask(_joined(home), do, run=run, sha256=sha256, actor=actor, reason=reason)
        return done
    except ConnectionError:
        pass  # nobody runs: the file is ours
    from hanse.node.agent import public
    from hanse.node.approvals import Approvals
    from hanse.node.settings import Settings
    from hanse.store.audit import AuditLog

    approvals, audit = Approvals(home), AuditLog(home / "audit.jsonl")
    days = Settings.load(home).policy.approval_days
    more: dict[str, Any] = {"days": days} if do == "approve" else {}
    proposal: Proposal = getattr(approvals, do)(run, sha256, actor=actor, reason=reason, **more)
    audit.append(actor, f"proposal.{proposal.state}", proposal.run, {"sha256": proposal.sha256, "reason": reason})
    return public(proposal)


# ---------------------------------------------------------------- policy and audit


@node.group("policy")
def policy_group() -> None:
    """What this node allows."""


@policy_group.command("show")
@_home
def policy_show(home: Path) -> None:
    """The settings in node.toml."""
    from hanse.node.settings import Settings

    click.echo(Settings.load(home).to_toml().strip())


@policy_group.command("set")
@_home
@click.argument("key")
@click.argument("value")
def policy_set(home: Path, key: str, value: str) -> None:
    """Change one setting; a running node follows at once. Lists are separated by commas."""
    from hanse.node.settings import Settings
    from hanse.store.audit import AuditLog

    before = Settings.load(home)
    after = before.with_value(key, value)
    after.policy.check_names()
    after.save(home)
    try:
        _ask(home, "reload", actor=_actor())
    except ConnectionError:
        AuditLog(home / "audit.jsonl").append(_actor(), "settings.changed", after.node_id, after.to_json()["policy"])
    click.echo(f"{key} = {value}")


@node.command()
@_home
@click.option("--verify", is_flag=True, help="Check the chain; exit status 1 if it is broken.")
@click.option("--last", default=50, show_default=True, help="So many entries; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def audit(home: Path, verify: bool, last: int, as_json: bool) -> None:
    """What was asked of this node and what it answered."""
    import dataclasses

    from hanse.store.audit import AuditLog

    log = AuditLog(_joined(home) / "audit.jsonl")
    entries = log.entries()
    shown = entries[-last:] if last else entries
    if as_json:
        for entry in shown:
            click.echo(json.dumps(dataclasses.asdict(entry), ensure_ascii=False))
    else:
        _table(("seq", "time", "who", "what", "run", "detail"),
               [(e.seq, e.time[:19], e.actor, e.action, e.subject, _brief(e.detail)) for e in shown])  # fmt: skip
    if not verify:
        return
    verdict = log.verify()
    if not verdict.ok:
        raise HanseError(f"the audit log is broken at entry {verdict.first_bad}: {verdict.reason}")
    click.echo(f"the chain of {verdict.entries} entries is whole", err=as_json)


# ---------------------------------------------------------------- small things


def _ask(home: Path, do: str, **more: Any) -> Any:
    from hanse.node.control import ask

    return ask(home, do, **more) if home.is_dir() else _nobody()


def _nobody() -> Any:
    raise ConnectionError


def _running(home: Path) -> bool:
    try:
        _ask(home, "status")
    except (ConnectionError, HanseError):
        return False
    return True


def _joined(home: Path) -> Path:
    from hanse.node.settings import Settings

    Settings.load(home)
    return home


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "owner"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _schema(text: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for part in _listed(text):
        column, equals, kind = part.rpartition("=")
        if not equals or not column:
            raise ConfigError(f"{part!r} in --schema; expected COLUMN=KIND, as in age=numeric")
        found[column] = kind
    return found or None


def _brief(detail: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={str(v)[:60]}" for k, v in detail.items() if v not in (None, ""))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    shown = [tuple(head), *(tuple(line(str(v)) for v in row) for row in rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(head))]
    for row in shown:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
