"""The catalogue: what it keeps, what it lets out, and what it notices."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import hanse
from hanse import readers
from hanse.errors import ConfigError, Conflict, DataError, NotFound
from hanse.node.catalogue import Catalogue
from hanse.node.contents import version_of
from hanse.node.mock import make_mock
from hanse.queries import Known, Owner, Values, statistic
from hanse.readers import csv as csv_reader
from hanse.summary import summary
from hanse.table import Column, ColumnKind, Table
from tests.examples import examples
from tests.waiting import PATIENCE

CSV = "age,sex,ill\n" + "".join(f"{40 + i},{'fm'[i % 2]},{'true' if i % 3 else 'false'}\n" for i in range(27))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "private" / "Visits 2024.csv"
    path.parent.mkdir()
    path.write_text(CSV)
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "home")


def test_add_get_list_find_remove(catalogue: Catalogue, data: Path) -> None:
    dataset = catalogue.add(data, tags=["heart", "#2024"])
    assert dataset.name == "visits-2024"
    assert dataset.schema == {"age": "numeric", "sex": "categorical", "ill": "boolean"}
    assert (dataset.rows, dataset.kind, dataset.tags) == (27, "tabular", ("#2024", "heart"))
    assert dataset.version == version_of(data)
    assert catalogue.get("visits-2024") == dataset
    catalogue.add(data, "other", ["heart"])
    assert [d.name for d in catalogue.list()] == ["other", "visits-2024"]
    assert [d.name for d in catalogue.find(["heart"])] == ["other", "visits-2024"]
    assert [d.name for d in catalogue.find(["heart", "#2024"])] == ["visits-2024"]
    assert catalogue.find(["lung"]) == []
    with pytest.raises(Conflict, match="'other' already"):
        catalogue.add(data, "other")
    catalogue.remove("other")
    with pytest.raises(NotFound, match="no dataset 'other'"):
        catalogue.get("other")
    with pytest.raises(NotFound):
        catalogue.remove("other")
    assert data.read_text() == CSV
    assert catalogue.load(dataset).rows == 27
    assert [d.name for d in Catalogue(catalogue.home).list()] == ["visits-2024"]


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a b", "a/b", "../a", "a\n", "é", "a" * 65])
def test_bad_names_are_refused(catalogue: Catalogue, data: Path, name: str) -> None:
    with pytest.raises(DataError, match="dataset name"):
        catalogue.add(data, name)
    assert catalogue.list() == []


def test_bad_arguments_leave_nothing_behind(catalogue: Catalogue, data: Path) -> None:
    for arguments, error in (
        ({"tags": ["two words"]}, DataError),
        ({"schema": {"sex": "numeric"}}, DataError),
        ({"schema": {"absent": "numeric"}}, DataError),
        ({"reader_options": {"nonsense": 1}}, ConfigError),
        ({"reader_options": {"separator": object()}}, ConfigError),
        ({"public_categories": {"age": ["old"]}}, DataError),
        ({"mock": data.parent / "absent.csv"}, DataError),
    ):
        with pytest.raises(error) as caught:
            catalogue.add(data, **arguments)  # type: ignore[arg-type]
        assert str(data.parent) not in str(caught.value)
    with pytest.raises(DataError, match="there is no file"):
        catalogue.add(data.parent / "absent.csv")
    assert catalogue.list() == []


def test_what_leaves_the_node_has_no_path_and_no_exact_count(catalogue: Catalogue, data: Path) -> None:
    dataset = catalogue.add(data, mock=data, public_categories={"sex": ["f", "m"]})
    public = dataset.public()
    assert public == {
        "name": "visits-2024",
        "tags": [],
        "kind": "tabular",
        "columns": dict(dataset.schema),
        "metadata_columns": [],
        "categories": {"sex": ["f", "m"]},
        "rows": 20,
        "most_rows": 29,
        "version": dataset.version,
        "has_mock": True,
    }
    for text in (json.dumps(public), repr(dataset), str(dataset)):
        assert "private" not in text
        assert str(data.parent) not in text
    assert dataset.public(min_count=28)["rows"] is None
    assert dataset.public(min_count=28)["most_rows"] == 27
    assert dataset.public(min_count=27)["most_rows"] == 53
    assert dataset.public(min_count=27)["rows"] == 27
    with pytest.raises(ConfigError):
        dataset.public(min_count=0)


def test_changed_data_are_noticed(catalogue: Catalogue, data: Path) -> None:
    dataset = catalogue.add(data, "visits")
    status = data.stat()
    data.write_text(CSV.replace("40,", "41,"))  # the same length, and the old time on top
    os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match="has changed since it was registered; run `hanse node dataset refresh"):
        catalogue.load("visits")
    fresh = catalogue.refresh("visits")
    assert fresh.version != dataset.version
    assert catalogue.load("visits")["age"].values[0] == 41
    with pytest.raises(NotFound, match="another version"):
        catalogue.load(dataset)
    data.unlink()
    with pytest.raises(DataError, match="is it still there") as caught:
        catalogue.load("visits")
    assert str(data.parent) not in str(caught.value)


def test_the_same_bytes_with_new_times_are_the_same_version(
    catalogue: Catalogue, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = catalogue.add(data, "visits")
    os.utime(data)
    assert catalogue.load(dataset).rows == 27
    monkeypatch.setattr("hanse.node.catalogue.version_of", lambda path: pytest.fail("hashed again"))
    assert catalogue.load(dataset).rows == 27


def test_data_that_change_while_they_are_read(
    catalogue: Catalogue, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(data, "visits")

    def meddling(read: Any) -> Any:
        def meddle(path: Path, **options: Any) -> Any:
            found = read(path, **options)
            data.write_text(CSV + "1,f,no\n")
            return found

        return meddle

    for name in ("read", "survey"):
        monkeypatch.setattr(readers, name, meddling(getattr(readers, name)))
    with pytest.raises(DataError, match="has changed"):
        catalogue.load("visits")
    data.write_text(CSV)
    with pytest.raises(DataError, match="changes while it is read"):
        catalogue.refresh("visits")


def test_a_refresh_keeps_to_the_declared_schema(catalogue: Catalogue, data: Path) -> None:
    catalogue.add(data, "visits", schema={"age": "numeric"})
    data.write_text("age,sex,ill\nold,f,no\n")
    with pytest.raises(DataError, match="row 1 .line 2., column 'age': found text"):
        catalogue.refresh("visits")
    assert catalogue.get("visits").rows == 27


def test_folders_are_hashed_by_name_and_content(catalogue: Catalogue, tmp_path: Path) -> None:
    root = tmp_path / "images"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        Image.new("L", (5, 3), 9).save(root / label / "1.png")
    dataset = catalogue.add(root)
    assert (dataset.kind, dataset.rows, dataset.image_shape) == ("images", 2, (3, 5, 1))
    assert catalogue.load("images")["image"].values.shape == (2, 3, 5, 1)
    assert catalogue.mock("images", 4)["image"].values.shape == (4, 3, 5, 1)
    (root / ".hidden").write_text("x")
    assert version_of(root) == dataset.version
    (root / "b" / "1.png").rename(root / "b" / "2.png")
    assert version_of(root) != dataset.version
    with pytest.raises(DataError, match="has changed"):
        catalogue.load("images")
    (root / "b" / "2.png").rename(root / "b" / "1.png")
    assert catalogue.load("images").rows == 2


def test_profiles_keep_their_metadata_columns_and_options(catalogue: Catalogue, tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    root.mkdir()
    (root / "X_profiles.tsv").write_text("clade_name\ts1\ts2\nd__B\t1\t0\nd__B___g__X\t1\t0\n")
    (root / "X_metadata.tsv").write_text("Name\tdisease\ns2\tIBS\ns1\tHealthy\n")
    dataset = catalogue.add(root, reader_options={"rank": "g"})
    assert (dataset.kind, dataset.metadata_columns) == ("profile", ("Name", "disease"))
    table = catalogue.load("cohort")
    assert table.names == ("Name", "disease", "d__B___g__X")
    found = summary(table, "disease", 1, dataset.metadata_columns)
    assert found["features"] == ["d__B___g__X"]
    assert found["metadata_columns"] == ["Name", "disease"]
    assert (found["data_sparsity"], found["feature_coverage"]) == (0.5, 0.5)
    assert found["class_distribution"] == {"Healthy": 1, "IBS": 1}


def test_files_are_registered_in_batches_and_progress_is_told(
    catalogue: Catalogue, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = catalogue.add(data, "whole")
    monkeypatch.setattr(csv_reader, "CHUNK", 50)
    told: list[float] = []
    parts = catalogue.add(data, "parts", note=told.append)
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == 1.0
    assert (parts.rows, parts.schema, parts.version) == (whole.rows, whole.schema, whole.version)


# ---------------------------------------------------------------- the file


def test_a_damaged_register_is_neither_used_nor_overwritten(catalogue: Catalogue, data: Path) -> None:
    file = catalogue.home / "catalogue.json"
    for text in ("", "{", "[]", '{"format": 1}', '{"format": 1, "datasets": [{"name": "x"}]}', '{"format": 9}'):
        file.write_text(text)
        for act in (catalogue.list, lambda: catalogue.add(data), lambda: catalogue.remove("x")):
            with pytest.raises(DataError, match=r"catalogue\.json (is damaged|has format)"):
                act()
        assert file.read_text() == text


def test_a_write_that_fails_leaves_the_old_register(
    catalogue: Catalogue, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(data, "one")

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            catalogue.add(data, "two")
    assert [d.name for d in catalogue.list()] == ["one"]
    assert sorted(p.name for p in catalogue.home.iterdir()) == ["catalogue.json", "catalogue.lock"]


def test_paths_are_for_the_owner_only(catalogue: Catalogue, data: Path) -> None:
    catalogue.add(data, "one")
    assert catalogue.home.stat().st_mode & 0o077 == 0
    assert (catalogue.home / "catalogue.json").stat().st_mode & 0o077 == 0


def test_concurrent_writers_lose_nothing(catalogue: Catalogue, data: Path) -> None:
    errors: list[BaseException] = []

    def add(worker: int) -> None:
        try:
            for i in range(4):
                Catalogue(catalogue.home).add(data, f"w{worker}-{i}")
        except BaseException as error:
            errors.append(error)

    code = (
        "import sys; from pathlib import Path; from hanse.node.catalogue import Catalogue\n"
        "for i in range(4): Catalogue(Path(sys.argv[1])).add(sys.argv[2], f'p-{i}')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(catalogue.home), str(data)])
    threads = [threading.Thread(target=add, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait(PATIENCE) == 0
    assert errors == []
    assert len(catalogue.list()) == 20


def test_a_killed_writer_leaves_no_lock(catalogue: Catalogue, data: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from hanse.node.catalogue import Catalogue\n"
        "with Catalogue(Path(sys.argv[1]))._changing(): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(catalogue.home)], check=False, timeout=PATIENCE)
    assert done.returncode == -9
    assert catalogue.add(data, "after").name == "after"


def test_importing_the_catalogue_is_light() -> None:
    code = (
        "import sys, hanse.node.catalogue\n"
        "print(*sorted({'polars', 'PIL', 'sklearn', 'torch', 'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip() == ""


# ---------------------------------------------------------------- mock views


def test_a_mock_has_the_shape_and_nothing_of_the_data(catalogue: Catalogue, data: Path) -> None:
    catalogue.add(data, "visits", public_categories={"sex": ["f", "m", "x"]})
    mock = catalogue.mock("visits")
    assert (mock.rows, mock.schema()) == (20, catalogue.get("visits").schema)
    assert mock["sex"].categories == ("f", "m", "x")
    assert set(mock["ill"].values) <= {0.0, 1.0}
    data.write_text("age,sex,ill\n" + "9e9,f,false\n" * 99)
    catalogue.refresh("visits")
    again = catalogue.mock("visits")
    for name in mock.names:  # other data, the same mock: so it depends on none
        assert np.array_equal(mock[name].values, again[name].values)
    data.unlink()
    assert catalogue.mock("visits", 3).rows == 3  # does not even need them


def test_mock_of_every_kind() -> None:
    table = Table(
        {
            "n": Column.numeric([1e6]),
            "b": Column(ColumnKind.BOOLEAN, np.ones(1)),
            "c": Column.categorical(["Grete"]),
            "d": Column(ColumnKind.DATE, np.full(1, 1e5)),
            "i": Column(ColumnKind.IMAGE, np.zeros((1, 2, 3, 1), np.uint8)),
        }
    )
    mock = make_mock(table, 500, np.random.default_rng(1))
    assert mock.schema() == table.schema()
    assert mock["c"].categories == ("category_1", "category_2", "category_3")
    assert abs(mock["n"].values.mean()) < 0.2
    assert 0.8 < mock["n"].values.std() < 1.2
    assert mock["i"].values.shape == (500, 2, 3, 1)
    assert mock["d"].values.max() < 18262
    assert make_mock(table, 0, np.random.default_rng(1)).rows == 0
    with pytest.raises(ConfigError):
        make_mock(table, -1, np.random.default_rng(1))


def test_the_owners_mock_must_fit(catalogue: Catalogue, data: Path, tmp_path: Path) -> None:
    mock = tmp_path / "mock.tsv"
    mock.write_text("ill\tage\tsex\nno\t1\tx\n")
    catalogue.add(data, "visits", mock=mock)
    assert catalogue.mock("visits").names == ("age", "sex", "ill")
    for text, says in (
        ("age\tsex\n1\tf\n", "column 'ill' is in the schema but not in the file"),
        ("age\tsex\till\textra\n1\tf\tno\t2\n", "has a column 'extra'"),
        ("age\tsex\till\nold\tf\tno\n", "column 'age': found text"),
    ):
        mock.write_text(text)
        with pytest.raises(DataError, match=says):
            catalogue.add(data, "other", mock=mock)


# ---------------------------------------------------------------- registration summary


def labels(**counts: int) -> Column:
    return Column.categorical([label for label, n in counts.items() for _ in range(n)])


def test_summary_by_hand() -> None:
    x = [0.0] * 15 + [math.nan] * 15 + [2.0] * 30
    table = Table({"x": Column.numeric(x), "c": Column.categorical(["u"] * 48 + [None] * 12), "y": labels(a=20, b=40)})
    assert summary(table, "y") == {
        "num_samples": 60,
        "num_features": 2,
        "data_sparsity": 0.35,  # (15 zeros + 15 missing + 12 missing) / (60 * 2)
        "class_distribution": {"a": 20, "b": 40},
        "feature_coverage": 0.65,
        "features": ["x", "c"],
        "metadata_columns": ["y"],
        "target_columns": ["y"],
    }
    with pytest.raises(DataError, match="no column 'z'"):
        summary(table, "z")
    with pytest.raises(ConfigError):
        summary(table, "y", 0)


def test_summary_of_the_ends() -> None:
    nothing = summary(Table(), None)
    assert nothing == {
        "num_samples": 0,
        "num_features": 0,
        "data_sparsity": 0.0,
        "class_distribution": {},
        "feature_coverage": 0.0,
        "features": [],
        "metadata_columns": [],
    }
    empty = summary(Table({"x": Column.numeric([]), "y": Column.categorical([])}), "y")
    assert (empty["num_samples"], empty["num_features"], empty["class_distribution"]) == (0, 1, {})
    blank = Table({"x": Column.numeric([math.nan] * 30), "y": Column.categorical([None] * 30)})
    found = summary(blank, "y")
    assert (found["data_sparsity"], found["feature_coverage"], found["class_distribution"]) == (1.0, 0.0, {})
    few = summary(Table({"x": Column.numeric([0.0] * 9)}), None)
    assert (few["num_samples"], few["data_sparsity"], few["feature_coverage"]) == (0, 0.0, 0.0)
    only_target = summary(Table({"y": labels(a=30)}), "y")
    assert (only_target["num_features"], only_target["data_sparsity"]) == (0, 0.0)
    assert only_target["class_distribution"] == {"a": 30}


def test_a_measurement_is_no_class() -> None:
    table = Table({"y": Column.numeric(np.repeat(np.arange(21.0), 20))})
    assert summary(table, "y")["class_distribution"] == {}
    table = Table({"y": Column.numeric([0.0] * 12 + [1.0] * 15 + [math.nan])})
    assert summary(table, "y")["class_distribution"] == {"0": 12, "1": 15}
    table = Table({"y": Column.numeric([math.inf] * 12 + [1.0] * 15)})
    assert summary(table, "y")["class_distribution"] == {}


def test_one_cell_alone_does_not_show_in_the_sparsity() -> None:
    one = Table({"x": Column.numeric([0.0] + [1.0] * 19)})
    none = Table({"x": Column.numeric([1.0] * 20)})
    assert summary(one, None)["data_sparsity"] == summary(none, None)["data_sparsity"] == 0.0


@functools.cache
def told(counts: tuple[tuple[str, int], ...], min_count: int) -> dict[str, int]:
    """What leaves of these counts: as in :func:`summary`, without the way through files and asks."""
    values, owner = Values([labels(**dict(counts))]), Owner(min_count)
    if values.rows < min_count:
        return {}
    levels, value_counts = statistic("levels"), statistic("value_counts")
    assert levels.observe
    assert value_counts.observe
    known = Known((levels.protect(levels.observe(values, {}, Known()), {}, owner, Known()),))
    out = value_counts.protect(value_counts.observe(values, {}, known), {}, owner, known)
    found: Any = value_counts.final(out, {}, known)
    return {label: count for label, count in found.items() if label != "(other)" and count is not None}


@examples(25)
@example({"a": 6, "b": 7, "c": 6, "d": 7}, 7)  # two small cells apart from each other: both 6, was the rule simpler
@example({"a": 1, "b": 4, "c": 3, "d": 1}, 3)  # rare labels that counted as fewer than they are chose who hides them
@example({"a": 1, "b": 7, "c": 9}, 7)  # the sum of a smallest cell and a smallest companion
@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 10), max_size=5), st.integers(3, 6))
def test_no_small_cell_can_be_computed(counts: dict[str, int], min_count: int) -> None:
    shown = told(tuple(sorted(counts.items())), min_count)
    hidden = sorted(counts.keys() - shown.keys())
    assert all(shown[label] == counts[label] >= min_count for label in shown)
    small = {label for label in counts if counts[label] < min_count}
    assert bool(hidden) == bool(small)
    total = sum(counts.values())
    if not hidden or total < min_count or len(counts) == 1:  # then the total is not shown either
        return
    if not shown and total == len(counts):  # one row per label: no companion can hide that
        return
    # The attacker knows the labels, the total, the published cells and the rule, and tries everything.
    rest = total - sum(shown.values())
    guesses = (
        {**shown, **dict(zip(hidden, (*first, rest - sum(first)), strict=True))}
        for first in itertools.product(range(1, rest), repeat=len(hidden) - 1)
        if sum(first) < rest
    )
    fits = [g for g in guesses if told(tuple(sorted(g.items())), min_count) == shown] if len(hidden) < 4 else []
    for label in small if fits else ():
        assert len({guess[label] for guess in fits}) > 1
    assert bool(fits) == (len(hidden) < 4)


def test_the_summary_is_what_a_federation_of_this_node_alone_would_be_told() -> None:
    """One mechanism: the numbers of the registration are those of a query, kept back by the same rules."""
    rng = np.random.default_rng(3)
    x = rng.choice([0.0, 1.5, np.nan], 400, p=[0.3, 0.5, 0.2])
    table = Table(
        {
            "x": Column.numeric(x),
            "c": Column.categorical(rng.choice(["u", "v"], 400).tolist()),
            "y": labels(a=180, b=150, c=61, rare=6, rarer=3),
        }
    )
    for min_count in (1, 5, 10):
        said = summary(table, "y", min_count)
        analytics = hanse.simulate({"here": table}, policy={"minimum_cell": min_count}).analytics()
        counts = analytics.value_counts("y")["y"]
        assert said["class_distribution"] == {k: v for k, v in counts.items() if k != "(other)" and v is not None}
        share = analytics.fetch_stats("sparsity", ["x", "c"]).values("sparsity")["x, c"]
        assert share == pytest.approx((np.isnan(x).sum() + (x == 0).sum()) / 800)
        assert said["data_sparsity"] == round(share, 2)
        assert said["num_samples"] == analytics.fetch_stats("missing", ["x"]).values("missing")["x"]["rows"] == 400
    assert summary(table, "y", 10)["class_distribution"] == {"b": 150, "c": 61}  # a goes along with the rare ones


def test_images_are_samples_without_sparsity() -> None:
    table = Table({"scan": Column(ColumnKind.IMAGE, np.zeros((30, 2, 2, 1), np.uint8)), "y": labels(a=12, b=18)})
    found = summary(table, "y")
    assert (found["num_samples"], found["num_features"], found["data_sparsity"]) == (30, 1, 0.0)
    assert found["class_distribution"] == {"a": 12, "b": 18}
    assert summary(table.select(["scan"]), None)["num_samples"] == 30
    assert summary(table.select(["scan"]), None, 31)["num_samples"] == 0
    with pytest.raises(DataError, match="no column 'z'"):
        summary(table, "z")


def test_a_target_with_very_many_labels_is_no_class() -> None:
    table = Table({"y": Column.categorical([f"patient {i}" for i in range(3000)])})
    assert summary(table, "y", 1)["class_distribution"] == {}
    assert summary(table, "y", 5)["class_distribution"] == {}
    numbers = Table({"y": Column.numeric(np.arange(3000.0))})
    assert summary(numbers, "y", 1)["class_distribution"] == {}
    odd = Table({"an  age": Column.numeric([1.0] * 20), "x": Column.numeric([math.inf, -math.inf] * 10)})
    assert summary(odd, None, metadata_columns=["an  age"])["features"] == ["x"]


@pytest.mark.long
def test_eight_times_as_many_columns_take_about_eight_times_as_long(tmp_path: Path) -> None:
    """Tables of omics have tens of thousands; looking each name up in a list of all took most of a minute."""

    def took(count: int) -> float:
        rows = [",".join(f"g{i}" for i in range(count)), *(",".join(["1.5"] * count) for _ in range(5))]
        (tmp_path / "wide.csv").write_text("\n".join(rows) + "\n")
        before = time.process_time()
        assert len(Catalogue(tmp_path / f"home-{count}").add(tmp_path / "wide.csv").schema) == count
        return time.process_time() - before

    took(100)  # what is loaded at the first
    assert took(40_000) < 24 * took(5_000)  # quadratic: 64


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """A Parquet file with a column of each kind, in several row groups, whose words differ."""
    import polars as pl

    n = 90
    path = tmp_path / "visits.parquet"
    columns = {
        "age": pl.Series([None if i % 11 == 0 else 40 + i for i in range(n)], dtype=pl.Float32),
        "sick": pl.Series([None if i % 7 == 0 else bool(i % 2) for i in range(n)]),
        "town": pl.Series([None if i % 13 == 0 else f"town {i // 10}" for i in range(n)]),
        "day": pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 3, 30), eager=True),
        "nothing": pl.Series([None] * n, dtype=pl.String),
    }
    pl.DataFrame(columns).write_parquet(path, row_group_size=30)
    return path


@pytest.mark.parametrize("sliced", [False, True])
def test_a_large_table_is_read_one_column_at_a_time_with_the_same_values(
    catalogue: Catalogue, visits: Path, monkeypatch: pytest.MonkeyPatch, sliced: bool
) -> None:
    if sliced:  # as of a file of very many rows
        monkeypatch.setattr(readers.parquet, "COLUMN_ROWS", 16)
    catalogue.add(visits)
    whole, opened = catalogue.load("visits"), catalogue.opened("visits", held=0)
    assert opened.rows == whole.rows
    assert opened.names == whole.names
    assert (whole.in_memory, opened.in_memory) == (True, False)
    for name in whole.names:
        assert (opened[name].kind, opened[name].categories) == (whole[name].kind, whole[name].categories)
        assert np.array_equal(opened[name].values, whole[name].values, equal_nan=whole[name].values.dtype.kind == "f")
    assert "town" in opened.columns
    with pytest.raises(DataError, match="there is no column 'city'"):
        opened["city"]
    assert catalogue.opened("visits").in_memory  # a small one


def test_a_file_that_changes_while_its_columns_are_read_is_noticed(catalogue: Catalogue, visits: Path) -> None:
    catalogue.add(visits)
    opened = catalogue.opened("visits", held=0)
    assert len(opened["age"]) == 90
    os.utime(visits)
    with pytest.raises(DataError, match="has changed"):
        opened["age"]
    with pytest.raises(NotFound, match="another version"):
        catalogue.opened(dataclasses.replace(catalogue.get("visits"), version="0" * 64), held=0)


def test_a_file_without_rows_and_one_that_cannot_be_read_by_column(
    catalogue: Catalogue, data: Path, tmp_path: Path
) -> None:
    import polars as pl

    pl.DataFrame({"age": pl.Series([], dtype=pl.Float64)}).write_parquet(tmp_path / "empty.parquet")
    catalogue.add(tmp_path / "empty.parquet")
    opened = catalogue.opened("empty", held=-1)
    assert (opened.rows, len(opened["age"]), opened.in_memory) == (0, 0, False)
    catalogue.add(data)
    assert catalogue.opened("visits-2024", held=0).in_memory
