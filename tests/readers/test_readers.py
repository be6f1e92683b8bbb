"""Readers: what is right is read exactly, what is wrong is named with its place."""

from __future__ import annotations

import gc
import itertools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from PIL import Image

from hanse import readers
from hanse.errors import ConfigError, DataError, HanseError
from hanse.node.catalogue import Catalogue
from hanse.node.summaries import look
from hanse.queries import TableSource, make_item
from hanse.readers import _columns, _parquet_footer, profile
from hanse.readers import csv as csv_reader
from hanse.summary import asked_here
from hanse.table import Column, ColumnKind, Table
from tests.examples import examples

T = TypeVar("T")


def write(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def same(a: Table, b: Table) -> bool:
    return a.schema() == b.schema() and all(
        np.array_equal(a[n].values, b[n].values, equal_nan=a[n].kind != "categorical")
        and a[n].categories == b[n].categories
        for n in a.names
    )


def attempt(read: Callable[[], T], folder: Path) -> T | HanseError:
    """What is read, or the error of Hanse; anything else is raised. No error may hold the folder."""
    try:
        return read()
    except HanseError as error:
        if str(folder) in str(error):
            raise AssertionError("a path in the message") from error
        return error


# ---------------------------------------------------------------- CSV, TSV


def test_kinds_are_found(tmp_path: Path) -> None:
    table = readers.read(
        write(tmp_path, "n,b,c,d,t,e\n1,true,x,2020-01-02,2020-01-01T12:00:00Z,\n-2.5e3,FALSE,y,NA,?,--\n,,,,,\n")
    )
    assert table.schema() == {
        "n": "numeric",
        "b": "boolean",
        "c": "categorical",
        "d": "date",
        "t": "date",
        "e": "open",
    }
    assert table["n"].values.tolist()[:2] == [1.0, -2500.0]
    assert table["b"].values.tolist()[:2] == [1.0, 0.0]
    assert table["c"].labels() == ["x", "y", None]
    assert table["d"].values[0] == 18263
    assert table["t"].values[0] == 18262.5
    assert table["e"].missing.all()


@pytest.mark.parametrize("token", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "--", " NA "])
def test_missing_tokens(tmp_path: Path, token: str) -> None:
    table = readers.read(write(tmp_path, f"x,c\n1,a\n{token},{token}\n"))
    assert table.schema() == {"x": "numeric", "c": "categorical"}
    assert table["x"].missing.tolist() == [False, True]
    assert table["c"].labels() == ["a", None]


def test_time_zones_and_fractions(tmp_path: Path) -> None:
    text = "t\n1970-01-02T01:00:00+01:00\n1970-01-02 06:00\n1970-01-02T12:00:00.5\n1970-01-02\n"
    values = readers.read(write(tmp_path, text))["t"].values
    assert values.tolist() == pytest.approx([1.0, 1.25, 1.5 + 0.5 / 86400, 1.0])


def test_quotes_newlines_bom_and_carriage_returns(tmp_path: Path) -> None:
    table = readers.read(write(tmp_path, b'\xef\xbb\xbf"a",b\r\n"x\r\ny",1\r\n"say ""hi"", you",2\r\n\r\n'))
    assert table["a"].labels() == ["x\r\ny", 'say "hi", you']
    assert table["b"].values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,b\n1,2\n3\n", r"row 2 \(line 3\) has 1 of 2 fields"),
        (b"a,b\n1,2\n3,4,5\n", r"row 2 \(line 3\) has 3 of 2 fields"),
        (b"a,b\n1,2\n\n3,4\n", r"row 2 \(line 3\) has nothing"),
        (b'a,b\n"x\ny",2\n3\n', r"row 2 \(line 4\) has 1 of 2"),
        (b"a,b,a\n1,2,3\n", r"2 columns have the name 'a' \(1, 3\)"),
        (b"a, a\n1,2\n", "2 columns have the name 'a'"),
        (b"a,,c\n1,2,3\n", "column 2 has no name"),
        (b"a;b\n1;2\n", "--separator ';'"),
        (b"a,b\n1,2\n3,\xff\n", r"byte 11 \(line 3\) is not UTF-8"),
        (b"\xff\xfea\0,\0b\0\n\0", r"byte 1 \(line 1\) is not UTF-8; it looks like UTF-16"),
        (b"a,b\n1,\0\n", r"byte 7 \(line 2\) is zero"),
        (b"a,b\n1,\xc3", r"byte 7 \(line 2\) is not UTF-8"),
        (b'a,b\n5" pipe,1\n"x",2\n7",2\n', "line 2: a quote within a field"),
        (b'a,b\n"x" y,1\n', "line 2: text after a closing quote"),
        (b'a,b\n1,2\n"x,1\n', "line 3: a quote opens a field and is never closed"),
        (b'"a,b\n1,2\n', "line 1: a quote opens a field and is never closed"),
        (b"a,b\r1,2\r", "carriage return alone"),
        (b"a\n" + b"1\n" * 12 + b"secret\n", r"row 13 \(line 14\), column 'a': found text, while 12 of 13"),
    ],
)
def test_bad_files_say_where(tmp_path: Path, text: bytes, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=says) as caught:
        readers.read(path)
    assert str(tmp_path) not in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError) as streamed:
        list(readers.stream(path))
    assert str(tmp_path) not in str(streamed.value)


@pytest.mark.parametrize(
    ("cell", "kind", "says"),
    [
        ("secret", "numeric", "found text, expected a number"),
        ("2020-01-01", "numeric", "found a date, expected a number"),
        ("yes", "numeric", "found a true/false word, expected a number"),
        ("2", "boolean", "found a number, expected true or false"),
        ("3.25", "date", "found a number, expected a date"),
        ("2020-02-30", "date", "found text, expected a date"),
        ("2020-1-1", "date", "found text, expected a date"),
    ],
)
def test_the_schema_is_enforced(tmp_path: Path, cell: str, kind: str, says: str) -> None:
    good = {"numeric": "1", "boolean": "no", "date": "2020-01-01"}[kind]
    path = write(tmp_path, f'k,x\n"a\nb",{good}\nc,\nd,{cell}\n')
    for read in (readers.read, lambda p, schema: list(readers.stream(p, ["x"], 1, schema=schema))):
        with pytest.raises(DataError, match=rf"data\.csv: row 3 \(line 5\), column 'x': {says}") as caught:
            read(path, schema={"x": kind})
        assert cell not in str(caught.value)


def test_declared_kinds(tmp_path: Path) -> None:
    path = write(tmp_path, "id,b\n007,1\n12,0\nabc,\n")
    table = readers.read(path, schema={"id": "categorical", "b": "boolean"})
    assert table["id"].labels() == ["007", "12", "abc"]
    assert table["b"].values.tolist()[:2] == [1.0, 0.0]
    assert table.schema() == {"id": "categorical", "b": "boolean"}
    with pytest.raises(DataError, match="column 'z' is in the schema but not in the file"):
        readers.read(path, schema={"z": "numeric"})
    with pytest.raises(ConfigError, match="no kind 'float'"):
        readers.read(path, schema={"b": "float"})
    with pytest.raises(DataError, match="only folders hold images"):
        readers.read(path, schema={"b": "image"})
    with pytest.raises(ConfigError, match="no option 'sep'"):
        readers.read(path, sep=";")


@pytest.mark.parametrize("text", ["a,b", "a,b\n", "a,b\r\n\r\n"])
def test_header_only_is_typed(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    table = readers.read(path, schema={"b": "categorical"})
    assert (table.rows, table.schema()) == (0, {"a": "open", "b": "categorical"})
    (batch,) = readers.stream(path, schema={"b": "categorical"})
    assert same(batch, table)


def test_a_column_without_values_is_open_and_must_stay_so(tmp_path: Path) -> None:
    """Nothing in it says of what kind it is, so it must not take the column from the sites that have values."""
    path = write(tmp_path, "a,b\n1,\n2,NA\n")
    assert readers.survey(path)[0] == {"a": "numeric", "b": "open"}
    stored = {"a": "numeric", "b": "open"}
    assert readers.read(path, schema=stored)["b"].kind is ColumnKind.OPEN
    changed = write(tmp_path, "a,b\n1,x\n")
    with pytest.raises(DataError, match="column 'b': found text, expected nothing, as when the dataset was added"):
        readers.read(changed, schema=stored)


def test_a_typed_column_without_values_is_open(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"a": [1.0, 2.0], "b": [math.nan, None], "c": [None, None]}).write_parquet(path)
    stored = {"a": "numeric", "b": "open", "c": "open"}
    assert readers.survey(path)[0] == readers.read(path).schema() == stored
    assert [batch.schema() for batch in readers.stream(path, schema=stored)] == [stored]


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    text = 'age;n\n"61,5";1\n70;2\n"58,25";3\n'
    with pytest.raises(DataError, match=r"column 'age': found a number with a decimal comma"):
        readers.read(write(tmp_path, text), separator=";")
    assert readers.read(write(tmp_path, text), separator=";", schema={"age": "categorical"})["age"].categories
    assert readers.read(write(tmp_path, 'x\n"1,5"\nhigh\n'))["x"].kind is ColumnKind.CATEGORICAL


def test_one_column_keeps_its_empty_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n1\n\n3\n\n")
    values = readers.read(path)["a"].values
    assert values[[0, 2]].tolist() == [1, 3]
    assert np.isnan(values[[1, 3]]).all()
    streamed = np.concatenate([b["a"].values for b in readers.stream(path)])
    assert np.array_equal(values, streamed, equal_nan=True)


def test_infinities_are_kept_and_reported(tmp_path: Path) -> None:
    table = readers.read(write(tmp_path, "x,c\ninf,a\n-inf,b\n1e999,\n1,a\n,a\n"))
    assert np.isinf(table["x"].values).sum() == 3
    items = [make_item("missing", ["x"], {}), make_item("missing", ["c"], {})]
    [x, c] = [asked_here(TableSource(table), [item], 1)["missing"] for item in items]
    assert x == {"rows": 5, "missing": 1, "infinite": 3}
    assert c == {"rows": 5, "missing": 1, "infinite": 0}


def test_separators(tmp_path: Path) -> None:
    assert readers.read(write(tmp_path, "a\tb,c\n1\t2\n", "x.tsv")).names == ("a", "b,c")
    assert readers.read(write(tmp_path, "a\tb\n1\t2\n", "x.txt")).names == ("a", "b")
    assert readers.read(write(tmp_path, "a,b\n1,2\n", "y.TXT")).names == ("a", "b")
    assert readers.read(write(tmp_path, "a;b\n1;2\n"), separator=";").names == ("a", "b")
    with pytest.raises(ConfigError, match="expected one character"):
        readers.read(write(tmp_path, "a;b\n"), separator=";;")
    with pytest.raises(DataError, match=r"no reader for '\.xlsx'"):
        readers.read(write(tmp_path, b"PK", "book.xlsx"))
    with pytest.raises(DataError, match="there is no file"):
        readers.read(tmp_path / "absent.csv")


@examples(50, HealthCheck.function_scoped_fixture)
@given(st.binary(max_size=200) | st.text('a1,"\n\r;.-é ', max_size=60).map(str.encode))
def test_garbage_is_read_or_refused_and_streaming_agrees(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, data)
    whole = attempt(lambda: readers.read(path), tmp_path)
    if isinstance(whole, HanseError):
        with pytest.raises(HanseError):
            list(readers.stream(path))
        with pytest.raises(HanseError):
            readers.survey(path)
        return
    schema, rows = readers.survey(path)
    assert (schema, rows) == (whole.schema(), whole.rows)
    for batches in (
        list(readers.stream(path, rows_per_batch=2)),
        list(readers.typed(path, list(schema), 2, schema)),
    ):
        assert sum(b.rows for b in batches) == whole.rows
        for name in whole.names if batches else ():
            assert {b[name].kind for b in batches} == {whole[name].kind}
            joined = [v for b in batches for v in _plain(b, name)]
            assert joined == _plain(whole, name)


NUMBERS = [
    "5",
    "-0",
    "+5",
    " 5",
    "5 ",
    "1e3",
    "1E+3",
    ".5",
    "5.",
    "inf",
    "-inf",
    "Infinity",
    "infinity",
    "nan",
    "NaN",
    "1e400",
    "1e-400",
    "0.1",
    "123456789012345678",
    "0x10",
    "1_000",
    '"7"',
    '" 7"',
    "",
    "NA",
    " NA",
    '""',
    "?",
    "1.7976931348623157e308",
    "00012",
    "--",
    "5e",
    "\u0665",
]


@examples(50, HealthCheck.function_scoped_fixture)
@given(
    st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=6),
    st.integers(0, 1),
    st.integers(1, 60),
    st.sampled_from(["", "\n", "\n\n", "\r\n"]),
)
def test_the_fast_way_gives_the_same_numbers(tmp_path: Path, cells: list[str], more: int, chunk: int, end: str) -> None:
    header, rest = ("x,y\n", ",1") if more else ("x\n", "")
    path = write(tmp_path, (header + "\n".join(cell + rest for cell in cells) + end).encode())
    before, csv_reader.CHUNK = csv_reader.CHUNK, chunk
    try:
        found = attempt(lambda: readers.survey(path), tmp_path)
        if isinstance(found, HanseError):
            return
        schema, rows = found
        batches = list(readers.typed(path, list(schema), 3, schema))
    finally:
        csv_reader.CHUNK = before
    whole = readers.read(path, schema=schema)
    assert sum(b.rows for b in batches) == rows == whole.rows
    for name in schema:
        assert [v for b in batches for v in _plain(b, name)] == _plain(whole, name)


def test_the_fast_way_takes_the_readers_options(tmp_path: Path) -> None:
    path = write(tmp_path, b"x;t\n1;a\n-9;none\n 3;b\n")
    options: dict[str, Any] = {"separator": ";", "missing": ["-9", "none"]}
    schema, rows = readers.survey(path, **options)
    assert (schema, rows) == ({"x": "numeric", "t": "categorical"}, 3)
    (batch,) = readers.typed(path, ["t", "x"], 9, schema, **options)
    assert (_plain(batch, "x"), _plain(batch, "t")) == (["1.0", "nan", "3.0"], ["a", "None", "b"])


@pytest.mark.parametrize("name", ["data.csv", "data.parquet"])
def test_every_way_to_read_takes_a_number_that_means_nothing_for_missing(tmp_path: Path, name: str) -> None:
    """A query had it so, and a training took it for a number: only columns with other words were looked at for it."""
    rows = {"x": [1.0, -9.0, 3.0], "k": [-9, 4, 5], "gone": [-9, -9, -9], "single": [99.9, 1.5, 2.5]}
    frame = pl.DataFrame(rows, schema_overrides={"single": pl.Float32})
    path = tmp_path / name
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    missing = ["", "-9", "99.9"]
    schema, _ = readers.survey(path, missing=missing)
    assert schema == {"x": "numeric", "k": "numeric", "gone": "open", "single": "numeric"}
    expected = {"x": ["1.0", "nan", "3.0"], "k": ["nan", "4.0", "5.0"], "single": ["nan", "1.5", "2.5"]}
    by_column = readers.by_columns(path, schema, missing=missing)
    for column, values in expected.items():
        tables = [readers.read(path, missing=missing), readers.read(path, schema=schema, missing=missing)]
        tables += readers.stream(path, schema=schema, rows_per_batch=9, missing=missing)
        tables += readers.typed(path, [column], 9, schema, missing=missing)
        tables += [Table({column: by_column(column)})] if by_column else []
        assert [_plain(table, column) for table in tables] == [values] * len(tables)


def test_a_survey_enforces_what_is_declared(tmp_path: Path) -> None:
    path = write(tmp_path, b"x,t\n1,a\nold,b\n")
    with pytest.raises(DataError, match="row 2 .line 3., column 'x': found text"):
        readers.survey(path, schema={"x": "numeric"})
    assert readers.survey(path, schema={"x": "categorical"})[0]["x"] == "categorical"
    pl.read_csv(path).write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match="row 2, column 'x': found text"):
        readers.survey(tmp_path / "data.parquet", schema={"x": "numeric"})
    assert readers.survey(tmp_path / "data.parquet") == ({"x": "categorical", "t": "categorical"}, 2)


def _plain(table: Table, name: str) -> list[str]:
    column = table[name]
    return [str(v) for v in (column.labels() if column.kind == "categorical" else column.values.tolist())]


@examples(25, HealthCheck.function_scoped_fixture)
@given(st.lists(st.lists(st.text('ab,"\n\r 1x', max_size=5), min_size=3, max_size=3), max_size=12), st.integers(1, 40))
def test_what_the_standard_library_writes_is_read_back(tmp_path: Path, rows: list[list[str]], chunk: int) -> None:
    import csv

    path = tmp_path / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["p", "q", "r"], *rows])
    schema = dict.fromkeys("pqr", "categorical")
    table = readers.read(path, schema=schema, missing=[""])
    assert [list(t) for t in zip(*(table[c].labels() for c in "pqr"), strict=True)] == [
        [cell.strip() or None for cell in row] for row in rows
    ]
    before, csv_reader.CHUNK = csv_reader.CHUNK, chunk  # pieces end anywhere, also within a quoted field
    try:
        batches = list(readers.stream(path, schema=schema, rows_per_batch=3, missing=[""]))
    finally:
        csv_reader.CHUNK = before
    for c in "pqr":
        assert [label for b in batches for label in b[c].labels()] == table[c].labels()


def test_streaming_in_small_pieces_names_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "CHUNK", 7)
    path = write(tmp_path, 'é,x\n"a\nb",1\nc,2\n\xe9,oops\n'.encode())
    with pytest.raises(DataError, match=r"row 3 \(line 5\), column 'x'"):
        list(readers.stream(path, schema={"x": "numeric"}))
    bad = write(tmp_path, b"a,b\n1,2\n3,4\n5,\xff6\n")
    with pytest.raises(DataError, match=r"byte 15 \(line 4\)"):
        list(readers.stream(bad, schema={"a": "numeric", "b": "numeric"}))
    blank = write(tmp_path, "a,b\n1,2\n\n\n\n\n\n\n\n\n3,4\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\) has nothing"):
        list(readers.stream(blank))
    fine = write(tmp_path, "a,b\n1,2\n3,4\n\n\n\n\n\n\n\n\n")
    assert sum(b.rows for b in readers.stream(fine)) == 2


def test_an_unclosed_quote_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "CHUNK", 1 << 12)
    monkeypatch.setattr(csv_reader, "LONGEST", 1 << 14)
    path = write(tmp_path, 'a,b\n1,2\n"x,1\n' + "y,2\n" * 50_000)
    with pytest.raises(DataError, match="is a quote not closed"):
        list(readers.stream(path))


@pytest.mark.long
def test_a_large_file_is_read_in_a_few_times_what_polars_takes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(100_000, 20))
    path = tmp_path / "large.csv"
    pl.DataFrame(values, schema=[f"c{i}" for i in range(20)], orient="row").write_csv(path)
    readers.read(path)  # imports, file cache
    taken, floor = [], []
    for _ in range(3):
        start = time.process_time()  # others may keep the cores busy
        table = readers.read(path)
        taken.append(time.process_time() - start)
        start = time.process_time()
        pl.read_csv(path)
        floor.append(time.process_time() - start)
    assert np.array_equal(np.column_stack([c.values for c in table.columns.values()]), values)
    assert min(taken) < 6 * min(floor)
    streamed = np.concatenate([b["c7"].values for b in readers.stream(path, ["c7"], 9_999)])
    assert np.array_equal(streamed, values[:, 7])


# ---------------------------------------------------------------- Parquet


def test_parquet_kinds(tmp_path: Path) -> None:
    import datetime

    path = tmp_path / "x.parquet"
    frame = pl.DataFrame(
        {
            "i": [1, None, 3],
            "f": [1.0, float("nan"), math.inf],
            "b": [True, None, False],
            "s": ["1", None, "x"],
            "d": [datetime.date(1970, 1, 2), None, None],
            "t": [datetime.datetime(1970, 1, 1, 12), None, None],
            "n": [None, None, None],
        }
    )
    frame = frame.with_columns(c=pl.col("s").cast(pl.Categorical), m=pl.col("i").cast(pl.Decimal(10, 2)))
    frame.write_parquet(path)
    table = readers.read(path)
    assert table.schema() == {
        "i": "numeric",
        "f": "numeric",
        "b": "boolean",
        "s": "categorical",
        "d": "date",
        "t": "date",
        "n": "open",
        "c": "categorical",
        "m": "numeric",
    }
    assert table["d"].values[0] == 1
    assert table["t"].values[0] == 0.5
    assert table["c"].labels() == ["1", None, "x"]
    assert np.isinf(table["f"].values).sum() == 1
    assert readers.read(path, schema={"i": "categorical"})["i"].labels() == ["1", None, "3"]
    with pytest.raises(DataError, match="row 3, column 's': found text, expected a number"):
        readers.read(path, schema={"s": "numeric"})
    with pytest.raises(DataError, match="row 3, column 'i': found a number other than 0 and 1"):
        readers.read(path, schema={"i": "boolean"})
    with pytest.raises(DataError, match="holds date values, but the schema says numeric"):
        readers.read(path, schema={"d": "numeric"})


def test_parquet_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    frame = pl.DataFrame({"x": range(1000), "s": [f"k{i % 7}" for i in range(1000)]})
    frame.write_parquet(path, row_group_size=300)
    batches = list(readers.stream(path, ["s", "x"], 128))
    assert max(b.rows for b in batches) <= 128
    assert batches[0].names == ("s", "x")
    assert np.concatenate([b["x"].values for b in batches]).tolist() == list(range(1000))
    assert [label for b in batches for label in b["s"].labels()] == frame["s"].to_list()
    with pytest.raises(DataError, match="row 1, column 's': found text"):
        list(readers.stream(path, ["s"], 128, schema={"s": "numeric"}))
    with pytest.raises(DataError, match="no column 'y'"):
        list(readers.stream(path, ["y"]))
    frame.head(0).write_parquet(path)
    (empty,) = readers.stream(path)
    assert (empty.rows, empty.schema()) == (0, {"x": "numeric", "s": "categorical"})


@pytest.mark.parametrize("data", [b"", b"PAR1", b"garbage" * 100, b"PAR1" + bytes(200) + b"PAR1"])
def test_broken_parquet(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path, data, "x.parquet")
    for read in (readers.read, lambda p: list(readers.stream(p))):
        with pytest.raises(DataError, match=r"x\.parquet") as caught:
            read(path)
        assert str(tmp_path) not in str(caught.value)


def test_parquet_with_a_list_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"v": [[1, 2], [3]]}).write_parquet(path)
    with pytest.raises(DataError, match="column 'v' is of type List"):
        readers.read(path)


def test_truncated_parquet_within_the_data(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"v": np.random.default_rng(0).normal(size=5000)}).write_parquet(path)
    data = bytearray(path.read_bytes())
    data[100:3000] = bytes(2900)
    path.write_bytes(data)
    table = attempt(lambda: readers.read(path), tmp_path)
    # Without a checksum the page may still decode; then all rows must be there.
    assert isinstance(table, DataError) or table.rows == 5000


def test_parquet_with_flipped_bytes_is_read_or_refused(tmp_path: Path) -> None:
    """Polars panics on some of these, with an exception that is no ``Exception``."""
    rng = np.random.default_rng(0)
    path = tmp_path / "x.parquet"
    pl.DataFrame({"a": rng.normal(size=300), "s": [f"k{i % 5}" for i in range(300)]}).write_parquet(path)
    good, refused = path.read_bytes(), 0
    for _ in range(150):
        data = bytearray(good)
        for at in rng.integers(max(0, len(good) - 700), len(good), 3):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        refused += isinstance(attempt(lambda: readers.read(path), tmp_path), DataError)
        attempt(lambda: next(readers.stream(path)), tmp_path)
    assert refused > 50


def test_a_panic_of_the_parser_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)

    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException(f"at {path}")

    monkeypatch.setattr(pl.LazyFrame, "collect", panic)
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet \(PanicException\)"):
        readers.read(path)


# ---------------------------------------------------------------- images


def picture(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", colour: object = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]


def test_one_folder_per_class(tmp_path: Path) -> None:
    picture(tmp_path / "sick" / "b.png", colour=(1, 2, 3))
    picture(tmp_path / "sick" / "a.png", colour=(9, 9, 9))
    picture(tmp_path / "healthy" / "c.png")
    write(tmp_path, b"", ".DS_Store")
    table = readers.read(tmp_path)
    assert table.schema() == {"image": "image", "label": "categorical"}
    assert table["image"].values.shape == (3, 4, 6, 3)
    assert table["image"].values.dtype == np.uint8
    assert table["label"].labels() == ["healthy", "sick", "sick"]
    assert table["image"].values[:, 0, 0].tolist() == [[0, 0, 0], [9, 9, 9], [1, 2, 3]]
    assert readers.read(tmp_path, resize=(8, 8), mode="L")["image"].values.shape == (3, 8, 8, 1)
    with pytest.raises(ConfigError, match="resize"):
        readers.read(tmp_path, resize=(8,))


def test_sizes_and_colours_that_differ(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "a" / "2.png", size=(7, 5))
    with pytest.raises(DataError, match=r"a/2\.png: 5 x 7 pixels .* has 4 x 6; give resize"):
        readers.read(tmp_path)
    picture(tmp_path / "a" / "2.png", mode="L")
    with pytest.raises(DataError, match=r"a/2\.png: 1 colour channels, but the first image has 3"):
        readers.read(tmp_path)
    picture(tmp_path / "a" / "2.png", mode="I;16")
    with pytest.raises(DataError, match=r"a/2\.png: more than 8 bits"):
        readers.read(tmp_path)


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_a_broken_image_is_named(tmp_path: Path, cut: int) -> None:
    picture(tmp_path / "a" / "1.png", size=(64, 64))
    data = (tmp_path / "a" / "1.png").read_bytes()
    write(tmp_path, data[:cut], "a/2.png")
    with pytest.raises(DataError, match=r"a/2\.png: cannot be read as an image") as caught:
        readers.read(tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a" / "1.png", size=(64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 40)  # more than the limit: a warning in Pillow
    with pytest.raises(DataError, match="DecompressionBombWarning"):
        readers.read(tmp_path)


def test_folders_that_are_no_image_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sub-folders"):
        readers.read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="'empty' holds no images"):
        readers.read(tmp_path)
    write(tmp_path, b"x", "empty/notes.doc")
    with pytest.raises(DataError, match=r"empty/notes\.doc: not an image file"):
        readers.read(tmp_path)
    write(tmp_path, b"x", "stray.txt")
    (tmp_path / "empty" / "notes.doc").unlink()
    picture(tmp_path / "empty" / "1.png")
    with pytest.raises(DataError, match=r"'stray\.txt' is not a sub-folder"):
        readers.read(tmp_path)


def test_flat_folder_with_labels(tmp_path: Path) -> None:
    picture(tmp_path / "b.jpg", mode="L", colour=7)
    picture(tmp_path / "a.png", mode="L", colour=3)
    labels = write(tmp_path, "file,label,age\nb.jpg,1,70\na.png,0,\n", "labels.csv")
    table = readers.read(tmp_path)
    assert table.schema() == {"image": "image", "label": "categorical", "age": "numeric"}
    assert table["label"].labels() == ["0", "1"]
    assert table["image"].values[:, 0, 0, 0].tolist() == [3, 7]
    for rows, says in (
        ("a.png,0\n", r"1 files are not in labels\.csv"),
        ("a.png,0\nb.jpg,0\na.png,1\n", "row 3, column 'file': the file stands in an earlier row"),
        ("a.png,0\nb.jpg,1\n../up.png,1\n", "row 3, column 'file': there is no such file"),
        ("a.png,0\nb.jpg,1\n,1\n", "row 3, column 'file': there is no such file"),
    ):
        labels.write_text("file,label\n" + rows)
        with pytest.raises(DataError, match=says):
            readers.read(tmp_path)


# ---------------------------------------------------------------- profile and metadata

SAMPLES = ("s1", "s2", "s3", "s4")
PROFILE = "clade_name\ts1\ts2\ts3\ts4\nd__B\t3\t0\t5\t1\nd__B___g__X\t1\t0\t2\t0\nd__B___g__Y\t2\t0\t3\t1\n"
METADATA = "Name\thost_disease\tage\ns3\tIBS\t40\ns1\tHealthy\tNA\ns9\tIBS\t33\ns2\tIBS\t51\n"


def cohort(folder: Path, profiles: str = PROFILE, metadata: str = METADATA) -> Path:
    write(folder, profiles, "X_profiles.tsv")
    write(folder, metadata, "X_metadata.tsv")
    return folder


def test_profile_is_joined_and_reported(tmp_path: Path) -> None:
    table, report = profile.load(cohort(tmp_path))
    assert same(table, readers.read(tmp_path))
    assert table.names == ("Name", "host_disease", "age", "d__B", "d__B___g__X", "d__B___g__Y")
    assert table["Name"].labels() == ["s1", "s2", "s3"]
    assert table["host_disease"].labels() == ["Healthy", "IBS", "IBS"]
    assert table["d__B"].values.tolist() == [3, 0, 5]
    assert (report.orientation, report.sample_id, report.joined) == ("features as rows", "Name", 3)
    assert report.only_in_profile == ("s4",)
    assert report.only_in_metadata == ("s9",)
    assert report.ranks == {"d": 1, "g": 2}
    assert report.counts()["only_in_profile"] == 1
    assert "s4" not in repr(report)
    assert "s9" not in repr(report)
    assert readers.read(tmp_path, rank="g").names[3:] == ("d__B___g__X", "d__B___g__Y")
    with pytest.raises(DataError, match="no feature has the rank 's'"):
        readers.read(tmp_path, rank="s")


def test_the_other_orientation_gives_the_same_table(tmp_path: Path) -> None:
    lines = [line.split("\t") for line in PROFILE.splitlines()]
    turned = "\n".join("\t".join(row) for row in zip(*lines, strict=True))
    one = readers.read(cohort(tmp_path / "one", PROFILE.replace("clade_name", "row")))
    other, report = profile.load(cohort(tmp_path / "other", turned.replace("clade_name", "row")))
    assert report.orientation == "samples as rows"
    assert same(one, other)


def test_duplicates_and_missing_ids_are_reported_and_refused(tmp_path: Path) -> None:
    cohort(tmp_path, PROFILE.replace("\ts4\n", "\ts1\n"), METADATA + "s2\tIBS\t1\n\tIBS\t2\n")
    report = profile.join(tmp_path)
    assert report.profile_duplicates == ("s1",)
    assert report.metadata_duplicates == ("s2",)
    assert report.metadata_missing == 1
    with pytest.raises(DataError, match="X_profiles.tsv: 1 sample ids stand more than once"):
        readers.read(tmp_path)
    cohort(tmp_path, PROFILE, METADATA + "s2\tIBS\t1\n")
    with pytest.raises(DataError, match="X_metadata.tsv: 1 sample ids stand more than once"):
        readers.read(tmp_path)
    cohort(tmp_path, PROFILE, METADATA + "NA\tIBS\t1\n")
    with pytest.raises(DataError, match="X_metadata.tsv: 1 rows have no id"):
        readers.read(tmp_path)


@pytest.mark.parametrize(
    ("profiles", "metadata", "says"),
    [
        (PROFILE.replace("g__Y", "g__X"), METADATA, "1 features stand twice"),
        (PROFILE.replace("\t5\t", "\tfive\t"), METADATA, r"row 1 \(line 2\), column 's3': found text"),
        (PROFILE.replace("d__B\t", "host_disease\t"), METADATA, "is a feature and a metadata column"),
        (PROFILE.replace("d__B\t", "\t"), METADATA, r"row 1 \(line 2\), column 'clade_name': nothing there"),
        (PROFILE.replace("clade_name", "x").replace("\ts", "\tz"), METADATA, "cannot tell features from samples"),
        (PROFILE.replace("\ts", "\tz"), METADATA, "no column has them"),
        (
            PROFILE,
            METADATA.replace("age", "Alias").replace("40", "s3").replace("NA", "s1").replace("51", "s2"),
            "fit equally well",
        ),
        (PROFILE, "Name\tage\n", "no column has them"),
        (PROFILE, "", "is empty"),
    ],
)
def test_profiles_that_are_refused(tmp_path: Path, profiles: str, metadata: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        readers.read(cohort(tmp_path, profiles, metadata))


def test_two_profiles_in_a_folder_are_refused(tmp_path: Path) -> None:
    write(cohort(tmp_path), PROFILE, "Y_profiles.tsv")
    with pytest.raises(DataError, match="found 2 files"):
        readers.read(tmp_path)


@pytest.mark.parametrize(("module", "extra"), [("polars", "node"), ("PIL", "images")])
def test_a_missing_library_is_named_by_its_extra(
    module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    (tmp_path / "pictures" / "cat" / "a.png").write_bytes(b"never looked at")
    monkeypatch.setitem(sys.modules, module, None)  # import then says that there is no such module
    with pytest.raises(ConfigError, match=rf"hanse\[{extra}\]"):
        readers.read(tmp_path / ("t.csv" if module == "polars" else "pictures"))


def test_a_file_and_a_frame_have_the_same_kinds(tmp_path: Path) -> None:
    """What a data scientist tries in a simulation is what a node's reader will see."""
    frame = {"answer": ["yes", "no", "no"], "flag": [True, False, True], "x": [1.5, 2.0, float("nan")]}
    (tmp_path / "t.csv").write_text("answer,flag,x\nyes,True,1.5\nno,False,2.0\nno,True,\n")
    read, made = readers.read(tmp_path / "t.csv"), Table.of(frame)
    assert read.schema() == made.schema() == {"answer": "categorical", "flag": "boolean", "x": "numeric"}
    assert [read[n].labels() for n in read.names] == [made[n].labels() for n in made.names]


# ------------------------------------------------------------ files that declare more than they hold, and wide ones


def test_a_parquet_file_that_declares_far_more_rows_than_it_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    pl.DataFrame({"x": np.zeros(6_000_000)}).write_parquet(path, row_group_size=6_000_000, data_page_size=1 << 30)
    assert path.stat().st_size < 4000
    for read in (lambda: readers.survey(path), lambda: readers.read(path), lambda: list(readers.stream(path))):
        with pytest.raises(DataError, match=r"bomb.parquet: \d+ bytes declare 6000000 rows"):
            read()


def test_a_parquet_cell_that_is_far_larger_than_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parquet_footer, "LARGE_BYTES", 4 << 20)
    path = tmp_path / "cell.parquet"
    pl.DataFrame({"y": [1.0], "x": ["x" * (8 << 20)]}).write_parquet(path, compression="brotli")
    with pytest.raises(DataError, match=r"a column declares 83\d+ bytes where the file has \d+"):
        readers.survey(path)


def test_a_large_cell_is_not_hidden_by_a_smaller_one_that_is_packed_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_parquet_footer, "LARGE_BYTES", 4 << 20)
    path = tmp_path / "cell.parquet"
    noise = np.random.default_rng(0).bytes(34_000).hex()
    frame = pl.DataFrame({"large": [noise + "x" * (8 << 20)], "small": ["x" * (3 << 20)]})
    frame.write_parquet(path, compression="brotli", statistics=False)
    with pytest.raises(DataError, match=r"a column declares 84\d+ bytes where the file has \d+"):
        readers.survey(path)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "lz4", "brotli", "uncompressed"])
def test_honest_parquet_files_of_every_shape_are_read(tmp_path: Path, compression: Any) -> None:
    path = tmp_path / "fine.parquet"
    frame = pl.DataFrame(
        {"a": np.arange(300_000.0), "b": ["ja", "nein", None] * 100_000, "zero": np.zeros(300_000)}
        | {f"c{i}": np.full(300_000, i % 2) for i in range(40)}
    )
    frame.write_parquet(path, compression=compression, row_group_size=100_000)
    found = _parquet_footer._Footer(footer_of(path)).declared()
    assert found.rows == 300_000
    assert 0 <= found.largest[0] < 4 << 20
    assert readers.survey(path)[1] == 300_000


def footer_of(path: Path) -> bytes:
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8]


@examples(60, HealthCheck.function_scoped_fixture)
@given(st.data())
def test_a_damaged_footer_is_left_to_the_library(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever the bytes, the look at the sizes ends, at once, with an answer or without."""
    path = tmp_path / "t.parquet"
    if not path.exists():
        pl.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}).write_parquet(path)
    footer = bytearray(footer_of(path))
    for _ in range(data.draw(st.integers(1, 4))):
        footer[data.draw(st.integers(0, len(footer) - 1))] = data.draw(st.integers(0, 255))
    bare = footer_said(bytes(footer), 1 << 30)
    assert footer_said(bytes(footer), 0) == bare  # as a long one is read


def footer_said(footer: bytes, long: int) -> Any:
    """What is declared and where it ends, or that it is none; ``long``: from how many bytes on patterns are used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_parquet_footer, "LONG", long)
        patch.setattr(_parquet_footer, "LARGE_BYTES", 64)
        patch.setattr(_parquet_footer, "RATIO", 0)  # the largest of all chunks is told
        found = _parquet_footer._Footer(footer)
        try:
            return found.declared(), found._at
        except (IndexError, ValueError):
            return None


@pytest.mark.parametrize("statistics", [True, False, "full"])
def test_a_footer_is_read_alike_by_patterns_and_without(tmp_path: Path, statistics: Any) -> None:
    path, n = tmp_path / "t.parquet", 28
    frame = pl.DataFrame(
        {f"number {i}": np.random.default_rng(i).normal(size=n) for i in range(40)}
        | {f"word-{'x' * i}": ["ja", "nein" * i, None, "ü" * 70] * 7 for i in range(1, 140, 9)}
        | {"when": pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, n), "1d", eager=True)}
        | {"flag": [True, None] * 14, "whole": list(range(n)), "list": [[1, 2]] * n}
    )
    frame.write_parquet(path, row_group_size=10, statistics=statistics)
    footer = footer_of(path)
    said = footer_said(footer, 0)
    assert said == footer_said(footer, 1 << 30)
    assert (said[0].rows, said[1]) == (n, len(footer))
    assert said[0].largest[0] > 64


def test_a_long_footer_goes_by_patterns_where_writers_are_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wide.parquet"
    pl.DataFrame(np.random.default_rng(0).normal(size=(20, 3_000))).write_parquet(path)
    looked = itertools.count()
    fields = _parquet_footer._Footer._fields
    monkeypatch.setattr(_parquet_footer._Footer, "_fields", lambda self: (next(looked), fields(self))[1])
    assert _parquet_footer._Footer(footer_of(path)).declared().rows == 20
    assert next(looked) < 10  # field by field, there are thousands of structs


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("cells", [1, 7, 100, 1 << 16])
def test_columns_that_are_looked_at_together_are_as_each_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, cells: int
) -> None:
    monkeypatch.setattr(_columns, "CELLS", cells)
    rng, n = np.random.default_rng(0), 20
    columns: dict[str, Any] = {}
    for i in range(12):
        gone = rng.random(n) < i / 11
        columns[f"number {i}"] = pl.Series([None if g else float(v) for g, v in zip(gone, range(n), strict=True)])
        columns[f"coded {i}"] = pl.Series([-9.0 if g else v / 2 for g, v in zip(gone, range(n), strict=True)])
        columns[f"nan {i}"] = pl.Series([math.nan if g else v / 2 for g, v in zip(gone, range(n), strict=True)])
        columns[f"word {i}"] = pl.Series([None if g else f"w{v % 3}" for g, v in zip(gone, range(n), strict=True)])
        columns[f"flag {i}"] = pl.Series([None if g else v % 2 == 1 for g, v in zip(gone, range(n), strict=True)])
    columns["nothing"] = pl.Series([None] * n, dtype=pl.Float32)
    path, frame = tmp_path / f"t.{ending}", pl.DataFrame(columns)
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    options = {"missing": [*readers.missing_words(path), "-9"]}
    kinds = {"number": "numeric", "coded": "numeric", "nan": "numeric", "word": "categorical", "flag": "boolean"}
    expected = {
        name: "open" if name in ("nothing", *(f"{kind} 11" for kind in kinds)) else kinds[name.split()[0]]
        for name in columns
    }
    assert readers.survey(path, **options) == (expected, n)
    whole = readers.read(path, **options)
    assert whole.schema() == expected
    (found,) = readers.typed(path, list(reversed(expected)), n, expected, **options)
    assert found.names == tuple(reversed(expected))
    assert same(whole, found)


def test_an_odd_value_among_columns_that_are_looked_at_together_is_named_with_its_place(tmp_path: Path) -> None:
    rows = [["1.5"] * 30 for _ in range(20)]
    rows[7][11] = "high"
    rows[9][3] = "2024-01-31"
    text = "\n".join(",".join(row) for row in [[f"g{i}" for i in range(30)], *rows])
    with pytest.raises(DataError, match=r"row 10 \(line 11\), column 'g3': found a date, while 19 of 20 values"):
        readers.survey(write(tmp_path, text))
    rows[9][3] = "1"
    text = "\n".join(",".join(row) for row in [[f"g{i}" for i in range(30)], *rows])
    with pytest.raises(DataError, match=r"row 8 \(line 9\), column 'g11': found text, while 19 of 20 values"):
        readers.survey(write(tmp_path, text))


@pytest.mark.long  # in a process where much else ran, what is counted is not only this
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_reading_calls_as_many_functions_more_as_there_are_columns_more(tmp_path: Path, ending: str) -> None:
    """Calls are counted, not seconds: those are the test's neighbours' too. Seconds are in ``make long``, below."""

    def calls(columns: int) -> int:
        path = tmp_path / f"{columns}.{ending}"
        frame = pl.DataFrame(np.random.default_rng(0).normal(size=(20, columns)).round(6))
        frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
        counted = itertools.count()
        gc.collect()
        gc.disable()  # what other tests left behind is not cleared away, and counted, here
        sys.setprofile(lambda _frame, event, _arg: next(counted) if event in ("call", "c_call") else None)
        try:
            readers.survey(path)
        finally:
            sys.setprofile(None)
            gc.enable()
        return next(counted)

    calls(100)  # what is loaded at the first call
    assert calls(500) > 500  # every column is looked at
    assert calls(4_000) < 10 * calls(500)  # quadratic: 64


@pytest.mark.long
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_eight_times_as_many_columns_take_about_eight_times_as_long(tmp_path: Path, ending: str) -> None:
    """Of what ``hanse node dataset add`` does: to register a file, and to summarise its rows."""

    def took(count: int) -> tuple[float, float]:
        frame = pl.DataFrame(np.random.default_rng(0).normal(size=(50, count)).round(6))
        path, home = tmp_path / f"omics-{count}.{ending}", tmp_path / f"node-{count}"
        frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
        began = time.process_time()
        found = Catalogue(home).add(path)
        between = time.process_time()
        assert look(home, found, None, 5, lambda share: None)["num_features"] == len(found.schema) == count
        return between - began, time.process_time() - between

    took(100)  # what is loaded at the first
    few, many = took(5_000), took(40_000)
    assert many[0] < 24 * few[0]  # quadratic: 64
    assert many[1] < 24 * few[1]


def test_decimal_commas_are_read_as_the_same_file_with_points(tmp_path: Path) -> None:
    german, english = tmp_path / "german.csv", tmp_path / "english.csv"
    rows = [(f" {i}", f"-{i}", i, f"ward {i},5") for i in range(1, 60)]
    german.write_text("a;b;c;ward\n" + "".join(f"{a},5;{b},25e1;{c};{ward}\n" for a, b, c, ward in rows))
    english.write_text("a;b;c;ward\n" + "".join(f"{a}.5;{b}.25e1;{c};{ward}\n" for a, b, c, ward in rows))
    expected = readers.read(english, separator=";")
    kinds, _ = csv_reader.survey(german, separator=";", decimal=",")
    assert kinds == expected.schema()
    ways = [
        [readers.read(german, separator=";", decimal=",")],
        list(csv_reader.stream(german, None, 7, separator=";", decimal=",")),
        list(csv_reader.typed(german, list(kinds), 7, kinds, separator=";", decimal=",")),
    ]
    for parts in ways:
        for name in expected.names:
            found = Column.joined([part[name] for part in parts])
            assert found.kind is expected[name].kind
            assert (
                found.labels() == expected[name].labels()
                if name == "ward"
                else (found.values == expected[name].values).all()
            )


def test_a_decimal_point_among_decimal_commas_is_refused(tmp_path: Path) -> None:
    """1.234 is a thousand there, or was written by another program."""
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1,5;2\n1.234;3\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\), column 1: found a number with a decimal point"):
        readers.read(path, separator=";", decimal=",")
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="so that is no decimal sign"):
        readers.read(tmp_path / "b.csv", decimal=",")
    with pytest.raises(ConfigError, match="expected '.' or ','"):
        readers.read(path, separator=";", decimal="'")
