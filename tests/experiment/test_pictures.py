"""Pictures of statistics: what is not known looks like nothing that is."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

import hanse
from hanse.experiment.pictures import band, steps, svg
from hanse.experiment.pictures_figure import _picture
from hanse.presentation import Bins, StepCurve, StepCurves

HALF_KNOWN = Bins("rows per bin", [0.0, 1.0, 2.0, 3.0], [20, None, 0], [False, True, False])
ENDS = StepCurves("S(t)", {"": StepCurve([1.0, 2.0, 3.0], [0.5, None, 0.25], [0.4, None, 0.1], [0.6, 0.5, 0.4])})


def test_a_bin_that_is_kept_back_does_not_look_like_an_empty_one() -> None:
    bins = re.findall(r"<rect [^>]*height='([\d.]+)' ([^>]*)><title>([^<]*)", svg(HALF_KNOWN))
    assert [float(height) > 0 for height, _, _ in bins] == [True, True, False]
    assert ["dash" in look for _, look, _ in bins] == [False, True, False]
    assert bins[1][2] == "1 to 2: kept back"
    assert bins[2][2] == "2 to 3: 0"


def test_so_in_a_figure() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.add_subplot()
    _picture(axes, HALF_KNOWN, False)
    _picture(axes, ENDS, False)
    assert [bar.get_fill() for bar in axes.patches] == [True, False, True]
    assert [bar.get_height() for bar in axes.patches] == [20, 20, 0]


def test_a_curve_ends_where_it_is_not_known() -> None:
    drawn = svg(ENDS)
    lines = [points.split() for points in re.findall(r"<polyline points='([^']*)'", drawn)]
    assert len(lines) == 2  # not one that goes on at its last value
    assert lines[0][-1].split(",")[1] == lines[0][-2].split(",")[1]
    assert len(drawn.split("<polygon")) == 3


def test_of_a_query_with_small_bins() -> None:
    """Of a real answer: the caption says what the dashes mean."""
    rng = np.random.default_rng(1)
    sites = {name: pl.DataFrame({"x": rng.normal(size=60)}) for name in "ab"}
    said = hanse.simulate(sites).analytics().fetch_stats_with_args({"x": {"histogram": {"bins": 8}}})
    html = said._repr_html_()
    assert "kept back</title>" in html
    assert "dashed ones are not known" in html


def test_a_band_ends_where_one_of_its_ends_is_no_number() -> None:
    """NaN at one end only broke one side into two pieces and the other not: there was no picture."""
    nan = float("nan")
    curve = StepCurve([1.0, 2.0, 3.0, 4.0], [0.9, 0.8, 0.7, 0.6], [0.8, nan, 0.6, 0.5], [1.0, 0.9, 0.8, None])
    assert band(curve) == ([0.8, None, 0.6, None], [1.0, None, 0.8, None])
    assert steps(StepCurves("S", {"": curve})).count("<polygon") == 2
