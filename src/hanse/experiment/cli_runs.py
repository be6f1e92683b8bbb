"""``hanse run list``, ``show``, ``preview``, ``watch``, ``consent``, ...: where a run stands, and who moves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from hanse.experiment.cli_parts import connected, json_option, listed, rounds_of, when

if TYPE_CHECKING:
    from hanse.experiment.connection import Connection


@click.command(name="list")
@click.option("--state", default="", help="Only these, with commas between.")
@json_option
@connected
def list_runs(here: Connection, state: str, as_json: bool) -> None:
    """List runs, newest first."""
    sessions = here.sessions(state)
    if as_json:
        listed(sessions, True)
        return
    rows = [
        {
            "run": s["session_id"],
            "state": s["state"],
            "name": s.get("name") or _of_what(s["config"], s.get("learns", True)),
            "round": rounds_of(s.get("current_round"), s["num_rounds"], "/") if s.get("learns", True) else None,
            "waiting for": s.get("remaining") or None,
            "proposed": str(s.get("created_at") or "")[:16].replace("T", " "),
        }
        for s in sessions
    ]
    listed(rows, False, empty="no runs yet; hanse run propose makes one")


def _of_what(config: Mapping[str, Any], learns: bool) -> str:
    """What a run without a name is called, as on the page."""
    if not learns:
        return str(config.get("federated_strategy"))
    target = config.get("target_column")
    return f"{config.get('model_name')} for {target}" if target else str(config.get("model_name"))


@click.command()
@click.argument("id")
@json_option
@connected
def show(here: Connection, id: str, as_json: bool) -> None:
    """Show one run: state, consents, settings."""
    session = here.session(id)
    if as_json:
        click.echo(json.dumps({k: v for k, v in session.items() if k != "code_preview"}, indent=2, ensure_ascii=False))
        return
    from hanse.experiment.listing import plain
    from hanse.terminal import visible

    config, learns = session["config"], session.get("learns", True)
    facts = {
        "run": id,
        "state": session["state"],
        "reason": None if session.get("reason") == session.get("purpose") else session.get("reason") or None,
        "name": session.get("name") or None,
        "purpose": session.get("purpose") or None,
        "model": config.get("model_name") if learns else None,
        "target": config.get("target_column") if learns else None,
        "asks for": None if learns else config.get("federated_strategy"),
        "as pooled": session.get("nearness") or None,
        "privacy": session.get("privacy") or None,
        "round": rounds_of(session.get("current_round"), session["num_rounds"], " of ") if learns else None,
        "code": session.get("code_hash"),
        "expires": when(session.get("expires_at")),
    }
    for name, value in facts.items():
        if value is not None:
            whole = name in ("code", "as pooled", "privacy", "purpose", "reason")
            click.echo(f"{name:<10}{visible(value) if whole else plain(value)}")
    consents = session.get("consents") or {}
    rows = [
        {
            "node": n,
            "decision": c.get("decision") or "waiting",
            "by": c.get("actor"),
            "via": c.get("via"),
            "time": when(c.get("time")),
            "reason": c.get("reason") or None,
        }
        for n in session.get("expected_clients") or ()
        for c in (consents.get(n) or {},)
    ]
    click.echo("")
    listed(rows, False, empty="no node is asked")


@click.command()
@click.argument("id")
@click.option("--bundle", is_flag=True, help="The canonical text whose SHA-256 is what owners agree to.")
@connected
def preview(here: Connection, id: str, bundle: bool) -> None:
    """Print the settings and the code that will run at the nodes."""
    from hanse.terminal import visible

    click.echo(here.bundle(id) if bundle else visible(str(here.session(id)["code_preview"])), nl=not bundle)


@click.command()
@click.argument("id")
@connected
def watch(here: Connection, id: str) -> None:
    """Watch a run until it ends. Fails if the run does."""
    from hanse.experiment.federation import Federation

    click.echo(repr(Federation(here).run(id).wait()))


@click.command()
@click.argument("id")
@click.argument("decision", type=click.Choice(["accept", "reject"]))
@click.option("--node", help="For which of your nodes; may be left out if only one is asked.")
@click.option("--hash", "code_hash", help="What you read: the SHA-256 that hanse run preview shows first.")
@click.option("--reason", default="", help="Told to the data scientist.")
@connected
def consent(here: Connection, id: str, decision: str, node: str | None, code_hash: str | None, reason: str) -> None:
    """Decide, as a data owner, about exactly the code that --hash names."""
    from hanse.errors import Conflict
    from hanse.terminal import visible

    session = here.session(id)
    if session["state"] != "awaiting_consent":
        raise Conflict(f"run {id} is {session['state']}; there is nothing to decide")
    if node is None:
        own = list(here.me()["account"].get("nodes") or ())
        asked = [n for n in session.get("remaining") or () if n in own]
        if len(asked) != 1:
            raise click.UsageError(f"say which node with --node; of yours are asked: {', '.join(asked) or 'none'}")
        node = asked[0]
    if code_hash is None:
        # never consent to whatever stands there now: the owner confirms the very hash
        config, learns = session["config"], session.get("learns", True)
        learned = f"{config.get('model_name')} for {config.get('target_column')!r}"
        what = learned if learns else f"{config.get('federated_strategy')}, of which no model comes"
        purpose = visible(str(session.get("purpose") or "not said"))
        click.echo(f"{session.get('proposer')} proposes {what}. Purpose: {purpose}")
        click.echo(f"Code and settings: SHA-256 {session['code_hash']} (read them with hanse run preview {id})")
        click.confirm(f"{decision.capitalize()} this for {node}?", abort=True)
        code_hash = str(session["code_hash"])
    after = here.consent(id, node, decision, code_hash, reason)
    waiting = ", ".join(after.get("remaining") or ())
    words = str(after["state"]).replace("_", " ")
    click.echo(f"{node}: {decision}. The run is {words}{' of ' + waiting if waiting and 'await' in words else ''}.")


def _action(name: str, route: str, help: str) -> click.Command:
    @click.command(name=name, help=help)
    @click.argument("id")
    @click.option("--reason", default="", help="Kept in the run's record.")
    @connected
    def act(here: Connection, id: str, reason: str) -> None:
        click.echo(here.act(id, route, reason)["state"])

    return act


start = _action("start", "execute", "Start a run that has all consents (auto_start does it by itself).")
cancel = _action("cancel", "cancel", "End a run for good.")
pause = _action("pause", "pause", "Let a run rest before its next step.")
resume = _action("resume", "resume", "Let a paused run go on, or one that failed once its owners have agreed again.")
