"""Writes docs/reference from the code: ``make reference``. tests/test_reference.py fails where the pages lag."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hanse import facts, registry
from hanse.cli import group
from hanse.config import APART, RunConfig
from hanse.coordinator import governance, run_defaults
from hanse.coordinator import settings as coordinator
from hanse.coordinator.access import TABLE
from hanse.coordinator.app import create_app
from hanse.coordinator.service import Coordinator
from hanse.node import settings as node
from hanse.policy import policy_file
from hanse.settings import Setting, settings_of

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make reference` from the code; do not edit. -->"
INSIDE = {
    "models": "model_options",
    "transforms": "a link of transforms",
    "policy": "node.toml",
    "ledgers": "node.toml",
}


def pages() -> dict[str, str]:
    """File name to text, of all pages."""
    return {
        "run.md": _page("Settings of a run", _run()),
        "node.md": _page("Settings of a node: node.toml", _node()),
        "coordinator.md": _page("Settings of a coordinator", _coordinator()),
        "commands.md": _page("Commands", _commands()),
        "network.md": _page("Settings of network drivers", _network()),
        "rest.md": _page("REST routes", _rest()),
        "policies.md": _page("What policies can ask", _policies()),
    }


def _page(title: str, blocks: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", NOTE, *blocks]) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(head), "|".join("---" for _ in head), *(" | ".join(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _settings(settings: Mapping[str, Setting]) -> str:
    return _table(
        ("setting", "default", "expected", "meaning"),
        (
            (", ".join(f"`{n}`" for n in (name, *s.aliases)), f"`{_json(s.default)}`", _values(s), s.help)
            for name, s in settings.items()
        ),
    )


def _values(setting: Setting) -> str:
    """What it may be; where it names an ingredient, of which folder."""
    said = setting.check.expected
    return f"a file of `hanse.{setting.names}`" if setting.names and said.startswith("text") else said


def _json(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _run() -> Iterator[str]:
    yield (
        "What `hanse run propose`, `hanse.simulate(...).experiment(...)` and `POST /api/training/start` take. A run "
        "has the settings of every run and those of the ingredients that it uses, in one flat object; those of a model "
        "stand in `model_options`, those of a transform in its link of `transforms`. A name or a value that does not "
        "fit is an error."
    )
    yield "## Of every run"
    yield _settings(settings_of(RunConfig))
    for folder in RunConfig.folders():
        yield f"## {folder}"
        if folder in APART:
            yield f"Set inside `{APART[folder]}`."
        for name, said in registry.describe(folder).items():
            yield f"**`{name}`**: {said['help']}"
            own = registry.settings(folder, name)
            if own:
                yield _settings(own)


def _network() -> Iterator[str]:
    yield (
        "`hanse network controller --driver NAME --set NAME=VALUE` ([network.md](../network.md)). A driver is a file "
        "of `hanse.network`."
    )
    for name, said in registry.describe("network").items():
        yield f"## `{name}`"
        yield said["help"]
        if own := registry.settings("network", name):
            yield _settings(own)


def _node() -> Iterator[str]:
    yield (
        "`hanse node init` writes `node.toml` into the node's folder; `hanse node policy show` prints it, and "
        "`hanse node policy set NAME VALUE` changes one setting, which a running node follows at once. What stands "
        "under `policy` is brought along by the rules and ledgers of the gate, a file each."
    )
    found: dict[str, dict[str, Setting]] = {}
    for name, setting in node.known().items():
        found.setdefault(name.rpartition(".")[0], {})[name] = setting
    for table, settings in found.items():
        yield f"## {f'[{table}]' if table else 'At the top'}"
        yield _settings(settings)


def _policies() -> Iterator[str]:
    yield (
        "The attributes of `context`, for each action ([policy.md](../policy.md) says how policies decide). One that "
        "may be absent is read as `context has rows && context.rows >= 50`. The `settings` of a run cannot be asked. "
        "`Long` is a whole number, a `decimal` has four places."
    )
    for where, vocabulary in (("node", policy_file.VOCABULARY), ("coordinator", governance.VOCABULARY)):
        told: set[Any] = set()
        for action, attributes in vocabulary.actions.items():
            kind = vocabulary.facts[action]
            yield f'## At a {where}: `Action::"{action}"`'
            if kind in told:
                yield f"The same as of the action before ({_first(kind)})"
                continue
            told.add(kind)
            yield _first(kind)
            rows = ((f"`{a.name}`", f"`{a.type}`", "yes" if a.optional else "") for a in attributes)
            yield _table(("attribute", "type", "may be absent"), rows)
    for kind in (facts.RunFacts, facts.Facts, facts.Participation, facts.Reading):
        _, _, arguments = (inspect.getdoc(kind) or "").partition("Args:\n")
        yield f"## {_first(kind)}"
        yield "\n".join(_list(arguments))


def _first(kind: Any) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _list(arguments: str) -> Iterator[str]:
    """The lines of ``Args:`` as a list; a line that is indented further goes on with the one before."""
    for line in inspect.cleandoc(arguments).splitlines():
        names, colon, meaning = line.partition(": ")
        yield f"- **{names}**: {meaning}" if colon and not line.startswith(" ") else f"  {line.strip()}"


def _coordinator() -> Iterator[str]:
    command = _command("coordinator", "start")
    yield "## Options of `hanse coordinator start`"
    yield "Each with a variable can be set in the environment too."
    yield _table(
        ("option", "default", "variable", "meaning"),
        (
            (
                ", ".join(f"`{o}`" for o in option.opts),
                "" if _unset(option) else f"`{option.default}`",
                f"`{option.envvar}`" if option.envvar else "",
                (option.help or "").partition(" (HANSE_")[0],
            )
            for option in command.params
            if isinstance(option, click.Option)
        ),
    )
    yield "## Further settings: `--set NAME=VALUE`"
    yield _settings(settings_of(coordinator.CoordinatorSettings))
    yield "## Variables for the runs that do not say otherwise"
    yield "Those that FLOPY-NET documents; each means settings of a run, and `--run-default NAME=VALUE` sets any."
    yield _table(
        ("variable", "settings of a run"),
        ((f"`{name}`", ", ".join(f"`{s}`" for s in meant)) for name, meant in run_defaults.VARIABLES.items()),
    )


def _unset(option: click.Option) -> bool:
    return option.default in (None, "", (), False) or not isinstance(option.default, (str, int, float, Path))


def _command(*words: str) -> click.Command:
    found: click.Command = group
    for word in words:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    return found


def _commands() -> Iterator[str]:
    yield "Every command has `--help`. Errors are one sentence, and the exit status is 1 (2: the command line itself)."
    yield from _of(group, ("hanse",))


def _of(command: click.Command, words: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(words))
    if isinstance(command, click.Group):
        if len(words) > 1:
            yield f"{'#' * min(len(words), 4)} {' '.join(words)}"
            yield inspect.cleandoc(command.help or "").replace("\b\n", "")
        for name in sorted(command.list_commands(context)):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _of(inner, (*words, name))
        return
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    yield f"{'#' * min(len(words), 4)} `{usage}`"
    yield inspect.cleandoc(command.help or "").replace("\b\n", "")
    records = [found for p in command.params if (found := p.get_help_record(context)) is not None]
    if records:
        yield _table(("option", "meaning"), ((f"`{_opts(name)}`", help) for name, help in records))


def _opts(text: str) -> str:
    return " ".join(text.split())


def _rest() -> Iterator[str]:
    yield (
        "What each route takes and who may call it; [rest.md](../rest.md) says what it gives and means. "
        "`GET /openapi.json` has the same for programs. Roles: O operator, D data owner, S data scientist, - nobody "
        "needs to log in."
    )
    schema = _openapi()
    for (method, path), roles in TABLE.items():
        route = schema["paths"].get(path, {}).get(method.lower())
        letters = {"operator": "O", "data_owner": "D", "data_scientist": "S"}
        who = " ".join(sorted(letters[str(role)] for role in roles)) or "-"
        yield f"## {method} `{path}` ({who})"
        if route is None:
            continue
        if route.get("description"):
            yield inspect.cleandoc(route["description"])
        rows = [_parameter(p) for p in route.get("parameters", ()) if p["in"] == "query"]
        body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        rows += _fields(schema, body) if body else []
        if rows:
            yield _table(("in", "name", "expected", "default"), rows)


def _openapi() -> dict[str, Any]:
    from hanse.store import Store

    with tempfile.TemporaryDirectory() as folder, Store(None, folder) as store:
        return dict(create_app(Coordinator(store)).openapi())


def _parameter(said: Mapping[str, Any]) -> tuple[str, str, str, str]:
    found = said["schema"]
    default = "required" if said.get("required") else f"`{_json(found.get('default'))}`"
    return ("query", f"`{said['name']}`", _expected(found), default)


def _fields(schema: Mapping[str, Any], body: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    while True:
        if "$ref" in body:
            body = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]
        elif "anyOf" in body:
            body = body["anyOf"][0]
        else:
            break
    needed = body.get("required", ())
    return [
        ("body", f"`{n}`", _expected(f), "required" if n in needed else f"`{_json(f.get('default'))}`")
        for n, f in body.get("properties", {}).items()
    ] or [("body", "", "an object", "")]


def _expected(said: Mapping[str, Any]) -> str:
    if "anyOf" in said:
        return " or ".join(_expected(one) for one in said["anyOf"])
    if "$ref" in said:
        return str(said["$ref"]).rpartition("/")[2]
    if "enum" in said:
        return " or ".join(f"`{value}`" for value in said["enum"])
    kind = str(said.get("type", "any"))
    if kind == "array":
        kind = f"list of {_expected(said.get('items', {}))}"
    low, high = said.get("minimum", said.get("minLength")), said.get("maximum", said.get("maxLength"))
    return kind + (f" from {low:g}" if low is not None else "") + (f" to {high:g}" if high is not None else "")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)
