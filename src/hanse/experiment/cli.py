"""The data scientist's commands: ``hanse login``, ``nodes``, ``run ...`` and ``probe``.

Whatever the REST interface lets one do with runs, a command does too. With ``--json`` a command
prints JSON for programs.
"""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.experiment.cli_parts import connected, json_option, listed

if TYPE_CHECKING:
    from hanse.experiment.connection import Connection
    from hanse.rounds import Step


# ---------------------------------------------------------------- who and where


@click.command()
@click.argument("url")
@click.option("--token", help="Your API token; asked for if it is not given (a command line can be seen by others).")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    help="Authority that signed the coordinator's certificate (PEM).",
)
def login(url: str, token: str | None, ca: str | None) -> None:
    """Remember a coordinator's address and your token, after trying them."""
    from hanse import releases
    from hanse.experiment import credentials
    from hanse.experiment.connection import Connection

    token = token or click.prompt("API token", hide_input=True)
    known = credentials.Credentials(credentials.checked(url), token, ca or "")
    here = Connection(known)
    try:
        account = here.me()["account"]
    finally:
        here.close()
    place = credentials.save(known)
    if both := releases.differing(here.release, "the coordinator"):
        click.echo(f"{both[0].upper()}{both[1:]}.", err=True)
    click.echo(f"You are {account['name']} ({str(account['role']).replace('_', ' ')}) at {known.url}; saved in {place}")


@click.command()
@click.argument("node", default="")
@click.option("--datasets", is_flag=True, help="What they offer, instead.")
@json_option
@connected
def nodes(here: Connection, node: str, datasets: bool, as_json: bool) -> None:
    """Show the nodes of the federation, or one NODE with the columns of its datasets."""
    if node:
        from hanse.terminal import visible

        click.echo(visible(json.dumps(here.node(node), indent=2, ensure_ascii=False)))
        return
    rows = here.datasets() if datasets else here.nodes()
    listed(list(rows), as_json, empty="no dataset is offered yet" if datasets else "no node has enrolled yet")


@click.command()
@click.option("--follow", is_flag=True, help="Stay, and show what happens from now on.")
@click.option("--since", default=0, help="Events after this number.")
@click.option("--run", "of", default="", help="Of this run only.")
@click.option("--limit", default=100, show_default=True)
@json_option
@connected
def events(here: Connection, follow: bool, since: int, of: str, limit: int, as_json: bool) -> None:
    """Show what happened in the federation: proposals, decisions, rounds, nodes that come and go."""
    from hanse.terminal import line

    for event in here.events(since, of, limit) if not follow else here.follow():
        if of and event.get("run") != of:
            continue
        told = json.dumps(event if as_json else event.get("detail") or {}, ensure_ascii=False)
        about = " ".join(str(event.get(n) or "-") for n in ("id", "time", "kind", "actor", "run", "node"))
        click.echo(told if as_json else line(f"{about} {told}"))


# ---------------------------------------------------------------- runs


@click.group()
def run() -> None:
    """Propose, watch and fetch runs."""


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--config", type=click.Path(exists=True, dir_okay=False), help="Settings as JSON or TOML."),
        click.option("--model", help="What is learned, such as xgboost or logistic_regression."),
        click.option("--target", help="The column to predict."),
        click.option("--rounds", type=int, help="Training rounds."),
        click.option("--features", help="Use these columns, with commas between."),
        click.option("--tag", "tags", multiple=True, help="A dataset takes part if it carries it; repeatable."),
        click.option("--node", "asked", multiple=True, help="Ask this node; repeatable. Default: all that fit."),
        click.option("--name", help="For people."),
        click.option("--purpose", help="What for; the data owners read it."),
        click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting; repeatable."),
    ]
    return functools.reduce(lambda made, option: option(made), reversed(options), command)


def gathered(
    config: str | None,
    model: str | None,
    target: str | None,
    rounds: int | None,
    features: str | None,
    tags: tuple[str, ...],
    asked: tuple[str, ...],
    name: str | None,
    purpose: str | None,
    more: tuple[str, ...],
) -> dict[str, Any]:
    """The settings of a proposal: a file first, then what stands on the command line."""
    from hanse.errors import ConfigError

    settings = _read(Path(config)) if config else {}
    for entry in more:
        key, sign, text = entry.partition("=")
        if not sign:
            raise ConfigError(f"--set {entry!r} has no =; write --set NAME=VALUE")
        settings[key.strip()] = _value(key.strip(), text)
    given: dict[str, Any] = {
        "model_name": model,
        "target_column": target,
        "num_rounds": rounds,
        "name": name,
        "purpose": purpose,
        "features": [f.strip() for f in features.split(",")] if features else None,
        "tags": list(tags) or None,
        "expected_client_ids": list(asked) or None,
    }
    return settings | {k: v for k, v in given.items() if v is not None}


def _value(name: str, text: str) -> Any:
    """What ``text`` means for the setting of this name, its own or an ingredient's. Raises ``ConfigError`` where it
    does not fit; a name that is not known is left to the check of all of them."""
    from hanse.config import RunConfig, owners
    from hanse.experiment.configuring import ALIASES
    from hanse.registry import settings as of_ingredient
    from hanse.settings import settings_of

    known = settings_of(RunConfig).get(ALIASES.get(name, name))
    whose = owners(name)
    if known is None and len(whose) == 1:
        known = of_ingredient(*whose[0]).get(name)
    if known is not None:
        return known.read(name, text)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    from hanse.errors import ConfigError

    text = path.read_text(encoding="utf-8")
    try:
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ConfigError(f"{path} is not {kind}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold an object of settings")
    return found


@run.command()
@_settings
@click.option("--wait", is_flag=True, help="Stay until it has ended.")
@json_option
@connected
def propose(here: Connection, wait: bool, as_json: bool, **options: Any) -> None:
    """Propose a run to the data owners. Prints its id."""
    from hanse.experiment.configuring import configure
    from hanse.experiment.proposal import Experiment

    experiment = Experiment(here, configure(gathered(**options))).propose()
    session = here.session(experiment.run_id)
    if as_json:
        click.echo(json.dumps({k: v for k, v in session.items() if k != "code_preview"}, indent=2))
    else:
        click.echo(experiment.run_id)
        for warning in (session.get("alignment") or {}).get("warnings", ()):
            click.echo(f"! {warning}", err=True)
        waiting = ", ".join(session.get("remaining") or ())
        click.echo(f"{session['state'].replace('_', ' ')}{' of ' + waiting if waiting else ''}", err=True)
    if wait:
        click.echo(repr(experiment.wait()), err=as_json)


@run.command()
@json_option
@connected
def settings(here: Connection, as_json: bool) -> None:
    """Show every setting of a run: of every one, and of each model, algorithm and selection that there is."""
    found = here.call("GET", "/api/config/schema")
    if as_json:
        listed(found, True)
        return
    click.echo("Of every run")
    _lines(found["settings"])
    for folder, ingredients in found["ingredients"].items():
        click.echo(f"\n{folder}: {', '.join(ingredients)}")
        for name, ingredient in ingredients.items():
            if ingredient["settings"]:
                inside = found["apart"].get(folder)
                click.echo(f"\n{name}, in {inside}" if inside else f"\n{name} of {folder}")
                _lines(ingredient["settings"])


def _lines(settings: list[dict[str, Any]]) -> None:
    for entry in settings:
        click.echo(f"  {entry['name']:<22}{json.dumps(entry['default']):<16}{entry['help']}")


@run.command()
@click.argument("id", default="")
@json_option
@connected
def models(here: Connection, id: str, as_json: bool) -> None:
    """List the model versions of a run; without ID, the latest of every run."""
    rows = [
        {
            "run": v["run"],
            "version": v["version"],
            "round": v["round"],
            "bytes": v["nbytes"],
            "SHA-256": v["sha"],
            "loss": v["metrics"].get("loss"),
        }
        for v in here.versions(id)
    ]
    if as_json:
        listed(here.versions(id), True)
        return
    listed([{**row, "SHA-256": row["SHA-256"][:12]} for row in rows], False, empty="no model is stored yet")


@run.command()
@click.argument("first", metavar="RUN:VERSION")
@click.argument("second", metavar="RUN:VERSION")
@connected
def compare(here: Connection, first: str, second: str) -> None:
    """Compare two model versions: what is better, what is smaller."""
    click.echo(json.dumps(here.call("GET", "/api/models/compare", params={"first": first, "second": second}), indent=2))


@run.command()
@_settings
@json_option
@connected
def analyze(here: Connection, as_json: bool, **options: Any) -> None:
    """Show which columns the sites share, before anything is proposed."""
    from hanse.experiment.configuring import configure
    from hanse.experiment.proposal import Experiment

    experiment = Experiment(here, configure(gathered(**options)))
    if as_json:
        click.echo(json.dumps(here.overview(experiment.config), indent=2, ensure_ascii=False))
    else:
        click.echo(repr(experiment.analyze()))


@run.command(name="list")
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
            "name": s.get("name") or s["config"].get("model_name" if s.get("learns", True) else "federated_strategy"),
            "round": f"{s.get('current_round') or 0}/{s['num_rounds']}" if s.get("learns", True) else None,
            "waiting for": s.get("remaining") or None,
            "proposed": str(s.get("created_at") or "")[:16].replace("T", " "),
        }
        for s in sessions
    ]
    listed(rows, False, empty="no runs yet; hanse run propose makes one")


@run.command()
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

    config = session["config"]
    facts = {
        "run": id,
        "state": session["state"],
        "reason": session.get("reason") or None,
        "name": session.get("name") or None,
        "purpose": session.get("purpose") or None,
        "model": config.get("model_name"),
        "target": config.get("target_column"),
        "as pooled": session.get("nearness") or None,
        "round": f"{session.get('current_round') or 0} of {session['num_rounds']}",
        "code": session.get("code_hash"),
        "expires": session.get("expires_at"),
    }
    for name, value in facts.items():
        if value is not None:
            whole = name in ("code", "as pooled", "purpose", "reason")
            click.echo(f"{name:<10}{visible(value) if whole else plain(value)}")
    consents = session.get("consents") or {}
    rows = [
        {
            "node": n,
            "decision": c.get("decision") or "waiting",
            "by": c.get("actor"),
            "via": c.get("via"),
            "time": c.get("time"),
            "reason": c.get("reason") or None,
        }
        for n in session.get("expected_clients") or ()
        for c in (consents.get(n) or {},)
    ]
    click.echo("")
    listed(rows, False, empty="no node is asked")


@run.command()
@click.argument("id")
@connected
def watch(here: Connection, id: str) -> None:
    """Watch a run until it ends. Fails if the run does."""
    from hanse.experiment.federation import Federation

    click.echo(repr(Federation(here).run(id).wait()))


@run.command()
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
        what = f"{session['config'].get('model_name')} for {session['config'].get('target_column')!r}"
        purpose = visible(str(session.get("purpose") or "not said"))
        click.echo(f"{session.get('proposer')} proposes {what}. Purpose: {purpose}")
        click.echo(f"Code and settings: SHA-256 {session['code_hash']} (read them with hanse run preview {id})")
        click.confirm(f"{decision.capitalize()} this for {node}?", abort=True)
        code_hash = str(session["code_hash"])
    after = here.consent(id, node, decision, code_hash, reason)
    waiting = ", ".join(after.get("remaining") or ())
    words = str(after["state"]).replace("_", " ")
    click.echo(f"{node}: {decision}. The run is {words}{' of ' + waiting if waiting and 'await' in words else ''}.")


def _action(name: str, route: str, help: str) -> None:
    @run.command(name=name, help=help)
    @click.argument("id")
    @click.option("--reason", default="", help="Kept in the run's record.")
    @connected
    def act(here: Connection, id: str, reason: str) -> None:
        click.echo(here.act(id, route, reason)["state"])


_action("start", "execute", "Start a run that has all consents (auto_start does it by itself).")
_action("cancel", "cancel", "End a run for good.")
_action("pause", "pause", "Let a run rest before its next step.")
_action("resume", "resume", "Let a paused run go on, or one that failed once its owners have agreed again.")


@run.command()
@click.argument("id")
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="Where to write it.")
@click.option("--result", "whole", is_flag=True, help="The records of all rounds too (hanse.load_result reads it).")
@click.option("--version", type=int, help="Which version (hanse run models); without, the last.")
@connected
def model(here: Connection, id: str, output: str, whole: bool, version: int | None) -> None:
    """Fetch a run's model as a safetensors file."""
    from hanse.messages import digest, pieces

    if whole:
        found = here.result(id)
        found.save(output)
        click.echo(f"{output}: {found!r}")
        return
    record = here.model(id, version)
    draft = Path(output + ".part")
    try:
        with draft.open("wb") as out:
            for piece in pieces(record):
                out.write(piece)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(f"{output}: {record.nbytes} bytes of parameters, SHA-256 {digest(record)}")


@run.command()
@click.argument("id")
@json_option
@connected
def rounds(here: Connection, id: str, as_json: bool) -> None:
    """Show the record of every step of a run."""
    import dataclasses

    from hanse.terminal import visible

    steps = here.rounds(id)
    if as_json:
        listed([dataclasses.asdict(s) for s in steps], True)
        return
    rows = [
        {
            "step": s.step,
            "phase": s.label,
            "round": s.round,
            "status": s.status,
            "seconds": s.seconds,
            "answered": len(s.participants),
            "failed": len(s.failures),
            "loss": s.metrics.get("loss"),
            "accuracy": s.metrics.get("accuracy"),
            "auc": s.metrics.get("auc"),
        }
        for s in steps
    ]
    listed(rows, False, empty="no step has ended yet")
    for step in steps:
        for node, reason in sorted(step.failures.items()):
            click.echo(f"! step {step.step}, {node}: {visible(reason)}")


@run.command()
@click.argument("id")
@json_option
@connected
def analytics(here: Connection, id: str, as_json: bool) -> None:
    """Show importance, contributions and convergence of a run."""
    found = here.analytics(id)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    about = found["convergence"]
    change = f", loss changed by {-about['delta']:+.1%} over {about['window']} rounds" if about.get("delta") else ""
    click.echo(
        f"{found['state']}, round {found.get('current_round') or 0} of {found['num_rounds']}: "
        f"{about['status'].replace('_', ' ')}{change}\n"
    )
    performance = [{"node": n, **_scalars(v)} for n, v in sorted(found["client_performance"].items())]
    listed(performance, False, empty="no node has answered yet")
    if found["feature_importance"]:
        click.echo("")
        listed(found["feature_importance"][:20], False)


def _scalars(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {k: v for k, v in row.items() if not isinstance(v, (dict, list))}
    metrics = row.get("metrics") or {}
    return flat | {k: metrics[k] for k in ("loss", "accuracy", "auc") if k in metrics}


@run.command()
@click.argument("id")
@click.option("--bundle", is_flag=True, help="The canonical text whose SHA-256 is what owners agree to.")
@connected
def preview(here: Connection, id: str, bundle: bool) -> None:
    """Print the settings and the code that will run at the nodes."""
    from hanse.terminal import visible

    click.echo(here.bundle(id) if bundle else visible(str(here.session(id)["code_preview"])), nl=not bundle)


# ---------------------------------------------------------------- what a round costs


@click.command()
@click.option("--rounds", default=20, show_default=True, help="How many.")
@click.option("--bytes", "size", default=1024, show_default=True, help="Of the model that goes to and fro.")
@click.option("--node", "asked", multiple=True, help="Ask this node; repeatable. Default: all.")
@json_option
@connected
def probe(here: Connection, rounds: int, size: int, asked: tuple[str, ...], as_json: bool) -> None:
    """Measure what a round costs in this federation. Touches no data, but needs consent as any run."""
    from hanse.experiment.configuring import configure
    from hanse.experiment.proposal import Experiment

    settings: dict[str, Any] = {
        "federated_strategy": "probe",
        "num_rounds": rounds,
        "model_options": {"bytes": size},
        "name": "probe",
        "purpose": "Measure the time of a round; no data is touched.",
    }
    if asked:
        settings["expected_client_ids"] = list(asked)
    experiment = Experiment(here, configure(settings)).propose()
    experiment.wait(progress=not as_json)
    listed(timings(here.rounds(experiment.run_id)), as_json)


def timings(steps: list[Step]) -> list[dict[str, Any]]:
    """Seconds per round: of the federation, then of each node from its ask to its answer."""
    done = [s for s in steps if s.status == "ok" and s.round is not None]
    found = {"all": [s.seconds for s in done]}
    for node in sorted({n for s in done for n in s.participants}):
        found[node] = [float(s.participants[node].get("seconds") or 0.0) for s in done if node in s.participants]
    return [
        {
            "node": node,
            "rounds": len(values),
            "median s": round(statistics.median(values), 6),
            "fastest s": round(min(values), 6),
            "slowest s": round(max(values), 6),
        }
        for node, values in found.items()
        if values
    ]
