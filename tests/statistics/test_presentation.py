"""Statistics show themselves: their arguments, rows, tables and pictures stand in their own files."""

from __future__ import annotations

import ast
import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hanse
import hanse.statistics
from hanse import registry
from hanse.errors import ConfigError
from hanse.experiment import by_name, drawing, pictures_figure
from hanse.experiment.federation import Federation
from hanse.experiment.listing import Listing
from hanse.presentation import Bars
from hanse.queries import statistic
from hanse.rough import Partial, Rough

NAMES = registry.names("statistics")
ROOM = Path(hanse.__file__).parent / "experiment"
REPORTS = {"table_one.py", "table_one_parts.py"}  # a report is made of certain statistics

SPREAD = '''"""The distance of the largest from the smallest count of a label."""

from hanse.presentation import Bars, Shown
from hanse.queries import LABELS, Statistic, same


def final(arrays, options, known):
    counts = known[0]["counts"][:-1]
    return {"least": int(counts.min()), "most": int(counts.max())}


STATISTIC = Statistic(
    doc="counts of the rarest and the commonest label",
    kinds=LABELS,
    needs=lambda item: (same(item, "value_counts"),),
    final=final,
    scalar=False,
    shown=Shown(pictures=lambda options, values: [Bars("rows", value, group) for group, value in values.items()]),
)
'''


def survival(seed: int = 0, rows: int = 400) -> Federation:
    rng = np.random.default_rng(seed)
    return hanse.simulate(
        {
            site: {
                "days": rng.exponential(300, rows).round(),
                "died": (rng.random(rows) < 0.7).astype(int),
                "arm": np.where(rng.random(rows) < 0.5, "new", "old"),
            }
            for site in ("a", "b", "c")
        }
    )


def test_no_file_of_the_room_knows_a_statistic_by_name() -> None:
    plain_words = {
        "cells",
        "count",
        "sum",
        "min",
        "max",
        "mean",
        "std",
        "missing",
        "levels",
    }  # mean other things as well
    for path in sorted(ROOM.glob("*.py")):
        tree = ast.parse(path.read_text())
        docstrings = {ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        known = (texts - docstrings) & (set(NAMES) - plain_words)
        assert not known or path.name in REPORTS, f"{path.name} knows {', '.join(sorted(known))}"


@pytest.mark.parametrize("name", by_name.offered())
def test_the_arguments_that_are_shown_are_those_that_it_takes(name: str) -> None:
    stat = statistic(name)
    with pytest.raises(ConfigError) as caught:
        stat.check({"no such argument": 1})
    taken = str(caught.value).partition("known are ")[2]
    assert set(taken.replace("none", "").split(", ")) - {""} == set(stat.shown.arguments)
    assert len(stat.shown.roles) in (0, stat.columns)
    assert stat.doc in repr(by_name.ByName(name, lambda *_: None))


def test_a_call_that_does_not_fit_says_what_fits() -> None:
    analytics = survival().analytics()
    with pytest.raises(ConfigError, match=r"missing a required argument: 'event'.*kaplan_meier\(time, event"):
        analytics.kaplan_meier("days")
    with pytest.raises(AttributeError, match="no statistic 'modus'; known are correlation, count"):
        analytics.modus()
    assert list(inspect.signature(analytics.quantile).parameters)[:2] == ["q", "dataset_schema"]
    assert {"kaplan_meier", "mean", "table_one"} <= set(dir(analytics))
    assert "the column whose labels make the groups" in str(analytics.t_test.__doc__)


def test_survival_by_group_is_drawn_as_one_picture() -> None:
    analytics = survival().analytics(by="arm")
    result = analytics.ask("kaplan_meier", ["days", "died"])
    [(title, picture, _)] = result.pictures()
    assert title == "kaplan_meier of days, died by arm"
    assert set(picture.curves) == {"new", "old"}
    page = result._repr_html_()
    assert page.count("<polyline") == 2
    assert page.count("<polygon") == 2
    assert drawing.BLUE in page
    assert drawing.ORANGE in page
    assert ">new<" in page
    assert ">old<" in page
    pytest.importorskip("matplotlib")
    [axes] = result.plot().axes
    assert {line.get_label() for line in axes.lines} == {"new", "old"}


def test_bars_of_numbers_that_are_not_sure_are_lighter_and_say_so() -> None:
    values = {
        "sure": 400.0,
        "unsure": Rough(394, 394, 517),
        "nobody knows": Partial(5, missing={"ulm": "few rows"}, rows=5),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody compares them for whoever looks
        drawn = drawing.bars(values)
        pytest.importorskip("matplotlib")
        figure = pictures_figure.draw("", [("rows", Bars("rows", values), False)], Listing([]))
    assert drawn.count("fill-opacity='0.4'") == 2
    assert ">400<" in drawn
    assert ">≈394<" in drawn
    assert ">5 of 5 rows<" in drawn
    assert "394 (394 to 517)" in drawn
    assert "without ulm" in drawn
    [axes] = figure.axes
    assert [bar.get_alpha() for bar in axes.patches] == [0.4, 0.4, 0.82]
    [line] = axes.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([394, 517], [1, 1])


def test_labels_that_are_all_kept_back_are_drawn_as_that_and_a_long_title_is_not_cut_off() -> None:
    words = "Statistics of 4 sites: cleveland, hungary, switzerland, va-long-beach (simulation)"
    figure = pictures_figure.draw(words, [("rows", Bars("rows", {}), False)], Listing([]))
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == ["kept back"]
    assert not len(axes.get_xticks())  # a scale of nothing went from -0.04 to 0.04
    figure.draw_without_rendering()
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1


def test_a_quantile_of_which_nothing_is_told_makes_no_column_of_its_own() -> None:
    rng = np.random.default_rng(0)
    sites = {
        name: {"x": rng.normal(size=60), "y": rng.normal(size=9).tolist() + [None] * 51} for name in ("ulm", "bonn")
    }
    told = hanse.simulate(sites).analytics().describe()
    assert [row["column"] for row in told] == ["x", "y"]
    assert "50%" in told.columns
    assert "quantile" not in told.columns


def test_what_is_more_than_a_number_has_a_table() -> None:
    analytics = survival().analytics()
    [(name, table)] = analytics.ask("crosstab", ["arm", "died"]).tables()
    assert name == "crosstab of arm, died"
    assert table.columns == ["arm", "0", "1"]
    [(_, curve)] = analytics.ask("kaplan_meier", ["days", "died"]).tables()
    assert curve.columns == ["time", "survival", "lower", "upper", "at risk", "events"]
    [(_, test)] = analytics.ask("t_test", ["days"], {"group": "arm"}).tables()
    assert len(test) == 1
    assert {"t", "p", "groups"} <= set(test.columns)
    [(_, matrix)] = analytics.ask("correlation").tables()
    assert [row["column"] for row in matrix] == ["days", "died"]


def test_dates_are_shown_as_dates() -> None:
    rng = np.random.default_rng(1)
    days = np.datetime64("2020-03-01", "D") + rng.integers(0, 300, 200).astype("timedelta64[D]")
    import polars

    frame = polars.DataFrame({"came": days, "x": rng.normal(size=200)})
    analytics = hanse.simulate({"a": frame[:100], "b": frame[100:]}).analytics()
    [came] = [row for row in analytics.describe() if row["column"] == "came"]
    assert came["mean"].startswith("2020-0")
    assert came["50%"].startswith("2020-0")
    assert isinstance(came["std"], float)  # so many days
    assert isinstance(analytics.mean("came")["came"], float)  # for computing


def test_missing_values_that_were_kept_back_are_not_counted_as_none() -> None:
    """33 were told where 42 were missing."""

    def described(*gone: int) -> Any:
        sites = {f"s{i}": {"x": [None] * n + [float(k) for k in range(40)]} for i, n in enumerate(gone)}
        with hanse.simulate(sites) as federation:
            [row] = federation.analytics().describe()
        return row["missing"]

    assert repr(described(33, 9)) == "34 (34 to 42)"
    assert described(9, 9) == "2 or more"
    assert described(33, 11) == 44


def test_ones_own_statistic_is_a_method_with_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "own" / "statistics"
    folder.mkdir(parents=True)
    (folder / "extremes_of_labels.py").write_text(SPREAD)
    monkeypatch.setattr(hanse.statistics, "__path__", list(hanse.statistics.__path__))
    monkeypatch.setattr(registry, "_EXTENSIONS", list(registry._EXTENSIONS))
    registry.extend(tmp_path / "own")
    result = survival().analytics().ask("extremes_of_labels", "arm")
    assert "<svg" in result._repr_html_()
    value = survival().analytics().extremes_of_labels("arm")["arm"]
    assert 0 < value["least"] < value["most"]
