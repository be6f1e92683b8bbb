"""What Fed-BioMed's document states of federated analytics (docs/conformance.md, rows A), where no test of a
part shows it yet. The first two stand on real processes, the others on parts."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hanse
from hanse import registry
from hanse.algorithms.statistics import ALGORITHM, Query
from hanse.errors import ConfigError, Refused, RunFailed, Unusable
from hanse.experiment.analytics import FederatedAnalytics
from hanse.gathering.plain import Contributions
from hanse.kinds import Answer, Ask, Combine, Site
from hanse.messages import Record
from hanse.queries import LABELS, NUMBERS, TableSource, Values, make_item, plan, statistic
from hanse.statistics import _powers
from hanse.table import Column, ColumnKind, Table

from .conftest import World
from .conftest import hanse as hanse_command

ROOT = Path(__file__).parents[2]


def two(frame: pd.DataFrame, cut: int, **policy: Any) -> FederatedAnalytics:
    return hanse.simulate({"a": frame[:cut], "b": frame[cut:]}, policy=policy).analytics()


# ---------------------------------------------------------------- real processes


def test_the_flow_from_the_call_to_the_number(world: World) -> None:
    """A1, A7, A48, A52: a call becomes one run; both nodes get its bundle and one task for each of its asks; each
    one's gate and worker answer from the file; the replies become one result, and no reply is a row."""
    places = {name: str(world.federation.home / name) for name in world.owners}
    for place in places.values():
        hanse_command("node", "policy", "set", "allow_federated_analytics", "true", "--home", place)
    pooled = pd.concat([pd.read_csv(world.data(name)) for name in places])
    with hanse.connect(world.federation.url, world.scientist) as federation:
        analytics = federation.analytics(tags=["heart"])
        result = analytics.fetch_stats(["mean", "variance"], ["age", "marker"])
    assert analytics.requests == 1
    assert result.nodes == ("hill", "lake")
    assert result.values("mean") == pytest.approx(pooled[["age", "marker"]].mean().to_dict(), rel=1e-12)
    assert result.values("variance") == pytest.approx(pooled[["age", "marker"]].var().to_dict(), rel=1e-12)
    assert result.values("count") == {"age": 160, "marker": 160}
    [fetched] = result.fetched
    for name, place in places.items():
        told = hanse_command("node", "audit", "--json", "--last", "0", "--home", place).splitlines()
        mine = [e for e in map(json.loads, told) if e["subject"] == fetched.run_id]
        assert [e["detail"]["step"] for e in mine if e["action"] == "task.answered"] == [0, 1], name
        assert world.recorders[name].received().count(fetched.run_id.encode()) >= 3, name  # bundle, tasks
        for rows in pd.read_csv(world.data(name))["marker"]:
            assert np.float64(rows).tobytes() not in world.recorders[name].sent()


def test_who_may_be_shown_alone_and_who_not(world: World) -> None:
    """A46: of two nodes one owner lets it be shown by itself; the result has its values, and a sentence for the
    other, whose gate also refuses a question that is put to it alone."""
    home = world.federation.home
    for name, alone in (("lake", "true"), ("hill", "false")):
        for key, value in (("allow_federated_analytics", "true"), ("allow_node_statistics", alone)):
            hanse_command("node", "policy", "set", key, value, "--home", str(home / name))
    frames = {name: pd.read_csv(world.data(name)) for name in world.owners}
    with hanse.connect(world.federation.url, world.scientist) as federation:
        result = federation.analytics(tags=["heart"], per_node=True).fetch_stats("mean", "marker")
        assert set(result.node_stats()) == {"lake"}
        assert result.values("mean", "lake")["marker"] == pytest.approx(frames["lake"]["marker"].mean(), rel=1e-12)
        assert "its owner gives no statistics of it alone" in result.alone["hill"]
        assert result.values("mean")["marker"] == pytest.approx(pd.concat(frames.values())["marker"].mean(), rel=1e-12)
        assert any(note.startswith("hill is not shown by itself") for note in result.notes)
        one = federation.analytics(tags=["heart"], nodes=["lake"])
        assert one.mean("marker")["marker"] == pytest.approx(frames["lake"]["marker"].mean(), rel=1e-12)
        with pytest.raises(Refused, match="asked alone"):
            federation.analytics(tags=["heart"], nodes=["hill"]).mean("marker")


# ---------------------------------------------------------------- the node: schema, passes, memory


class Counting:
    """Rows in batches, made when they are asked for; remembers what was asked."""

    def __init__(self, batches: int, rows: int = 1 << 16, columns: Sequence[str] = ("x", "y", "z")) -> None:
        self.schema: Mapping[str, str] = {**dict.fromkeys(columns, "numeric"), "t": "categorical"}
        self.rows, self.memory = batches * rows, dict[str, Any]()
        self._batches, self._each = batches, rows
        self.asked: list[tuple[str, ...]] = []

    def batches(self, columns: Sequence[str], rows: int = 0) -> Iterator[Table]:
        self.asked.append(tuple(columns))
        for number in range(self._batches):
            rng = np.random.default_rng(number)
            every = {name: Column.numeric(rng.normal(size=self._each)) for name in self.schema if name != "t"}
            every["t"] = Column(ColumnKind.CATEGORICAL, rng.integers(0, 2, self._each).astype(np.int32), ("a", "b"))
            yield Table({name: every[name] for name in columns})


def partial(source: Any, items: list[Any], **more: Any) -> list[Record]:
    """What a node that is alone sends to each ask."""
    algorithm = ALGORITHM
    here = Site("a", Table(), {"model_options": {"items": items}}, source=source, owner=more)
    state, sent = algorithm.init(here.config), []
    while isinstance(ask := algorithm.ask(state), Ask):
        said = algorithm.answer(here, ask.record).record
        sent.append(said)
        record = Record(said.data, {f"a.{k}": np.asarray(v) for k, v in said.arrays.items()})
        state = algorithm.tell(state, Contributions(((Answer("a", 1.0, said.data, {}, 0), record),), {}, ask.combine))
    return sent


def test_the_schema_decides_what_is_read_and_each_row_is_read_once() -> None:
    """A5, A6, A53: from the dataset's schema the accumulators of a query, wired to their columns; one pass over the
    rows of the columns that are needed, for all of them; what leaves is partial statistics."""
    source = Counting(3)
    sent = partial(
        source,
        [["variance", ["x"], {}, []], ["histogram", ["y"], {"bin_edges": [-1, 0, 1]}, []], ["count", ["t"], {}, []]],
    )
    assert source.asked == [("t", "x", "y")]  # not z, and each row once, though a variance takes two asks
    assert len(sent) == 2
    whole = Table({n: Column.numeric(np.concatenate([b[n].values for b in source.batches([n])])) for n in ("x", "y")})
    x, y = whole["x"].values, whole["y"].values
    sums = {k: v for record in sent for k, v in record.arrays.items()}
    assert int(sums["0.n"][0]) == len(x)
    assert float(sums["1.sum"][0]) == pytest.approx(x.sum())
    assert float(sums["2.s"][0, 1]) == pytest.approx(((x - x.mean()) ** 2).sum(), rel=1e-12)
    assert sums["3.counts"][0].tolist() == [(y < -1).sum(), *np.histogram(y, [-1, 0, 1])[0], (y > 1).sum()]
    assert int(sums["4.n"][0]) == len(x)
    query = plan((make_item("variance", ["x"], {}), make_item("histogram", ["x"], {"bins": 4})))
    for item in query.items:
        found = statistic(item.stat)
        assert found.kinds & (NUMBERS | LABELS)
        assert all(need in query.items for need in found.needs(item)), item.name


def test_memory_does_not_grow_with_the_rows() -> None:
    """A6: ten times the rows, the same memory."""
    items = [[s, [c], {}, []] for s in ("variance", "missing", "moments") for c in ("x", "y")]
    items += [["histogram", ["x"], {"bin_edges": list(range(-50, 50))}, []], ["median", ["x"], {}, []]]
    partial(Counting(1), items)  # what is loaded at first use
    peaks = []
    for batches in (2, 20):
        tracemalloc.start()
        partial(Counting(batches), items)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 0.5 * 20 * (1 << 16) * 2 * 8  # all rows of the two columns


# ---------------------------------------------------------------- the interface


def test_arguments_hold_the_schema_themselves() -> None:
    """A23: ``fetch_stats_with_args`` takes no ``dataset_schema``: which columns, and what of each, is said in it."""
    assert "dataset_schema" in inspect.signature(FederatedAnalytics.fetch_stats).parameters
    assert "dataset_schema" not in inspect.signature(FederatedAnalytics.fetch_stats_with_args).parameters
    frame = pd.DataFrame({n: np.arange(40.0) * (i + 1) for i, n in enumerate(("year", "price", "mpg"))})
    analytics = two(frame, 20)
    found = analytics.fetch_stats_with_args(
        {
            "price": {"histogram": {"bin_edges": [0, 40, 80]}},
            "mpg": {"histogram": {"bin_edges": [0, 60]}, "mean": {}},
        }
    )
    assert set(found.values("histogram")) == {"price", "mpg"}
    assert found.values("histogram")["mpg"]["bin_edges"] == [0.0, 60.0]
    assert set(found.values("mean")) == {"mpg"}
    asked = {c for item in found.fetched[0].plan.items for c in item.columns}
    assert asked == {"price", "mpg"}


def test_only_what_is_missing_is_asked() -> None:
    """A3: of a question that is answered in part already, only the rest is sent."""
    analytics = two(pd.DataFrame({"x": np.arange(40.0), "y": np.ones(40)}), 20)
    analytics.fetch_stats("mean", ["x"])
    result = analytics.fetch_stats(["mean", "missing"], ["x", "y"])
    assert analytics.requests == 2
    assert {(i.stat, i.columns) for i in result.fetched[-1].plan.wanted} == {
        ("mean", ("y",)),
        ("missing", ("x",)),
        ("missing", ("y",)),
    }
    assert result.values("mean") == {"x": 19.5, "y": 1.0}


def test_the_order_of_nodes_and_arguments_makes_no_new_question() -> None:
    """A25: neither the order of node ids nor that of keys, nor how a number is written."""
    frame = pd.DataFrame({"x": np.arange(60.0), "y": np.arange(60.0)})
    federation = hanse.simulate({"a": frame[:20], "b": frame[20:40], "c": frame[40:]})
    analytics = federation.analytics(nodes=["a", "c"])
    options = {"bin_edges": [0, 30, 60], "bins": None}
    first = analytics.fetch_stats_with_args({"x": {"histogram": options}, "y": {"mean": {}}})
    analytics.nodes = ["c", "a"]
    again = {"y": {"mean": {}}, "x": {"histogram": {"bins": None, "bin_edges": (0.0, 30.0, 6e1)}}}
    assert analytics.fetch_stats_with_args(again).global_stats() == first.global_stats()
    assert analytics.requests == 1
    analytics.nodes = ["a", "b"]
    assert analytics.fetch_stats_with_args(again).global_stats() != first.global_stats()
    assert analytics.requests == 2


# ---------------------------------------------------------------- aggregation


def test_a_count_is_a_number_or_one_for_each_key() -> None:
    """A33: sums of whole numbers, over all rows, per group and per label; as JSON has them."""
    frame = pd.DataFrame({"x": [1.0, np.nan] * 40, "sex": ["f"] * 50 + ["m"] * 30})
    federation = hanse.simulate({"a": frame[:45], "b": frame[45:]}, policy={"minimum_cell": 1})
    count = federation.analytics().count(["x"])["x"]
    assert (count, type(count)) == (40, int)
    assert federation.analytics(by="sex").count(["x"])["x"] == {"f": 25, "m": 15}
    assert federation.analytics().value_counts("sex")["sex"] == {"f": 50, "m": 30}
    assert json.loads(json.dumps(federation.analytics().fetch_stats(["count", "value_counts"]).global_stats()))


def test_nothing_counted_has_no_mean_and_one_row_no_variance() -> None:
    """A35, A36: None, not an error nor NaN; a node without values, or with one, does not spoil the others'."""
    open_ = {"minimum_cell": 1}
    none = two(pd.DataFrame({"x": [np.nan] * 9}), 4, **open_).fetch_stats(["mean", "variance", "std", "sum"])
    assert none.global_stats() == {
        "count": {"x": 0},
        "mean": {"x": None},
        "variance": {"x": None},
        "std": {"x": None},
        "sum": {"x": 0.0},
    }
    one = two(pd.DataFrame({"x": [7.0, np.nan]}), 1, **open_).fetch_stats(["mean", "variance"]).global_stats()
    assert (one["mean"]["x"], one["variance"]["x"]) == (7.0, None)
    values = [3.0, *np.arange(20.0)]  # the first node has one row: it counts between the sites, not within
    uneven = two(pd.DataFrame({"x": values}), 1, **open_).variance()["x"]
    assert uneven == pytest.approx(np.var(values, ddof=1), rel=1e-14)
    part = two(pd.DataFrame({"x": [np.nan] * 5 + list(np.arange(20.0))}), 5, **open_)
    assert part.fetch_stats(["mean", "variance"]).values("mean")["x"] == 9.5


def test_histograms_add_bin_by_bin_and_other_bins_are_refused_by_name() -> None:
    """A38: edges are part of the question, so all nodes count at the same ones; one that sends other bins is named."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"x": rng.normal(size=400)})
    edges = [-1.0, 0.0, 0.5, 2.0]
    found: Any = two(frame, 150, minimum_cell=1).fetch_stats_with_args({"x": {"histogram": {"bin_edges": edges}}})
    found = found.values("histogram")["x"]
    assert found["counts"] == np.histogram(frame["x"], edges)[0].tolist()
    assert (found["below"], found["above"]) == ((frame["x"] < -1).sum(), (frame["x"] > 2).sum())

    algorithm = ALGORITHM

    def said(edges: list[float]) -> tuple[Any, Any]:
        items = [["histogram", ["x"], {"bin_edges": edges}, []]]
        here = Site("n", Table.of(frame), {"model_options": {"items": items}}, source=TableSource(Table.of(frame)))
        state = algorithm.init(here.config)
        return state, algorithm.answer(here, Record({"ask": 0})).record

    state, good = said(edges)
    _, other = said([-1.0, 0.0, 2.0])
    both = [
        (Answer(n, 1.0, r.data, {}, 0), Record(r.data, {f"a.{k}": v for k, v in r.arrays.items()}))
        for n, r in (("ulm", good), ("bonn", other))
    ]
    with pytest.raises(Unusable) as error:
        algorithm.tell(state, Contributions(tuple(both), {}, Combine.SUM))
    assert "bonn" in error.value.nodes


def test_a_variance_far_from_zero() -> None:
    """A58: where E[x²] - E[x]² has no digit left, the merge about the common mean loses none."""
    rng = np.random.default_rng(2)
    x = 1e9 + rng.normal(size=5000)
    naive = (x @ x) / len(x) - x.mean() ** 2
    exact = np.var(x - 1e9, ddof=1)
    assert abs(naive / exact - 1) > 1
    parts = [_powers.observe(part, 2) for part in np.array_split(x, [1, 17, 4000])]
    whole = parts[0]
    for part in parts[1:]:
        whole = _powers.merge(whole, part)
    n, s = float(whole["n"]), whole["s"]
    assert _powers.about_mean(n, s)[2] / (n - 1) == pytest.approx(exact, rel=1e-9)
    assert two(pd.DataFrame({"x": x}), 17).variance()["x"] == pytest.approx(exact, rel=1e-9)


def test_missing_values_are_left_out_and_counted() -> None:
    """A57: NaN, None and infinities are in no statistic, ``missing`` counts them; text has counts, and a mean of it
    is an error that says so."""
    x = np.arange(120.0)
    x[::5], x[1::5] = np.nan, np.inf
    frame = pd.DataFrame({"x": x, "t": ["u", None, "v"] * 40})
    analytics = two(frame, 60)
    fine = x[np.isfinite(x)]
    result = analytics.fetch_stats(["count", "mean", "variance", "missing"], ["x"])
    assert result.values("count") == {"x": len(fine)}
    assert result.values("mean")["x"] == fine.mean()
    assert result.values("variance")["x"] == pytest.approx(fine.var(ddof=1))
    assert result.values("missing")["x"] == {"rows": 120, "missing": 24, "infinite": 24}
    assert analytics.count(["t"]) == {"t": 80}
    assert analytics.fetch_stats().values("mean").keys() == {"x"}  # what does not fit is left out, unless named
    with pytest.raises(ConfigError, match="mean cannot be asked of 't', which is categorical"):
        analytics.mean(["t"])


# ---------------------------------------------------------------- components


PARTS = {  # what the document's table of components is responsible for, and what is that here
    "names of statistics": "hanse.registry:names",
    "wire schemas": "hanse.messages:Message",
    "combining over nodes": "hanse.queries:Statistic.merge",
    "what a node computes, in which order": "hanse.queries:plan",
    "registry": "hanse.queries:statistic",
    "primitive operations": "hanse.statistics._powers:observe",
    "rows": "hanse.queries:Values",
    "images": "hanse.algorithms._observation:expanded",
    "the abstract accumulator": "hanse.queries:Statistic",
    "the owner's flag": "hanse.node.settings:Policy.allow_federated_analytics",
    "routing at the node": "hanse.node.agent:Agent",
    "answering": "hanse.algorithms.statistics:Statistics.answer",
    "interface and cache": "hanse.experiment.analytics:FederatedAnalytics",
    "result": "hanse.experiment.analytics_result:FAResult",
    "where it is found": "hanse.experiment.proposal:Experiment.analytics",
    "sending and collecting": "hanse.rounds:Loop",
}


@pytest.mark.parametrize("part", PARTS)
def test_each_component_of_the_document_has_its_place(part: str) -> None:
    """A40: one place for each responsibility."""
    module, _, name = PARTS[part].partition(":")
    found: Any = importlib.import_module(module)
    for step in name.split("."):
        found = (
            found.__dataclass_fields__[step]
            if step in getattr(found, "__dataclass_fields__", ())
            else getattr(found, step)
        )
    assert found is not None


def test_no_other_file_knows_a_single_statistic() -> None:
    """A8, A32: the folder is the registry of what combines over nodes; nothing lists the statistics a second time."""
    names = set(registry.names("statistics"))
    for path in (ROOT / "src" / "hanse").rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, (ast.List, ast.Tuple, ast.Set, ast.Dict)):
                keys = item.keys if isinstance(item, ast.Dict) else item.elts
                listed = {k.value for k in keys if isinstance(k, ast.Constant)}
                assert len(listed & names) < 0.5 * len(names), f"{path.name}:{item.lineno}"
    for name in names:  # each brings both of its halves
        found = statistic(name)
        assert callable(found.final)
        assert callable(found.merge)
        assert found.observe is None or name not in ("std", "sum", "correlation")  # derived: no node computes them


def test_a_query_of_another_version_is_refused() -> None:
    """A41: fields that this version does not know are an error, not a guess; so is a reply with other arrays."""
    with pytest.raises(ConfigError, match="no option 'noise'"):
        Query.of({"items": [["mean", ["x"], {}, []]], "noise": 1})
    with pytest.raises(ConfigError, match="no argument 'weights'"):
        Query.of({"items": [["mean", ["x"], {"weights": "w"}, []]]})
    with pytest.raises(ConfigError, match="statistic, columns, arguments, by"):
        Query.of({"items": [["mean", ["x"], {}]]})


def test_rows_and_pixels_are_accumulated_alike() -> None:
    """A55: the accumulators of rows, images and the primitive operations, against NumPy, in any number of batches."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (40, 6, 5, 2), dtype=np.uint8)
    x = rng.normal(size=40)
    table = Table({"x": Column.numeric(x), "scan": Column(ColumnKind.IMAGE, pixels)})

    class Small(TableSource):
        def batches(self, columns: Sequence[str], rows: int = 7) -> Iterator[Table]:
            yield from super().batches(columns, 7)

    items = [["mean", ["x"], {}, []], ["mean", ["scan[1]"], {}, []], ["count", ["scan[shape]"], {}, []]]
    whole, parts = partial(TableSource(table), items), partial(Small(table), items)
    for a, b in zip(whole, parts, strict=True):
        for name in a.arrays:
            np.testing.assert_allclose(np.asarray(a.arrays[name]), np.asarray(b.arrays[name]), rtol=1e-14)
    sums = parts[0].arrays
    places = {i.name: n for n, i in enumerate(Query.of({"items": items}).plan.items)}
    assert float(sums[f"{places['mean of scan[1]']}.sum"][0]) == float(pixels[..., 1].sum())
    assert int(sums[f"{places['count of scan[shape]']}.n"][0]) == 40
    assert float(sums[f"{places['mean of x']}.sum"][0]) == pytest.approx(x.sum())
    assert Values([Column.numeric([1.0, np.nan, np.inf])]).finite.tolist() == [1.0]


def test_a_reply_that_does_not_come_is_in_the_result() -> None:
    """A31: the number of answers that is enough can be set; who is in it, and who is not, is said."""
    frame = pd.DataFrame({"x": np.arange(90.0)})
    sites = {"a": frame[:30], "b": frame[30:60], "c": pd.DataFrame({"x": [1e308] * 20})}
    analytics = hanse.simulate(sites).analytics()
    result = analytics.fetch_stats("mean")
    assert result.nodes == ("a", "b")
    assert list(result.failures) == ["c"]
    assert float(result.values("mean")["x"]) == frame["x"][:60].mean()
    with pytest.raises(RunFailed, match="c"):
        hanse.simulate(sites).analytics(require="all").fetch_stats("mean")
