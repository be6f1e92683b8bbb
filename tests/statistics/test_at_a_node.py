"""Statistics at a real node: catalogue, gate, worker process, files read in batches."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from one_node import Node, running

import hanse.bundle
from hanse import features
from hanse.algorithms._observation import Scan, Shown
from hanse.algorithms.statistics import ALGORITHM, Query
from hanse.bundle import Bundle
from hanse.config import RunConfig
from hanse.errors import DataError, HanseError, NotAllowed, NotApproved
from hanse.kinds import Site
from hanse.messages import Record
from hanse.node.catalogue import Catalogue
from hanse.node.dataset import Dataset
from hanse.node.settings import Policy
from hanse.node.source import SHOWN, FileSource
from hanse.queries import TableSource
from hanse.table import Column, Table

ALLOWED = Policy(allow_federated_analytics=True)


def query(dataset: Dataset, *items: list[Any], nodes: tuple[str, ...] = ("alpha", "beta"), **more: Any) -> Bundle:
    options: dict[str, Any] = {"items": [list(i) for i in items], **more}
    config = RunConfig.parse(
        {"federated_strategy": "statistics", "model_options": options, "target_column": "", "sample_id_column": None}
    )
    alignment = features.survey({"alpha": dict(dataset.schema)}, sorted({c for i in items for c in i[1]}))
    bound = {node: {"name": dataset.name, "version": dataset.version} for node in nodes}
    return hanse.bundle.freeze(config, alignment.to_json(), bound)


def people(home: Path, rows: int = 200) -> Dataset:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "age": rng.integers(20, 90, rows).astype(float),
            "sex": rng.choice(["f", "m"], rows),
            "weight": rng.normal(70, 9, rows),
            "name": [f"patient {i}" for i in range(rows)],
        }
    )
    frame.write_csv(home / "people.csv")
    return Catalogue(home).add(home / "people.csv", name="people")


async def answer(node: Node, bundle: Bundle, ask: Mapping[str, Any] | None = None, run: str = "run-1") -> Record:
    combine = "merge" if "merge" in bundle.content["gathering"] else "sum"  # labels come first
    return await node.task(bundle, ask or {"ask": 0}, run=run, combine=combine)


def test_refused_by_default_and_accepted_at_once_where_the_owner_allows_it(tmp_path: Path) -> None:
    dataset = people(tmp_path)
    bundle = query(dataset, ["mean", ["age"], {}, []])

    async def main(policy: Policy) -> tuple[Any, list[str]]:
        async with running(tmp_path, policy=policy) as node:
            await node.propose(bundle)
            try:
                return await answer(node, bundle), node.actions()
            except HanseError as error:
                return error, node.actions()

    refused, actions = asyncio.run(main(Policy()))
    assert isinstance(refused, NotApproved)
    assert "proposal.rejected" in actions
    (tmp_path / "approvals.json").unlink(missing_ok=True)


def test_answered_with_files_and_audited(tmp_path: Path) -> None:
    dataset = people(tmp_path)
    frame = pl.read_csv(tmp_path / "people.csv")
    bundle = query(dataset, ["mean", ["age"], {}, []], ["value_counts", ["name"], {}, []])

    async def main() -> None:
        async with running(tmp_path, policy=ALLOWED) as node:
            await node.propose(bundle)  # no owner has to be there
            levels = await answer(node, bundle)
            sums = await node.task(bundle, {"ask": 1}, {"arrays.s": np.zeros(1)}, step=1)
            plan = ALGORITHM.init({"model_options": bundle.config.model_options}).data["query"]
            assert plan
            assert float(sums.arrays["a.1.sum"][0]) == pytest.approx(frame["age"].sum())
            assert int(sums.arrays["a.1.n"][0]) == 200
            assert bytes(levels.arrays["a.2.labels"].tobytes()) == b"[]"  # no name stands in ten rows
            assert b"patient" not in bytes(node.coordinator.left)
            assert "task.answered" in node.actions()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (dataclasses.replace(ALLOWED, statistics_denied_columns=("age",)), "age"),
        (dataclasses.replace(ALLOWED, statistics_columns=("weight",)), "age"),
    ],
)
def test_denied_columns(tmp_path: Path, policy: Policy, says: str) -> None:
    bundle = query(people(tmp_path), ["mean", ["age"], {}, []])

    async def main() -> None:
        async with running(tmp_path, policy=policy) as node:
            reply = await node.propose(bundle)
            assert says in json.dumps(dict(reply.data)) or "reject" in json.dumps(dict(reply.data))
            with pytest.raises((NotApproved, NotAllowed)):
                await answer(node, bundle)

    asyncio.run(main())


def test_a_node_alone_is_asked_in_vain_unless_its_owner_allows_it(tmp_path: Path) -> None:
    dataset = people(tmp_path)
    frame = pl.read_csv(tmp_path / "people.csv")
    item, alone = ["mean", ["age"], {}, []], dataclasses.replace(ALLOWED, allow_node_statistics=True)

    async def main(policy: Policy, bundle: Bundle, run: str) -> tuple[Any, Node]:
        async with running(tmp_path, policy=policy) as node:
            decided = await node.propose(bundle, run)
            if decided.data["decision"] != "accept":
                with pytest.raises(NotApproved):
                    await answer(node, bundle, run=run)
                return decided.data, node
            return await answer(node, bundle, run=run), node

    one, single = query(dataset, item, nodes=("alpha",)), query(dataset, item, per_node=True)
    refused, _ = asyncio.run(main(ALLOWED, one, "run-1"))
    assert "allow_node_statistics" in refused["reason"]
    answered, _ = asyncio.run(main(alone, one, "run-2"))
    assert float(answered.arrays["a.1.sum"][0]) == pytest.approx(frame["age"].sum())
    # asked with others, but for its own values: its gate sends a sentence, which the audit log keeps
    polite, node = asyncio.run(main(ALLOWED, single, "run-3"))
    assert dict(polite.arrays) == {}
    assert "alone" in polite.data["data"]["alone"]
    assert struct.pack("<d", frame["age"].sum()) not in bytes(node.coordinator.left)
    assert "task.answered" in node.actions()
    shown, _ = asyncio.run(main(alone, single, "run-4"))
    assert float(shown.arrays["a.1.sum"][0]) == pytest.approx(frame["age"].sum())


def test_what_a_node_shows_of_itself_has_no_small_cell(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "age": rng.normal(60, 9, 60),
            "ill": ["yes"] * 4 + ["no"] * 56,
            "rare": [float(i) if i < 6 else None for i in range(60)],
        }
    )
    frame.write_csv(tmp_path / "few.csv")
    dataset = Catalogue(tmp_path).add(tmp_path / "few.csv", name="few")
    items = [["mean", ["rare"], {}, []], ["value_counts", ["ill"], {}, []]]
    bundle = query(dataset, *items, per_node=True)

    async def main() -> tuple[Record, Record]:
        async with running(tmp_path, policy=dataclasses.replace(ALLOWED, allow_node_statistics=True)) as node:
            await node.propose(bundle)
            first = await answer(node, bundle)
            state = ALGORITHM.init({"model_options": bundle.config.model_options})
            place = [i.stat for i in Query.of(state.data["query"]).plan.items].index("levels")
            told = {k.removeprefix(f"a.{place}."): v for k, v in first.arrays.items() if k.startswith(f"a.{place}.")}
            sent = {f"arrays.{place}.{name}": array for name, array in told.items()}
            return first, await node.task(bundle, {"ask": 1}, sent, step=1)

    first, second = asyncio.run(main())
    numbers = [
        float(v)
        for r in (first, second)
        for k, a in r.arrays.items()
        if k.endswith((".n", ".sum", ".counts"))
        for v in np.ravel(a)
    ]
    assert numbers
    assert not {4.0, 6.0, 15.0, 56.0} & set(numbers)  # neither the few, their sum, nor 60 - 4


def test_choices_of_rows_are_remembered_by_a_restarted_node(tmp_path: Path) -> None:
    dataset = people(tmp_path)
    old = sorted(pl.read_csv(tmp_path / "people.csv")["weight"])
    first = query(dataset, ["mean", ["age"], {}, []], where=[["weight", "<", old[150]]])
    second = query(dataset, ["mean", ["age"], {}, []], where=[["weight", "<", old[151]]])  # one person more

    async def main(bundle: Bundle, run: str) -> Record:
        async with running(tmp_path, policy=ALLOWED) as node:
            await node.propose(bundle, run)
            return await answer(node, bundle, run=run)

    asyncio.run(main(first, "run-1"))
    assert json.loads((tmp_path / SHOWN).read_text())[dataset.version]["filters"]
    with pytest.raises(NotAllowed) as error:
        asyncio.run(main(second, "run-2"))
    assert not any(c.isdigit() for c in error.value.message)
    (tmp_path / SHOWN).write_text("damaged")
    with pytest.raises(HanseError):  # what cannot be remembered is not answered
        asyncio.run(main(first, "run-3"))


@pytest.mark.parametrize("kind", ["csv", "parquet", "tsv"])
def test_a_file_in_batches_gives_what_the_whole_table_gives(tmp_path: Path, kind: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("hanse.node.source.ROWS", 64)
    rng = np.random.default_rng(2)
    frame = pl.DataFrame(
        {
            "x": [None if rng.random() < 0.1 else float(v) for v in rng.normal(size=500)],
            "k": rng.integers(0, 5, 500),
            "t": rng.choice(["a", "b c", "ü"], 500),
            "b": rng.random(500) < 0.5,
        }
    )
    path = tmp_path / f"data.{kind}"
    if kind == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if kind == "tsv" else ",")
    catalogue = Catalogue(tmp_path / "node")
    dataset = catalogue.add(path)
    source = catalogue.source(dataset)
    assert isinstance(source, FileSource)
    table = catalogue.load(dataset)
    for columns in (["x"], ["x", "k"], ["x", "k", "t", "b"]):
        batches = list(source.batches(columns))
        assert sum(b.rows for b in batches) == 500
        for name in columns:
            got = [label for b in batches for label in b[name].labels()]
            assert got == table[name].labels()
    items = [["variance", ["x"], {}, []], ["value_counts", ["t"], {}, []]]
    answers = []
    for rows in (source, None):
        site = Site("a", table, {"model_options": {"items": items}}, source=rows)
        answers.append(ALGORITHM.answer(site, Record({"ask": 1})).record.arrays)
    for name, array in answers[0].items():
        np.testing.assert_allclose(array, answers[1][name], rtol=1e-12)


def test_a_file_that_changes_is_not_answered_from(tmp_path: Path) -> None:
    dataset = people(tmp_path)
    source = Catalogue(tmp_path).source(dataset)
    (tmp_path / "people.csv").write_text("age,weight,sex,name\n1,2,f,x\n")
    with pytest.raises(DataError, match="changed|number of rows"):
        list(source.batches(["age"]))
    with pytest.raises(DataError, match="changed"):
        Catalogue(tmp_path).source(dataset)


def test_numbers_with_spaces_fall_back_to_the_strict_reader(tmp_path: Path) -> None:
    (tmp_path / "spaced.csv").write_text("x,y\n" + "".join(f" {i} ,{i}\n" for i in range(30)))
    catalogue = Catalogue(tmp_path / "node")
    source = catalogue.source(catalogue.add(tmp_path / "spaced.csv"))
    assert sum(float(b["x"].values.sum()) for b in source.batches(["x", "y"])) == sum(range(30))


def test_rows_are_let_go_before_more_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of a file was in memory until there was something of the next one: two, where one was to be."""
    alive: list[Any] = []

    def batches(path: Path, columns: Any, rows: int, schema: Any, **options: Any) -> Any:
        for _ in range(3):
            assert all(values() is None for values in alive)
            values = np.arange(50.0)
            alive.append(weakref.ref(values))
            table = Table({"x": Column.numeric(values)})
            del values
            yield table
            del table

    monkeypatch.setattr("hanse.readers.typed", batches)
    source = features.SettledSource(FileSource(tmp_path, {"x": "numeric"}, 150, {}, {}, lambda: None), {})
    items = [["variance", ["x"], {}, []], ["histogram", ["x"], {"bin_edges": [0.0, 25.0, 50.0]}, []]]
    site = Site("a", Table(), {"model_options": {"items": items}}, source=source)
    assert ALGORITHM.answer(site, Record({"ask": 0})).record.arrays
    assert len(alive) == 3


def test_what_was_shown_before_is_read_once_for_an_ask_however_many_columns_it_is_of(monkeypatch: Any) -> None:
    """For each of 80 items all that was shown of 20 columns was read anew for each of these: 127,000 texts of JSON."""
    rng = np.random.default_rng(0)
    table = Table({f"again{i}": Column.numeric(rng.normal(size=400)) for i in range(20)})
    items = [["histogram", [name], {"bin_edges": [-1.0, 0.0, 1.0]}, []] for name in table.names]
    source, read, compared = TableSource(table), [0], [0]

    def reads(text: str) -> Any:
        read[0] += 1
        return json.loads(text)

    def compares(scan: Scan, shown: Shown) -> bool:
        compared[0] += 1
        return counts_at(scan, shown)

    counts_at = Scan.counts_at
    monkeypatch.setattr("hanse.algorithms._observation.loads", reads)
    monkeypatch.setattr(Scan, "counts_at", compares)
    caches: list[dict[str, Any]] = [{}, {}]
    first, again = (
        ALGORITHM.answer(
            Site("a", table, {"model_options": {"items": items}}, cache=cache, source=source), Record({"ask": 0})
        )
        for cache in caches
    )
    assert source.memory["edges"]
    for name, array in first.record.arrays.items():
        np.testing.assert_array_equal(array, again.record.arrays[name])
    assert 20 <= read[0] <= 3 * 20
    assert compared[0] <= 2
