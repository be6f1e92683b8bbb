"""Table 1 against pooled rows: across groups and across sites, and what is kept back in it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import hanse
from hanse.errors import ConfigError
from hanse.experiment.table_one import TableOne
from hanse.rough import Rough
from tests.examples import examples

OPEN = {"minimum_cell": 1, "allow_node_statistics": True}


def people(rows: int, seed: int, gaps: float = 0.1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 9, rows),
            "bmi": 1e4 + rng.normal(0, 4, rows),
            "smoker": rng.random(rows) < 0.3,
            "stage": rng.choice(["I", "II", "III"], rows, p=[0.5, 0.3, 0.2]),
            "sex": rng.choice(["f", "m"], rows),
            "arm": rng.choice(["a", "b", "c"], rows),
        }
    )
    for name in ("age", "bmi"):
        frame.loc[rng.random(rows) < gaps, name] = np.nan
    frame.loc[rng.random(rows) < gaps, "stage"] = None
    return frame


def pooled(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, float | None]:
    """Austin (2009), by pandas."""
    found: dict[str, float | None] = {}
    for name in ("age", "bmi"):
        both = [part[name].dropna() for part in (one, other)]
        if min(map(len, both)) < 2:
            found[name] = None
            continue
        spread = sum((x - x.mean()).pow(2).sum() / (len(x) - 1) for x in both)
        found[name] = (both[0].mean() - both[1].mean()) / np.sqrt(spread / 2) if spread else None
    for name, levels in (("smoker", [False, True]), ("stage", ["I", "II", "III"])):
        for level in levels:
            both = [part[name].dropna() for part in (one, other)]
            key = f"{name} = {int(level) if name == 'smoker' else level}"
            if not all(len(x) for x in both):
                found[key] = None
                continue
            p, q = ((x == level).mean() for x in both)
            spread = p * (1 - p) + q * (1 - q)
            found[key] = (p - q) / np.sqrt(spread / 2) if spread else None
    return found


def same(found: dict[str, float | None], expected: dict[str, float | None]) -> None:
    for name, value in found.items():  # a level that no site has is not in it
        if expected[name] is None:
            assert value is None, name
        else:
            assert value == pytest.approx(expected[name], rel=1e-10, abs=1e-10), name


VARIABLES = ["age", "bmi", "smoker", "stage"]


@examples(10, *HealthCheck)
@given(st.integers(0, 10_000), st.sampled_from([40, 300]), st.sampled_from([0.0, 0.1, 0.4]))
def test_it_equals_pooled_rows(seed: int, rows: int, gaps: float) -> None:
    frame = people(rows, seed, gaps)
    cuts = [0, rows // 7, rows // 2, rows]
    sites = {f"s{i}": frame[a:b] for i, (a, b) in enumerate(itertools.pairwise(cuts))}
    analytics = hanse.simulate(sites, policy=OPEN, workers=1).analytics()
    for by in ("sex", "arm"):
        parts = {label: part for label, part in frame.groupby(by)}
        for contrast, found in analytics.table_one(by, "pairs", VARIABLES).smd.items():
            a, b = contrast.split(" vs ")
            same(found, pooled(parts[a], parts[b]))
    for contrast, found in analytics.table_one("arm", "rest", VARIABLES).smd.items():
        a = contrast.split(" vs ")[0]
        same(found, pooled(frame[frame["arm"] == a], frame[frame["arm"] != a]))
    across = analytics.table_one(dataset_schema=VARIABLES)
    assert list(across.contrasts) == ["s0 vs rest", "s1 vs rest", "s2 vs rest"]
    for contrast, found in across.smd.items():
        name = contrast.split(" vs ")[0]
        rest = pd.concat([part for other, part in sites.items() if other != name])
        same(found, pooled(sites[name], rest))
    for contrast, found in analytics.table_one(compare="pairs", dataset_schema=VARIABLES).smd.items():
        a, b = contrast.split(" vs ")
        same(found, pooled(sites[a], sites[b]))


def sites() -> dict[str, pd.DataFrame]:
    return {"ulm": people(300, 1), "bonn": people(250, 2), "jena": people(200, 3).assign(age=lambda f: f["age"] + 9)}


def test_numbers_and_shares_of_each_group() -> None:
    parts = sites()
    frame = pd.concat(parts.values())
    table = hanse.simulate(parts).analytics().table_one("sex")
    got = table.to_frame().set_index(["variable", "level"])
    assert float(got.loc[("age", None)]["mean f"]) == pytest.approx(frame[frame["sex"] == "f"]["age"].mean())
    assert float(got.loc[("age", None)]["sd m"]) == pytest.approx(frame[frame["sex"] == "m"]["age"].std())
    men = frame[frame["sex"] == "m"]["stage"].dropna()
    assert got.loc[("stage", "II")]["n m"] == (men == "II").sum()
    assert float(got.loc[("stage", "II")]["mean m"]) == pytest.approx((men == "II").mean())
    assert table.groups == ["f", "m"]
    assert list(table.contrasts) == ["f vs m"]
    smd = hanse.simulate(parts).analytics().smd("sex", dataset_schema=["age"])["age"]
    assert float(got.loc[("age", None)]["smd f vs m"]) == pytest.approx(smd, rel=1e-14)


def test_a_site_that_is_unlike_the_others_stands_first() -> None:
    table = hanse.simulate(sites(), policy={"allow_node_statistics": True}).analytics().table_one()
    assert next(iter(table.unbalanced())) == "age"
    html = table._repr_html_()
    assert "<svg" in html
    assert html.index("<title>age</title>") < html.index("<title>bmi</title>")
    assert "jena vs rest" in html
    assert "age" in repr(table)
    figure = table.plot()
    [axes] = figure.axes
    assert axes.get_yticklabels()[0].get_text() == "age"
    assert len(axes.collections) == 3


# ---------------------------------------------------------------- what is kept back


def by_site(parts: dict[str, pd.DataFrame], **allowed: bool) -> Any:
    """A federation where only some owners let their site be shown alone."""
    from hanse.algorithms.statistics import Statistics

    federation = hanse.simulate(parts)
    answer = Statistics.answer

    def own(self: Statistics, site: Any, ask: Any) -> Any:
        site.owner = {**site.owner, "allow_node_statistics": allowed.get(site.node, False)}
        return answer(self, site, ask)

    patch = pytest.MonkeyPatch()
    patch.setattr(Statistics, "answer", own)
    return federation, patch


def test_a_site_can_refuse_to_be_shown_and_does_not_follow_from_the_others() -> None:
    parts = sites()
    federation, patch = by_site(parts, ulm=True, bonn=True)
    with patch.context():
        try:
            table: TableOne = federation.analytics().table_one(dataset_schema=VARIABLES)
        finally:
            patch.undo()
    assert table.groups == ["bonn", "ulm"]
    assert any(note.startswith("jena is not in it: its owner gives no statistics of it alone") for note in table.notes)
    same(table.smd["bonn vs ulm"], pooled(parts["bonn"], parts["ulm"]))  # the rest is without jena, too
    alone, patch = by_site(parts, ulm=True)
    try:
        with pytest.raises(ConfigError, match=r"there are ulm\. bonn is not in it: its owner"):
            alone.analytics().table_one()
    finally:
        patch.undo()
    with pytest.raises(ConfigError, match="there are none"):
        hanse.simulate(parts).analytics().table_one()


def test_few_are_kept_back_and_have_no_difference() -> None:
    parts = sites()
    parts["ulm"]["stage"] = ["I"] * 4 + ["II"] * 146 + ["III"] * 150
    parts["ulm"].loc[6:, "bmi"] = np.nan
    table = hanse.simulate(parts, policy={"allow_node_statistics": True}).analytics().table_one()
    found = table.smd["ulm vs rest"]
    assert found["stage = I"] is None
    assert found["stage = II"] is None  # 300 - 150 - 146 would be 4
    assert found["stage = III"] is not None
    assert found["bmi"] is None
    frame = table.to_frame().set_index(["variable", "level"])
    assert not {4, 146} & set(frame["n ulm"].dropna())
    assert "kept back" in repr(table)
    assert any("kept back at ulm" in note for note in table.notes)


def test_margins_do_not_give_a_level_of_a_group_away() -> None:
    """Of the men four are ill: neither how many are not, nor how many women are, may be shown."""
    ill = ["yes"] * 40 + ["no"] * 60 + ["yes"] * 4 + ["no"] * 56
    frame = pd.DataFrame({"sex": ["f"] * 100 + ["m"] * 60, "ill": ill})
    federation = hanse.simulate({"a": frame})
    table = federation.analytics().table_one("sex", dataset_schema=["ill"])
    assert all(value is None for value in table.smd["f vs m"].values())
    assert table.to_frame()[["n f", "n m"]].isna().all(axis=None)
    crosstab = federation.analytics().crosstab("ill", "sex")
    assert crosstab["table"] == {"no": {"f": None, "m": None}, "yes": {"f": None, "m": None}}


def test_means_of_dates_are_dates() -> None:
    """They were days since 1970, below 0 before."""
    rng, parts = np.random.default_rng(0), sites()
    for frame in parts.values():
        frame["born"] = pd.Timestamp("1950-01-01") + pd.to_timedelta(rng.integers(0, 9000, len(frame)), unit="D")
    table = hanse.simulate(parts).analytics().table_one("sex", dataset_schema=["born"])
    women = pd.concat(parts.values()).query("sex == 'f'")["born"]
    assert f"{women.mean().round('D').date()} ({women.std().days / 1000:.2f}e+03 days)" in repr(table)
    assert isinstance(table.to_frame()["mean f"][0], float)  # for computing


def test_notes_that_say_one_thing_are_one() -> None:
    """A table of many variables ended in a note for each of them, and one for each of their levels."""
    rng = np.random.default_rng(0)

    def site(rows: int) -> pd.DataFrame:
        found = pd.DataFrame({"arm": rng.choice(["a", "b"], rows, p=[0.8, 0.2])})
        for i in range(12):
            found[f"x{i}"], found[f"h{i}"] = (
                rng.normal(size=rows),
                rng.choice(["u", "v", "w"], rows, p=[0.7, 0.25, 0.05]),
            )
        return found

    frames = {f"s{i:02d}": site(rows) for i, rows in enumerate([300, 250, 90, 40, 30, 25, *[8] * 6])}
    table = hanse.simulate(frames).analytics().table_one("arm")
    assert 0 < len(table.notes) <= 6, table.notes
    assert repr(table).splitlines()[-len(table.notes) - 1][0] != "!"


# ---------------------------------------------------------------- what its numbers say of themselves


def test_numbers_without_a_site_say_so() -> None:
    """Means of two of three sites stood there as if of all."""
    parts = {**sites(), "kiel": people(12, 4).assign(sex=["f"] * 9 + ["m"] * 3)}
    table = hanse.simulate(parts).analytics().table_one("sex", dataset_schema=["age"])
    found = table.smd["f vs m"]["age"]
    assert isinstance(found, Rough)
    assert list(found.missing) == ["kiel"]
    others = pd.concat(part for name, part in parts.items() if name != "kiel").dropna(subset=["age"])
    assert (found.rows, found.asked) == (len(others), 762)
    same({"age": float(found)}, pooled(*(others[others.sex == g] for g in "fm")))
    [line] = table.lines
    for group in "fm":
        n, mean, spread = line.numbers(group)
        assert all(list(number.missing) == ["kiel"] for number in (n, mean, spread))
        assert float(n) == (others.sex == group).sum()
    assert "≈" in repr(table)
    assert f": {len(others)} of at most 762 rows" in repr(table).splitlines()[0]
    told = table.to_json()
    assert list(told["rows"][0]["mean f"]["missing"]) == ["kiel"]
    assert list(told["smd"]["f vs m"]["age"]["missing"]) == ["kiel"]
    assert list(told["rests_on"]["age"]["f"]["missing"]) == ["kiel"]
    frame = table.to_frame()
    assert isinstance(frame["mean f"][0], Rough)
    assert "without kiel" in table._repr_html_()
    assert isinstance(next(iter(table.unbalanced(0.0).values())), Rough)
    [dots] = table.plot().axes[0].collections
    assert dots.get_facecolors()[0][3] == 0  # hollow


def test_numbers_without_a_group_of_a_site_hold_those_of_all_rows() -> None:
    """What that site tells of all its rows bounds what its groups would change."""
    parts = {**sites(), "kiel": people(12, 4).assign(sex=["f"] * 9 + ["m"] * 3)}
    table, everybody = hanse.simulate(parts).analytics().table_one("sex"), pd.concat(parts.values())
    true = pooled(*(everybody[everybody.sex == g] for g in "fm"))
    for name in ("age", "bmi"):
        told = table.smd["f vs m"][name]
        assert told.least < true[name] < told.most
        assert told.most - told.least < 0.1
        line = next(line for line in table.lines if line.name == name)
        for group in "fm":
            rows = everybody[everybody.sex == group][name].dropna()
            n, mean, spread = line.numbers(group)
            assert n.least <= len(rows) <= n.most
            assert mean.least <= rows.mean() <= mean.most
            assert spread.least <= rows.std() <= spread.most


def test_numbers_of_all_rows_are_plain() -> None:
    table = hanse.simulate(sites()).analytics().table_one("sex", dataset_schema=["age", "smoker"])
    numbers = [n for line in table.lines for group in table.groups for n in line.numbers(group)]
    assert not any(isinstance(n, Rough) for n in [*numbers, *table.smd["f vs m"].values()])
    assert "≈" not in repr(table)


def test_a_site_that_fails_is_named_by_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from hanse.algorithms.statistics import Statistics

    answer = Statistics.answer

    def broken(self: Statistics, site: Any, ask: Any) -> Any:
        if site.node == "jena":
            raise RuntimeError("no disk")
        return answer(self, site, ask)

    monkeypatch.setattr(Statistics, "answer", broken)
    table = hanse.simulate(sites()).analytics().table_one("sex", dataset_schema=["age", "smoker"])
    assert all(list(value.missing) == ["jena"] for value in table.smd["f vs m"].values())


def test_the_rest_says_which_sites_are_not_in_it() -> None:
    """A site that is not shown, and one whose rows of a variable are too few, were left out of the others' rest."""
    parts = sites()
    parts["bonn"].loc[6:, "bmi"] = np.nan
    parts["kiel"] = people(150, 5)
    federation, patch = by_site(parts, ulm=True, bonn=True, kiel=True)
    with patch.context():
        try:
            table: TableOne = federation.analytics().table_one(dataset_schema=["age", "bmi"])
        finally:
            patch.undo()
    found = table.smd["ulm vs rest"]
    assert list(found["age"].missing) == ["jena"]
    assert list(found["bmi"].missing) == ["bonn", "jena"]
    same({"bmi": float(found["bmi"])}, pooled(parts["ulm"], parts["kiel"]))
    assert table.smd["bonn vs rest"]["bmi"] is None
    line = next(line for line in table.lines if line.name == "age")
    assert not any(isinstance(n, Rough) for n in line.numbers("ulm"))  # of that site, all rows are in it


@pytest.mark.parametrize("by", ["sex", "arm"])
def test_what_is_told_of_pooled_rows_holds(by: str) -> None:
    """At the default protection: shares of levels that some sites keep back lie between their ends, and so do the
    differences; numbers are those of the rows that they say they rest on."""
    looked = [_held(seed, by) for seed in range(8)]
    assert sum(all_ for all_, _ in looked) > 100
    assert sum(unsure for _, unsure in looked) > 30


def _held(seed: int, by: str) -> tuple[int, int]:
    """How many numbers were looked at, and how many of them were not sure."""
    rng = np.random.default_rng(seed)
    parts = {f"s{i}": people(int(rng.integers(100, 500)), 100 * seed + i) for i in range(6)}
    frame = pd.concat(parts.values())
    table = hanse.simulate(parts).analytics().table_one(by, dataset_schema=VARIABLES)
    groups, looked, unsure = {label: part for label, part in frame.groupby(by)}, 0, 0
    for contrast, (a, b) in table.contrasts.items():
        true = pooled(groups[a], groups[b])
        for name, value in table.smd[contrast].items():
            if value is None or (isinstance(value, Rough) and value.missing):
                continue
            least, most = (value.least, value.most) if isinstance(value, Rough) else (float(value), float(value))
            assert true[name] is not None
            assert least - 1e-9 <= true[name] <= most + 1e-9
            looked, unsure = looked + 1, unsure + isinstance(value, Rough)
    for line in table.lines:
        for group in table.groups if line.level else ():
            n, share, _ = line.numbers(group)
            if n is None or (isinstance(n, Rough) and n.missing):
                continue
            rows = groups[group][line.variable].dropna()
            level = (rows.astype(int).astype(str) if line.variable == "smoker" else rows) == line.level
            for value, exact in ((n, level.sum()), (share, level.mean())):
                least, most = (value.least, value.most) if isinstance(value, Rough) else (float(value), float(value))
                assert least - 1e-9 <= exact <= most + 1e-9
                looked, unsure = looked + 1, unsure + isinstance(value, Rough)
    return looked, unsure


def test_a_site_without_values_of_a_variable_has_no_difference_in_it() -> None:
    parts = sites()
    parts["ulm"]["stage"], parts["ulm"]["age"] = None, np.nan
    table = hanse.simulate(parts, policy=OPEN).analytics().table_one()
    assert [line.level for line in table.lines if line.variable == "stage"] == ["I", "II", "III"]
    assert table.smd["ulm vs rest"]["age"] is None
    assert table.smd["ulm vs rest"]["stage = I"] is None
    same({"stage = I": table.smd["bonn vs rest"]["stage = I"]}, pooled(parts["bonn"], parts["jena"]))


def test_what_cannot_be_compared_says_so() -> None:
    analytics = hanse.simulate(sites(), policy=OPEN).analytics()
    for call, says in (
        (lambda: analytics.table_one("colour"), "no site has a column 'colour'"),
        (lambda: analytics.table_one("sex", "all"), "expected rest"),
        (lambda: analytics.table_one("sex", dataset_schema=["sex"]), "no variable"),
        (lambda: hanse.simulate({"a": sites()["ulm"]}, policy=OPEN).analytics().table_one(), "there are a"),
    ):
        with pytest.raises(ConfigError, match=says):
            call()
    names = {s: part.assign(id=[f"P{s}{i}" for i in range(len(part))]) for s, part in sites().items()}
    table = hanse.simulate(names).analytics().table_one("sex")
    assert not any(line.variable == "id" for line in table.lines)
    assert any("'id' has no label" in note for note in table.notes)


def test_names_from_elsewhere_are_escaped() -> None:
    rng = np.random.default_rng(0)
    part = pd.DataFrame({"<x>": rng.normal(size=60), "t": rng.choice(["<y>", "v"], 60)})
    table = hanse.simulate({"<z>": part, "w": part}, policy=OPEN).analytics().table_one()
    for tag in ("<x>", "<y>", "<z>"):
        assert tag not in table._repr_html_()


@pytest.mark.parametrize("offset", [1e8, -3e11])
def test_variables_far_from_zero_lose_no_digits(offset: float) -> None:
    """Values on a grid that float64 holds at the offset: the same numbers near 0 have the same differences."""
    rng = np.random.default_rng(6)
    near = np.round(rng.normal(size=300) * 1024) / 1024 + np.repeat([0.0, 0.01, -0.02], 100)
    near = np.round(near * 1024) / 1024
    label = rng.choice(["x", "y", "z"], 300)

    def split(values: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        return {f"s{i}": {"v": values[i * 100 : i * 100 + 100], "g": label[i * 100 : i * 100 + 100]} for i in range(3)}

    for by, compare in (("g", "rest"), ("g", "pairs"), (None, "rest"), (None, "pairs")):
        expected, found = (
            hanse.simulate(split(v), policy=OPEN).analytics().table_one(by, compare, ["v"]).smd
            for v in (near, near + offset)
        )
        for contrast, of in expected.items():
            assert found[contrast]["v"] == pytest.approx(of["v"], rel=1e-10, abs=1e-12)
