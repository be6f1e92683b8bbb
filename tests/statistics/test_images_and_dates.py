"""Columns that are neither numbers nor text: what they are read as, and what they cannot be asked."""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pooled import OPEN, ask

import hanse
from hanse.errors import ConfigError, DataError, RunFailed
from hanse.experiment.analytics import FederatedAnalytics
from hanse.queries import make_item
from hanse.table import ColumnKind, Table

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 7, 3)).astype(np.uint8)
DATA: dict[str, Any] = {"scan": IMAGES, "x": np.arange(12.0), "y": np.arange(12.0) ** 2, "g": ["a", "b"] * 6}


def analytics(**more: Any) -> FederatedAnalytics:
    return hanse.simulate({"a": DATA}, policy=OPEN, workers=1).analytics(**more)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pixels_are_those_of_numpy(channels: int) -> None:
    images = np.ascontiguousarray(IMAGES[..., :channels])
    small = np.full((3, 2, 2, channels), 9, np.uint8)  # other sites may have other sizes
    with hanse.simulate({"a": {"scan": images}, "b": {"scan": small}}, policy=OPEN, workers=1) as there:
        found = there.analytics().fetch_stats(["mean", "std", "count"], ["scan"])
        shapes = there.analytics().value_counts()["scan[shape]"]
    assert sorted(found.values("mean")) == [f"scan[{c}]" for c in range(channels)]
    for channel in range(channels):
        pixels = np.concatenate([images[..., channel].reshape(-1), small[..., channel].reshape(-1)]).astype(float)
        assert found.values("count")[f"scan[{channel}]"] == len(pixels)
        assert found.values("mean")[f"scan[{channel}]"] == pytest.approx(pixels.mean(), rel=1e-12)
        assert found.values("std")[f"scan[{channel}]"] == pytest.approx(pixels.std(ddof=1), rel=1e-12)
    assert shapes == {f"5 x 7 x {channels}": 12, f"2 x 2 x {channels}": 3}


def test_pixels_beside_other_columns_are_an_error_and_not_nothing() -> None:
    by = analytics(by="g")
    for question in (
        lambda: by.mean(["scan"]),
        lambda: by.fetch_stats("histogram", ["scan"]),
        lambda: analytics().correlation(["scan[0]", "x"]),
        lambda: analytics().crosstab("scan[shape]", "g"),
        lambda: analytics(by="scan[shape]").mean(["x"]),
        lambda: analytics().t_test("scan[0]", "g"),
    ):
        with pytest.raises(ConfigError, match=re.escape("scan[") + ".*images"):
            question()
    with pytest.raises(DataError, match="scan"):  # who writes the question by hand
        ask({"a": DATA}, [make_item("mean", ["scan[0]"], {}, ["g"])])  # type: ignore[dict-item]
    with pytest.raises(hanse.errors.RunFailed, match="image"):
        analytics(where=[["scan", ">", 3]]).mean(["x"])


def test_all_columns_leave_images_out_where_they_cannot_be_asked() -> None:
    assert sorted(analytics().correlation()) == ["x", "y"]
    assert analytics(by="g").mean() == {"x": {"a": 5.0, "b": 6.0}, "y": {"a": 110 / 3, "b": 286 / 6}}
    rows = list(analytics(by="g").describe())
    assert {(row["column"], row["g"]) for row in rows} == {("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")}


def test_dates_are_read_to_the_microsecond_and_in_utc() -> None:
    text = ["1901-01-01", "1969-12-31 12:00", "2020-02-29 01:02:03.456789"] * 2
    naive = pd.DataFrame({"d": pd.to_datetime(text, format="mixed")})
    aware = pd.DataFrame({"d": naive["d"].dt.tz_localize("Europe/Berlin")})
    for frame in (naive, aware):
        days = (pd.to_datetime(frame["d"], utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
        with hanse.simulate({"a": frame}, policy=OPEN, workers=1) as there:
            found = there.analytics().fetch_stats(["max", "mean"], ["d"])
        assert found.values("max")["d"] == days.max()
        assert found.values("mean")["d"] == pytest.approx(days.mean(), rel=1e-12)
    column = Table.of({"d": [datetime.date(1960, 1, 1), None, datetime.date(1970, 1, 3)]})["d"]
    assert str(column.kind) == "date"
    assert column.values[[0, 2]].tolist() == [-3653.0, 2.0]
    assert np.isnan(column.values[1])


def test_groups_are_no_dates() -> None:
    data = {"x": np.arange(4.0), "d": [datetime.date(2000, 1, 1)] * 4}
    with pytest.raises(ConfigError, match="by is 'd', which is date"):
        hanse.simulate({"a": data}).analytics(by="d").mean(["x"])


def test_whole_numbers_that_are_no_float() -> None:
    with pytest.raises(DataError, match="column 'x'"):
        Table.of({"x": [10**400, 1]})


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "object"])
def test_durations_are_days_whatever_the_unit_that_a_data_frame_gives_them(unit: str) -> None:
    """They were nanoseconds under one pandas, and labels under another."""
    days = [datetime.timedelta(days=1.5), None, datetime.timedelta(days=3)]
    array = np.array(days, object) if unit == "object" else np.array(days, f"timedelta64[{unit}]")
    column = Table.of({"stay": array})["stay"]
    assert column.kind is ColumnKind.NUMERIC
    np.testing.assert_array_equal(column.values, [1.5, np.nan, 3.0])


def test_rows_are_chosen_by_dates_and_truths_as_people_write_them() -> None:
    """A date as text was compared with days as text, so != took every row, and < was refused."""
    rng = np.random.default_rng(0)
    day = np.datetime64("2023-01-01") + rng.integers(0, 400, 300).astype("m8[D]")
    frame = {"x": rng.normal(size=300), "day": day, "old": rng.random(300) < 0.5, "sex": ["f", "m"] * 150}
    federation = hanse.simulate({"a": frame})

    def mean(*where: list[Any]) -> float:
        return float(federation.analytics(where=where).mean(["x"])["x"])

    x, split = frame["x"], np.datetime64("2023-06-01")
    assert mean(["day", "<", "2023-06-01"]) == pytest.approx(x[day < split].mean())
    assert mean(["day", ">=", "2023-06-01T00:00:00+00:00"]) == pytest.approx(x[day >= split].mean())
    assert mean(["old", "==", "True"]) == pytest.approx(x[frame["old"]].mean())
    assert mean(["sex", "!=", "f"]) == pytest.approx(x[1::2].mean())


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (["day", "!=", "yesterday"], "holds dates; give one as"),
        (["x", "!=", "tall"], "holds numbers"),
        (["sex", ">", 3], "holds text, which is compared by"),
    ],
)
def test_what_cannot_be_compared_is_refused(where: list[Any], says: str) -> None:
    frame = {"x": np.arange(60.0), "day": [datetime.date(2023, 1, 1)] * 60, "sex": ["f", "m"] * 30}
    with pytest.raises(RunFailed, match=says):
        hanse.simulate({"a": frame}).analytics(where=[where]).mean(["x"])
