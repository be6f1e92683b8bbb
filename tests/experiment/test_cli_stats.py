"""``hanse stats`` against a real coordinator whose owners answer statistics at once."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import hanse
from experiment.federation import Living, living
from experiment.test_analytics_connected import standing
from hanse.cli import group
from hanse.errors import ConfigError, HanseError
from hanse.experiment import by_name
from hanse.experiment.cli_stats import REPORTS, stats, word
from hanse.experiment.listing import plain
from hanse.rough import Partial, Rough


def frame(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.normal(60, 9, rows),
            "days": rng.exponential(300, rows).round(),
            "died": (rng.random(rows) < 0.7).astype(int),
            "arm": rng.choice(["new", "old"], rows),
        }
    )


SITES = {"ulm": frame(300, 1), "bonn": frame(240, 2)}
POOLED = pd.concat(list(SITES.values()))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with living(tmp_path_factory.mktemp("coordinator"), SITES) as found:
        for name, hospital in found.hospitals.items():
            standing(hospital, "accept")
            found.coordinator.presence._transport.attach(name, hospital.handle)  # type: ignore[attr-defined]
        yield found


def call(real: Living, *arguments: str) -> Result:
    environment = {"HANSE_URL": real.url, "HANSE_TOKEN": real.tokens["scientist"]}
    result = CliRunner().invoke(group, ["stats", *arguments], env=environment)
    if isinstance(result.exception, HanseError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_there_is_a_command_for_each_statistic_with_its_arguments_by_name() -> None:
    context = click.Context(stats)
    assert stats.list_commands(context) == [*REPORTS, *map(word, by_name.offered())]
    for name in by_name.offered():
        command = stats.get_command(context, word(name))
        assert command is not None
        assert command.help
        options = {o for p in command.params for o in p.opts}
        from hanse.queries import statistic

        shown = statistic(name).shown
        assert {f"--{word(argument)}" for argument in shown.arguments} <= options
        assert not shown.roles or list(shown.roles) == [p.name for p in command.params[: len(shown.roles)]]


def test_a_number_per_column(real: Living) -> None:
    said = call(real, "mean", "age", "days").stdout
    assert "Statistics of 2 sites (bonn, ulm)" in said
    assert f"{POOLED['age'].mean():.4g}" in said
    told = json.loads(call(real, "mean", "age", "--json").stdout)
    assert told["statistics"]["mean"]["age"] == pytest.approx(POOLED["age"].mean(), rel=1e-12)
    assert told["nodes"] == ["bonn", "ulm"]
    grouped = json.loads(call(real, "mean", "age", "--by", "arm", "--json").stdout)
    assert grouped["statistics"]["mean"]["age"] == pytest.approx(POOLED.groupby("arm")["age"].mean().to_dict())
    chosen = json.loads(call(real, "mean", "age", "--where", "arm == new", "--json").stdout)
    assert chosen["statistics"]["mean"]["age"] == pytest.approx(grouped["statistics"]["mean"]["age"]["new"])


def test_tables_of_what_is_more_than_a_number(real: Living) -> None:
    said = call(real, "crosstab", "arm", "died").stdout
    assert "crosstab of arm, died" in said
    assert str(int(((POOLED["arm"] == "new") & (POOLED["died"] == 1)).sum())) in said
    assert "survival" in call(real, "kaplan_meier", "days", "died", "--level", "0.9").stdout
    assert "groups" in call(real, "t-test", "age", "--group", "arm").stdout
    quantiles = call(real, "quantile", "age", "--q", "0.25,0.75").stdout
    assert "25%" in quantiles
    assert "75%" in quantiles


def test_every_statistic_answers(real: Living) -> None:
    own = {"crosstab": ["arm", "died"], "kaplan-meier": ["days", "died"], "logrank": ["days", "died"]}
    own |= {"t-test": ["age"], "mann-whitney": ["age"]}
    for name in map(word, by_name.offered()):
        group_by = ["--group", "arm"] if name in ("logrank", "t-test", "mann-whitney", "smd") else []
        told = json.loads(call(real, name, *own.get(name, []), *group_by, "--json").stdout)
        assert told["statistics"], name


def test_counts_are_whole_numbers(real: Living) -> None:
    """They were printed as 121.000, and of many rows as 1.234e+04."""
    said = call(real, "count", "age").stdout
    assert str(len(POOLED)) in said.split()
    said = call(real, "crosstab", "arm", "died").stdout
    assert not re.search(r"\d\.0*\b", said.partition("\n\n")[2].partition("chi2")[0])
    assert plain(12_345.0) == plain(12_345) == "12345"
    assert plain(Rough(12_345.0, 12_340.0, 12_350.0)) == "≈12345"
    assert plain(Partial(12_345.0, missing={"ulm": "few rows"}, rows=12_400)) == "12345 of 12400 rows"
    assert str(Rough(1_234_567, 1_234_560, 1_234_570)) == "1234567 (1234560 to 1234570)"


def test_ranges_are_asked_for_with_their_columns(real: Living) -> None:
    told = json.loads(call(real, "mean", "age", "--range", "age", "0", "120", "--json").stdout)["statistics"]["mean"][
        "age"
    ]
    assert told == pytest.approx(POOLED["age"].mean())
    with pytest.raises(ConfigError, match=r"ranges: 'age' is \[120.0, 0.0\]; expected \[least, most\]"):
        call(real, "mean", "age", "--range", "age", "120", "0")
    with pytest.raises(ConfigError, match="no site has a column 'agee'"):
        call(real, "mean", "age", "--range", "agee", "0", "120")


def test_a_run_of_statistics_is_not_called_a_model(real: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was listed as xgboost, with no round yet of 1 planned, by every face."""
    call(real, "mean", "age")
    environment = {"HANSE_URL": real.url, "HANSE_TOKEN": real.tokens["scientist"]}

    def asked(*words: str) -> str:
        done = CliRunner().invoke(group, list(words), env=environment, input="n\n")
        return done.output

    run = json.loads(asked("run", "list", "--json"))[0]["session_id"]
    with hanse.connect(real.url, real.tokens["scientist"]) as federation:
        faces = [repr(federation.run(run)), asked("run", "list"), asked("run", "show", run), asked("run", "watch", run)]
    monkeypatch.setattr("hanse.coordinator.cli.opened", lambda *where: contextlib.nullcontext(real.coordinator.store))
    faces.append(CliRunner().invoke(group, ["coordinator", "runs"], catch_exceptions=False).output)
    for said in faces:
        assert "statistics" in said
        assert not re.search(r"xgboost|rounds|of 1\b|\d/1\b", said), said


def test_overview_and_table_one_and_pictures(real: Living, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "overview.png"
    said = call(real, "overview", "--plot", str(file))
    assert "arm" in said.stdout
    assert file.read_bytes()[1:4] == b"PNG"
    curve = tmp_path / "curve.png"
    call(real, "kaplan-meier", "days", "died", "--by", "arm", "--plot", str(curve))
    assert curve.read_bytes()[1:4] == b"PNG"
    assert "smd new vs old" in call(real, "table-one", "--by", "arm").stdout
    assert json.loads(call(real, "table-one", "--by", "arm", "--json").stdout)["groups"] == ["new", "old"]


def test_what_does_not_fit_is_said(real: Living) -> None:
    for words, why in (
        (["mean", "height"], "no site has a column 'height'"),
        (["mean", "arm"], "mean cannot be asked of 'arm'"),
        (["mean", "age", "--where", "age about 60"], "write for example"),
        (["kaplan-meier", "days", "died", "--level", "2"], "level is 2"),
    ):
        with pytest.raises(ConfigError, match=why):
            call(real, *words)
