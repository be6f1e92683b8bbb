"""Statistics by REST: what can be asked, and what a run of them gave, as the page draws it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from experiment.federation import Living, living
from experiment.test_analytics_connected import standing

import hanse
from hanse.coordinator.statistics_view import shown
from hanse.errors import NotAllowed, WireError
from hanse.experiment.connection import Connection
from hanse.experiment.credentials import Credentials
from hanse.presentation import Picture
from hanse.registry import names


def frame(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], rows)
    rare = np.where(np.arange(rows) < (5 if rows < 300 else 150), "yes", "no")
    return pd.DataFrame({"age": rng.normal(60, 9, rows), "sex": sex, "ill": rng.integers(0, 2, rows), "rare": rare})


SITES = {"ulm": frame(300, 1), "bonn": frame(200, 2)}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with living(tmp_path_factory.mktemp("coordinator"), SITES) as found:
        for name, hospital in found.hospitals.items():
            standing(hospital, "accept")
            found.coordinator.presence._transport.attach(name, hospital.handle)  # type: ignore[attr-defined]
        yield found


@pytest.fixture
def here(real: Living) -> Iterator[Connection]:
    found = Connection(Credentials(real.url, real.tokens["scientist"]))
    yield found
    found.close()


def asked(here: Connection, *items: list[Any]) -> str:
    settings = {"federated_strategy": "statistics", "model_options": {"items": list(items)}, "target_column": ""}
    columns = sorted({c for item in items for c in (*item[1], *item[3])})
    session = here.start(settings | {"features": columns, "num_rounds": 1, "sample_id_column": None})
    for update in here.watch(session["session_id"]):
        assert update.state not in ("failed", "rejected"), update.reason
    return str(session["session_id"])


def test_what_can_be_asked_is_what_the_folder_has(here: Connection) -> None:
    found = {one["name"]: one for one in here.call("GET", "/api/statistics")["statistics"]}
    assert set(found) <= set(names("statistics"))
    assert found["kaplan_meier"]["roles"] == ["time", "event"]
    assert set(found["t_test"]["arguments"]) == {"group", "groups", "equal_var"}
    assert "levels" not in found  # a part of others


def test_what_a_run_gave(here: Connection) -> None:
    run = asked(
        here, ["mean", ["age"], {}, ["sex"]], ["crosstab", ["sex", "ill"], {}, []], ["value_counts", ["sex"], {}, []]
    )
    told = here.call("GET", f"/api/runs/{run}/statistics")
    pooled = pd.concat(SITES.values())
    assert told["nodes"] == ["bonn", "ulm"]
    means = {row["sex"]: row["mean"] for row in told["rows"] if "mean" in row}
    assert means == pytest.approx(pooled.groupby("sex")["age"].mean().to_dict(), rel=1e-12)
    [table] = told["tables"]
    assert table["title"] == "crosstab of sex, ill"
    assert table["rows"][0]["sex"] == "f"
    [picture] = told["pictures"]
    assert (picture["kind"], picture["values"]) == ("bars", pooled["sex"].value_counts().to_dict())
    session = here.session(run)
    assert session["learns"] is False


def test_numbers_that_are_not_sure_say_so(here: Connection) -> None:
    run = asked(here, ["median", ["age"], {}, []], ["mean", ["age"], {}, ["rare"]], ["value_counts", ["ill"], {}, []])
    told, pooled = here.call("GET", f"/api/runs/{run}/statistics"), pd.concat(SITES.values())
    [median] = [row["median"] for row in told["rows"] if "median" in row]
    assert median["least"] <= pooled["age"].median() <= median["most"]
    assert median["least"] <= median["value"] <= median["most"]
    assert median["missing"] == {}
    assert median["text"].startswith(f"{median['value']:.6g} (")
    means = {row["rare"]: row["mean"] for row in told["rows"] if "rare" in row}
    assert means == {"no": None, "yes": None}  # one site alone tells them, as the other keeps its few back
    assert any("kept back at bonn" in note for note in told["notes"])
    assert any("single site" in note for note in told["notes"])
    [picture] = told["pictures"]
    assert sum(picture["values"].values()) >= 300  # plain numbers: a picture has its marks from the statistic


def test_who_failed_is_named_beside_every_number(real: Living, here: Connection) -> None:
    run = asked(here, ["mean", ["age"], {}, []])
    store = real.coordinator.store
    model = store.models.latest(run)
    assert model is not None
    told = shown(store.blobs.get(model.sha), {"age": "numeric"}, {"jena": "it was lost"}, run)
    [row] = told["rows"]
    assert row["mean"]["missing"] == {"jena": "it was lost"}
    assert row["mean"]["value"] is None
    assert row["mean"]["of_told"] == pytest.approx(pd.concat(SITES.values())["age"].mean(), rel=1e-12)
    assert told["notes"] == ["jena is not in it: it was lost"]


def test_who_may_read_it_and_of_what(real: Living, here: Connection) -> None:
    run = asked(here, ["mean", ["age"], {}, []])
    owner = Connection(Credentials(real.url, real.tokens["ulm"]))
    try:
        with pytest.raises(NotAllowed):
            owner.call("GET", f"/api/runs/{run}/statistics")
    finally:
        owner.close()
    with hanse.connect(real.url, real.tokens["scientist"]) as federation:
        trained = federation.experiment(model="logistic_regression", target="sex", rounds=1, sample_id_column=None)
        trained.run(progress=False)
    with pytest.raises(WireError, match="no run of statistics"):
        here.call("GET", f"/api/runs/{trained.run_id}/statistics")
    assert here.session(trained.run_id)["learns"] is True


def test_the_page_draws_every_kind_of_picture() -> None:
    """Survival curves were a title without a picture, since their kind had another name there."""
    script = (Path(hanse.__file__).parent / "coordinator" / "page" / "statistics.js").read_text()
    found = re.search(r"const draw = \{(.+?)\}\[one\.kind\]", script)
    assert found
    drawn = {part.split(":")[0].strip() for part in found[1].split(",")}
    assert drawn == {kind.__name__.lower() for kind in get_args(Picture)}


def test_folder_of_the_page_has_it() -> None:
    page = Path(hanse.__file__).parent / "coordinator" / "page"
    assert "statisticsView" in (page / "app.js").read_text()
