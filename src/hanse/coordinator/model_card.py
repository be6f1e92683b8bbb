"""A model card: which data, consent, code and protection a model came from, and how good it is, as Markdown.

Everything in it is read from what the run left: the bundle that was consented to, the decisions of the owners, the
records of the rounds. What was not measured is not there.

Mitchell et al. 2019, "Model cards for model reporting".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hanse import protection
from hanse.bundle import Bundle
from hanse.coordinator import course
from hanse.kinds import Combine
from hanse.messages import Json
from hanse.registry import find, names
from hanse.store.models import ModelVersion, best_of

_FIGURES = ("loss", "accuracy", "auc", "c_index", "rmse", "mae", "r2", "d2")
_SHOWN = 50  # features and settings that are named one by one


def card(session: Mapping[str, Json], bundle: Bundle, versions: Sequence[ModelVersion], steps: course.Steps) -> str:
    """The card of a run that has a model.

    Args:
        session: as ``GET /api/training/sessions/{id}`` gives it.
        versions: of its model, the first one first.
        steps: the records of its steps.
    """
    last, content, config = versions[-1], bundle.content, session["config"]
    title = session["name"] or f"{config['model_name']} for {config['target_column']}"
    blocks = [
        f"# {_line(title)}",
        _list(
            {
                "run": session["session_id"],
                "model": config["model_name"],
                "strategy": f"{config['federated_strategy']}; {session['nearness']}",
                "target": f"{config['target_column']} ({config['task_type']})",
                "purpose": session["purpose"] or "not said",
                "proposed by": session["proposer"],
                "completed": session["ended_at"],
                "SHA-256 of the model": last.sha,
                "bytes": last.nbytes,
            }
        ),
        "## How good it is",
        _measured(versions, steps),
        "## Data",
        _data(content, session),
        "## Consent",
        _table(
            ("site", "decision", "by", "at", "where"),
            ([node, c["decision"], c["actor"], c["time"], c["via"]] for node, c in sorted(session["consents"].items())),
        ),
        _list({"what was consented to (SHA-256 of the bundle)": session["code_hash"]}),
        "## Code",
        _list({"release": f"hanse {content['hanse']}", "files of the nodes' half": len(content["code"])}),
        _list({name: f"{value!r}" for name, value in _chosen(config).items()}),
        "## Protection",
        _list(_protection(bundle)),
    ]
    said = list(content["alignment"].get("warnings", ())) + _warned(steps)
    if said:
        blocks += ["## To be looked at", "\n".join(f"- {_line(w)}" for w in dict.fromkeys(said))]
    return "\n\n".join(blocks) + "\n"


def _measured(versions: Sequence[ModelVersion], steps: course.Steps) -> str:
    views = [view for view in course.views(steps) if course.number(view.metrics.get("loss")) is not None]
    if not views:
        return "It was not measured: no rows were held out."
    own = [view for view in views if view.round == versions[-1].round]  # a run may end with an earlier model
    last, best = (own or views)[-1], best_of(versions)
    rows = []
    for name in _FIGURES:
        value, spread = course.number(last.metrics.get(name)), last.spread.get(name)
        if value is not None:
            over = f"{spread['min']:.4g} to {spread['max']:.4g}" if spread else ""
            rows.append([name, f"{value:.4g}", over])
    some = f"{last.sites.get('answered')} of {last.sites.get('of')} sites" if last.sites else "each site"
    told = [f"After round {last.round}, on rows that were held out at {some}:"]
    told.append(_table(("metric", "all sites", "over sites"), rows))
    if best is not None and best is not versions[-1] and best.round != last.round:
        told.append(f"The version of the least loss is {best.version}, of round {best.round}.")
    return "\n\n".join(told)


def _data(content: Mapping[str, Json], session: Mapping[str, Json]) -> str:
    found, alignment = content["datasets"], content["alignment"]
    rows = ([node, d["name"], str(d["version"])[:16], f"at most {d['most_rows']}"] for node, d in sorted(found.items()))
    features = [str(name) for name in alignment["features"]]
    named = ", ".join(_code(name) for name in features[:_SHOWN])
    more = f" and {len(features) - _SHOWN} more" if len(features) > _SHOWN else ""
    return "\n\n".join(
        [
            _table(("site", "data set", "version", "rows"), rows),
            f"{len(features)} features ({session['config']['feature_strategy']}): {named}{more}.",
        ]
    )


def _protection(bundle: Bundle) -> dict[str, Json]:
    content = bundle.content
    ways = content["gathering"]
    able = names("gathering")
    shown = [way for way, name in sorted(ways.items()) if name not in able or not find("gathering", name).HIDES]
    seen = [way for way in shown if way != Combine.AGREE]  # words that all agree on; they hold no numbers of rows
    links = [" ".join(f"{v}" if k == "name" else f"{k}={v}" for k, v in x.items()) for x in content["transforms"]]
    return {
        "contributions came together": ", ".join(f"{way} by {name}" for way, name in sorted(ways.items())),
        "single contributions": f"by {', '.join(seen)} were seen by the coordinator" if seen else "were seen by nobody",
        "before a contribution left": ", then ".join(links) or "nothing was changed",
        "differential privacy": protection.words(bundle.config, len(content["datasets"])) or "none was promised",
    }


def _chosen(config: Mapping[str, Json]) -> dict[str, Json]:
    """What decides about the model, without texts that are long."""
    left_out = ("plan", "name", "purpose", "tags", "expected_client_ids", "features")
    return {n: v for n, v in sorted(config.items()) if n not in left_out and v not in (None, {}, [], "")}


def _warned(steps: course.Steps) -> list[str]:
    return [str(w) for step in steps for w in (step.get("metrics") or {}).get("warnings") or ()]


# ---------------------------------------------------------------- Markdown, of words that others wrote


def _line(text: Json) -> str:
    """In one line, with nothing in it that Markdown or HTML would make something of."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|!~&" else c for c in plain)


def _code(text: Json) -> str:
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"


def _list(values: Mapping[str, Json]) -> str:
    return "\n".join(f"- {_line(name)}: {_line(value)}" for name, value in values.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[Json]]) -> str:
    lines = [head, ["---"] * len(head), *([_line(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
