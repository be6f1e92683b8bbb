"""``hanse run models``, ``model``, ``card``, ``coefficients``, ``evidence``, ``rounds``, ...: what a run left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.errors import ConfigError, NotFound
from hanse.experiment.cli_parts import connected, json_option, listed, rounds_of

if TYPE_CHECKING:
    from hanse.experiment.connection import Connection


@click.command()
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
            "": ", ".join(word for word in ("best", "last") if v.get(word)),
        }
        for v in here.versions(id)
    ]
    if as_json:
        listed(here.versions(id), True)
        return
    listed([{**row, "SHA-256": row["SHA-256"][:12]} for row in rows], False, empty="no model is stored yet")


@click.command()
@click.argument("first", metavar="RUN:VERSION")
@click.argument("second", metavar="RUN:VERSION")
@json_option
@connected
def compare(here: Connection, first: str, second: str, as_json: bool) -> None:
    """Compare two model versions: what is better, what is smaller."""
    from hanse.experiment.metric_names import FIRST, LOWER_IS_BETTER

    found = here.call("GET", "/api/models/compare", params={"first": first, "second": second})
    if as_json:
        listed(found, True)
        return
    one, other = found["first"], found["second"]
    a, b = one["metrics"], other["metrics"]
    rows = [
        {
            "": name,
            first: a[name],
            second: b[name],
            "better": _better(a[name], b[name], name in LOWER_IS_BETTER, one, other),
        }
        for name in FIRST
        if isinstance(a.get(name), (int, float)) and isinstance(b.get(name), (int, float))
    ]
    rows += [{"": name, first: one[name], second: other[name], "better": None} for name in ("round",)]
    rows += [{"": "bytes", first: one["nbytes"], second: other["nbytes"], "better": None}]
    notes = []
    if one["run"] != other["run"]:
        on = f": {a['n']} and {b['n']}" if a.get("n") != b.get("n") else ""
        notes.append(
            f"they are of two runs, which may have held out other rows{on}; "
            "result.evaluate(rows) measures both on the same"
        )
    listed(rows, False, notes=notes)


def _better(a: float, b: float, low: bool, one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Which of two versions a metric favours; None: neither."""
    if a == b:
        return None
    chosen = one if (a < b) is low else other
    return f"{chosen['run']}:{chosen['version']}"


@click.command()
@click.argument("id")
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="Where to write it.")
@click.option("--result", "whole", is_flag=True, help="The records of all rounds too (hanse.load_result reads it).")
@click.option("--version", type=int, help="Which version (hanse run models); without, the last.")
@connected
def model(here: Connection, id: str, output: str, whole: bool, version: int | None) -> None:
    """Fetch a run's model as a safetensors file; as .skops, .onnx, .ubj or .json for use without Hanse."""
    from hanse.experiment.export import ENDINGS, export
    from hanse.messages import digest, pieces

    if whole:
        found = here.result(id)
        found.save(output)
        click.echo(f"{output}: {found!r}")
        return
    record = here.model(id, version)
    if Path(output).suffix in ENDINGS:
        from hanse.prediction import native_model

        if (record.data.get("options") or {}).get("plan"):
            raise ConfigError(
                "this model's training plan is code from elsewhere; load the result in Python and read it"
            )
        click.echo(f"{export(record, native_model(record), output)}: {record.data['model_name']}")
        return
    draft = Path(output + ".part")
    try:
        with draft.open("wb") as out:
            for piece in pieces(record):
                out.write(piece)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(f"{output}: {record.nbytes} bytes of parameters, SHA-256 {digest(record)}")


@click.command("bring-in")
@click.argument("file", type=click.Path(dir_okay=False, exists=True))
@connected
def bring_in(here: Connection, file: str) -> None:
    """Bring a model in that was learned elsewhere; a run can go on from it (initial_model)."""
    raw = Path(file).read_bytes()
    if raw[8:9] != b"{":  # a header of JSON stands there in every safetensors file
        raise ConfigError(f"{file} is no safetensors file; expected what result.save(path) or hanse run model wrote")
    version = here.bring_in(raw)
    click.echo(f"{version['run']}:{version['version']}, SHA-256 {version['sha']}")


@click.command()
@click.argument("id")
@connected
def card(here: Connection, id: str) -> None:
    """Print a model card: which data, consent, code and protection a model came from, and how good it is."""
    click.echo(here.card(id), nl=False)


@click.command()
@click.argument("id")
@json_option
@connected
def coefficients(here: Connection, id: str, as_json: bool) -> None:
    """Print the regression table of an exact fit: estimates, standard errors, 95 % intervals, p-values."""
    found = here.coefficients(id)
    terms: Any = found["terms"]
    columns = ["name", "coefficient", "standard_error", "low", "high", "statistic", "p_value"]
    columns[1:1] = ["outcome"] if any(term["outcome"] for term in terms) else []
    columns += ["ratio", "ratio_low", "ratio_high"] if found["effect"] else []
    columns += ["note"] if any(term["note"] for term in terms) else []
    listed(
        found if as_json else terms, as_json, columns, str(found["why"]), [said] if (said := found.get("basis")) else []
    )


@click.command()
@click.argument("id")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Where to write it; without, ID.evidence.zip.")
@connected
def evidence(here: Connection, id: str, output: str | None) -> None:
    """Fetch a run's evidence: one signed file, which hanse audit verify checks without the coordinator."""
    from hanse.whole_files import write_whole

    place = Path(output or f"{id}.evidence.zip")
    raw = here.evidence(id)
    write_whole(place, raw, 0o644)
    click.echo(f"{place}: {len(raw)} bytes; check it with hanse audit verify {place}")


@click.command()
@click.argument("id")
@click.option("--node", required=True, help="Which of your nodes.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Where to write it; without, ID.inclusion.json.")
@connected
def inclusion(here: Connection, id: str, node: str, output: str | None) -> None:
    """Fetch, as its owner, what shows a node that its replies were counted; hanse node included checks it."""
    from hanse.whole_files import write_whole

    place = Path(output or f"{id}.inclusion.json")
    found = here.inclusion(id, node)
    write_whole(place, json.dumps(found), 0o600)
    click.echo(f"{place}: {len(found['steps'])} steps; check it at the node: hanse node included EVIDENCE {place}")


@click.command()
@click.argument("id")
@json_option
@connected
def rounds(here: Connection, id: str, as_json: bool) -> None:
    """Show the record of every step of a run.

    Loss and the like are of the model after as many rounds as ``measured`` says: most strategies measure a model when
    they begin the round after it.
    """
    import dataclasses

    from hanse.experiment import records
    from hanse.experiment.metric_names import FIRST
    from hanse.terminal import visible

    steps = here.rounds(id)
    if as_json:
        listed([dataclasses.asdict(s) for s in steps], True)
        return
    measured = [name for name in FIRST if name != "loss" and any(name in s.metrics for s in steps)][:2]
    rows = [
        {
            "step": s.step,
            "phase": s.label,
            "round": s.round,
            "status": s.status,
            "seconds": s.seconds,
            "answered": len(s.participants),
            "failed": len(s.failures),
            "measured": records.evaluated(s) if "loss" in s.metrics else None,  # rounds that the model had then
            "loss": s.metrics.get("loss"),
            **{name: s.metrics.get(name) for name in measured},
            "gathered": s.gathered.get("by", "plain") if s.status == "ok" else None,
        }
        for s in steps
    ]
    listed(rows, False, empty="no step has ended yet")
    if said := records.gathered(steps):
        click.echo(f"gathered: {said}")
    for step in steps:
        for node, reason in sorted(step.failures.items()):
            click.echo(f"! step {step.step}, {node}: {visible(reason)}")
    for node, reason, count in records.left_out(steps):
        click.echo(f"- {node} was left out of {count} step{'' if count == 1 else 's'}: {visible(reason)}")


@click.command()
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
        f"{found['state']}, round {rounds_of(found.get('current_round'), found['num_rounds'], ' of ')}: "
        f"{about['status'].replace('_', ' ')}{change}\n"
    )
    performance = [{"node": n, **_scalars(v)} for n, v in sorted(found["client_performance"].items())]
    listed(performance, False, empty="no node has answered yet")
    if found["feature_importance"]:
        click.echo("")
        listed(found["feature_importance"][:20], False)


@click.command()
@click.argument("id")
@click.option("--metric", default="", help="Of the matrix; without, the area under the ROC curve, R² or the like.")
@json_option
@connected
def measured(here: Connection, id: str, metric: str, as_json: bool) -> None:
    """Show what was measured of a run's model: metrics by group, and every site's model at every site."""
    from hanse.experiment.measured import groups, matrix

    found = here.analytics(id)["measured"]
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if not found:
        raise NotFound(
            f"nothing was measured of the model of run {id}; propose a run with measures (groups, cross_site)"
        )
    shown = [groups(found)] if "groups" in found else []
    shown += [matrix(found, metric)] if "cross_site" in found else []
    click.echo("\n\n".join(map(repr, shown)))


def _scalars(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {k: v for k, v in row.items() if not isinstance(v, (dict, list))}
    metrics = row.get("metrics") or {}
    return flat | {k: metrics[k] for k in ("loss", "accuracy", "auc") if k in metrics}
