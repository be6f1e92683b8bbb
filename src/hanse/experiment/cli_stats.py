"""``hanse stats``: every statistic as a command, made of what the statistic says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hanse.experiment.cli_parts import connected, json_option
from hanse.terminal import visible

if TYPE_CHECKING:
    from hanse.experiment.analytics import FederatedAnalytics
    from hanse.experiment.connection import Connection

_CONDITION = re.compile(r"(.+?)\s*(==|!=|<=|>=|<|>)\s*(.+)")
REPORTS = {
    "overview": "All columns: counts, means, quantiles, labels and histograms.",
    "noisy": "Statistics with differential privacy: each value with noise, and its interval.",
    "table-one": "Groups or sites side by side, with standardised differences.",
}


class StatisticsGroup(click.Group):
    """One command for each statistic that there is; they are looked up when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The reports, and every statistic that people ask for."""
        from hanse.experiment.by_name import offered

        return [*REPORTS, *(word(name) for name in offered())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a report or statistic, made of what its file says; None where there is none."""
        if cmd_name == "overview":
            return _command(cmd_name, REPORTS[cmd_name], _overview, [_several])
        if cmd_name == "noisy":
            return _command(cmd_name, REPORTS[cmd_name], _noisy, _NOISY)
        if cmd_name == "table-one":
            return _command(cmd_name, REPORTS[cmd_name], _table_one, [_several, *_TABLE_ONE])
        if cmd_name not in self.list_commands(ctx):
            return None
        return _statistic(cmd_name.replace("-", "_"))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Takes ``kaplan_meier`` for ``kaplan-meier``."""
        return super().resolve_command(ctx, [word(args[0]), *args[1:]])


def word(name: str) -> str:
    """A name as it stands on a command line."""
    return name.replace("_", "-")


@click.group(cls=StatisticsGroup)
def stats() -> None:
    """Ask for statistics over all sites: what a pooled data frame would say."""


# ---------------------------------------------------------------- commands from statistics

_several = click.Argument(["columns"], nargs=-1, metavar="[COLUMN]...")
_NOISY: list[click.Parameter] = [
    click.Argument(["question"]),
    click.Option(["--epsilon"], default=1.0, show_default=True, help="Of the whole question."),
    click.Option(["--delta"], default=1e-5, show_default=True, help="Of the whole question."),
    click.Option(
        ["--mode"],
        type=click.Choice(["local", "distributed", "central"]),
        default="local",
        show_default=True,
        help="Who adds the noise: each node, all of a secure sum together, the coordinator.",
    ),
]
_TABLE_ONE = [click.Option(["--compare"], type=click.Choice(["rest", "pairs"]), help="Each group against what.")]


def _statistic(name: str) -> click.Command:
    from hanse.queries import statistic

    shown, doc = statistic(name).shown, statistic(name).doc
    columns: list[click.Parameter] = [click.Argument([role], metavar=role.upper()) for role in shown.roles]
    options = [
        click.Option([f"--{word(argument)}", argument], metavar="VALUE", help=f"{help[0].upper()}{help[1:]}.")
        for argument, help in shown.arguments.items()
    ]

    def ask(analytics: FederatedAnalytics, **given: Any) -> Any:
        told = {key: _value(text) for key, text in given.items() if key in shown.arguments and text is not None}
        named = [given[role] for role in shown.roles] or list(given["columns"]) or None
        return analytics.ask(name, named, told)

    return _command(word(name), f"{doc[0].upper()}{doc[1:]}.", ask, [*(columns or [_several]), *options])


def _overview(analytics: FederatedAnalytics, columns: Sequence[str]) -> Any:
    return analytics.overview(list(columns) or None)


def _noisy(analytics: FederatedAnalytics, question: str, epsilon: float, delta: float, mode: str) -> Any:
    from hanse.errors import ConfigError

    try:
        asked = json.loads(question)
    except ValueError as error:
        example = '{"age": {"mean": {"range": [0, 120]}}}'
        raise ConfigError(f"the question is no JSON ({error}); write for example '{example}'") from None
    return analytics.noisy(asked, epsilon, delta, mode)


def _table_one(analytics: FederatedAnalytics, columns: Sequence[str], compare: str | None) -> Any:
    by = analytics.by if isinstance(analytics.by, str) else next(iter(analytics.by), None)
    return analytics.table_one(by, compare, list(columns) or None)


def _command(name: str, help: str, ask: Callable[..., Any], parameters: Sequence[click.Parameter]) -> click.Command:
    """A command that asks and shows; ``ask`` gets the analytics and the values of ``parameters``."""

    @click.option("--tag", "tags", multiple=True, help="Of the datasets that carry it; repeatable.")
    @click.option("--node", "asked", multiple=True, help="Ask this node; repeatable. Default: all that fit.")
    @click.option("--by", multiple=True, help="By the labels of this column; at most twice.")
    @click.option("--where", "conditions", multiple=True, metavar="'COLUMN OP VALUE'", help="Of these rows only.")
    @click.option(
        "--range",
        "ranges",
        multiple=True,
        type=(str, float, float),
        metavar="COLUMN LEAST MOST",
        help="Between which numbers its values are: it bounds what sites keep back. Repeatable.",
    )
    @click.option("--all-nodes", is_flag=True, help="Fail where a node fails, rather than to go on without it.")
    @click.option("--per-node", is_flag=True, help="Of each node too, where its owner lets it be shown alone.")
    @click.option(
        "--gathering",
        default="auto",
        help="secure: nobody sees a single node's part; the minimum of rows holds on the total where owners say so. "
        "auto: where they say so, else plain.",
    )
    @click.option("--purpose", default="", help="What for; the data owners read it.")
    @click.option("--plot", type=click.Path(dir_okay=False), help="Write the picture into this file (PNG, PDF, SVG).")
    @json_option
    @connected
    def run(
        here: Connection,
        tags: tuple[str, ...],
        asked: tuple[str, ...],
        by: tuple[str, ...],
        conditions: tuple[str, ...],
        ranges: tuple[tuple[str, float, float], ...],
        all_nodes: bool,
        per_node: bool,
        gathering: str,
        purpose: str,
        plot: str | None,
        as_json: bool,
        **given: Any,
    ) -> None:
        from hanse.experiment.analytics import FederatedAnalytics

        where = [_condition(text) for text in conditions]
        require = "all" if all_nodes else "any"
        known = {column: ends for column, *ends in ranges}
        of = (tags, list(asked) or None, by, where, require, per_node, purpose, gathering)
        analytics = FederatedAnalytics(here, *of, ranges=known)
        result = ask(analytics, **given)
        if plot:
            drawn = result.plot()
            drawn.savefig(plot, dpi=160)
            click.echo(f"{Path(plot)}", err=True)
        told = json.dumps(result.to_json(), ensure_ascii=False, indent=2) if as_json else visible(repr(result))
        click.echo(told)

    made: click.Command = click.command(name, help=help)(run)
    made.params = [*parameters, *made.params]
    return made


def _value(text: str) -> Any:
    """A number, a list of numbers or of texts with commas between, or the text.

    >>> _value("0.5"), _value("0.25,0.75"), _value("new, old"), _value("arm"), _value("true")
    (0.5, [0.25, 0.75], ['new', 'old'], 'arm', True)
    """
    if "," in text and not text.lstrip().startswith(("[", "{", '"')):
        return [_value(part.strip()) for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _condition(text: str) -> list[Any]:
    """``age >= 60`` as column, operation and value.

    >>> _condition("age >= 60"), _condition("sex==f")
    (['age', '>=', 60], ['sex', '==', 'f'])
    """
    from hanse.errors import ConfigError

    found = _CONDITION.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--where {text!r} is no condition; write for example --where 'age >= 60'")
    return [found[1].strip(), found[2], _value(found[3].strip())]
