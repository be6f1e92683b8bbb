"""``hanse run propose``, ``analyze`` and ``settings``: what a run is to be, said in a file or on the command line."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.experiment.cli_parts import connected, json_option, listed

if TYPE_CHECKING:
    from hanse.experiment.connection import Connection


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a command takes a run's settings; :func:`gathered` reads them."""
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
    *,
    config: str | None = None,
    model: str | None = None,
    target: str | None = None,
    rounds: int | None = None,
    features: str | None = None,
    tags: tuple[str, ...] = (),
    asked: tuple[str, ...] = (),
    name: str | None = None,
    purpose: str | None = None,
    more: tuple[str, ...] = (),
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
    if name == "plan" and text.strip().endswith(".py"):
        return text.strip()  # the file is read where the settings are checked
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
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ConfigError(f"{path} is not {kind}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold an object of settings")
    return found


@click.command()
@setting_options
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


@click.command()
@setting_options
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


@click.command()
@click.option("--installed", is_flag=True, help="What is installed here; no coordinator is asked.")
@json_option
@connected
def settings(here: Connection | None, as_json: bool) -> None:
    """Show every setting of a run: of every one, and of each model, algorithm and selection that there is."""
    from hanse.run_schema import run_schema

    found = run_schema() if here is None else here.call("GET", "/api/config/schema")
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
