"""The command ``hanse``. Each group of commands loads only when it is used, so ``--help`` is quick."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

import hanse
from hanse.errors import HanseError
from hanse.terminal import line

_GROUPS = {
    "coordinator": ("hanse.coordinator.cli:coordinator", "Run the coordinator of a federation."),
    "node": ("hanse.node.cli:node", "Run a node beside an institution's data."),
    "policy": ("hanse.coordinator.cli_policy:policy", "Try and serve policies written in Cedar."),
    "network": ("hanse.coordinator.cli_network:network", "Have a network prefer what a federation sends."),
    "container": ("hanse.container:container", "Start what a container is for."),
    "run": ("hanse.experiment.cli:run", "Propose, watch and fetch runs."),
    "flower": ("hanse.experiment.cli_flower:flower", "Run a Flower app under the approvals of data owners."),
    "stats": ("hanse.experiment.cli_stats:stats", "Ask for statistics over all sites."),
    "login": ("hanse.experiment.cli:login", "Remember a coordinator's address and your token."),
    "logout": ("hanse.experiment.cli:logout", "Forget a coordinator's address and your token."),
    "nodes": ("hanse.experiment.cli:nodes", "Show the nodes of the federation."),
    "events": ("hanse.experiment.cli:events", "Show what happened in the federation."),
    "audit": ("hanse.experiment.cli_audit:audit", "Check the evidence of a run, without any server."),
    "privacy": ("hanse.experiment.cli_privacy:privacy", "Plan how much noise a run takes, and audit it."),
    "probe": ("hanse.experiment.cli_probe:probe", "Measure what a round costs in this federation."),
    "bootstrap": ("hanse.experiment.cli_bootstrap:bootstrap", "Write a project that runs an experiment."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS:
            return None
        module, name = _GROUPS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in _GROUPS.items()])


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(hanse.__version__, prog_name="hanse")
def group() -> None:
    """Hanse: learn together from data that may not be pooled."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; an error of Hanse is a sentence and exit status 1, not a traceback.

    A disk that is full or does not answer is said in a sentence, too.

    Args:
        arguments: what is typed after ``hanse``; None: what this process was started with.
    """
    try:
        group(arguments, prog_name="hanse", standalone_mode=False)
    except click.exceptions.Abort:
        raise SystemExit(130) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except HanseError as error:
        click.echo(f"hanse: {line(error.message)}", err=True)
        raise SystemExit(1) from None
    except Exception as error:
        from hanse.disk_faults import disk_fault

        if not (fault := disk_fault(error)):
            raise
        where = getattr(error, "filename", None)
        click.echo(f"hanse: {fault}{f' ({where})' if where else ''}: mend that, and run this again", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
