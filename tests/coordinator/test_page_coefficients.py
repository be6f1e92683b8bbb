"""The regression table of an exact fit: by REST, and on the page of its run."""

from __future__ import annotations

import asyncio
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hanse import coefficients
from hanse.cli import group as command
from hanse.coordinator import coefficients_view
from hanse.errors import NotFound
from hanse.messages import Record
from hanse.table import Column, Table
from tests.waiting import PATIENCE

from .federation import Federation
from .test_page import EVIL, chromium, serving, tab

EXACT = {
    "federated_strategy": "newton",
    "model_name": "logistic_regression",
    "target_column": "ill",
    "num_rounds": 30,
    "model_options": {"C": "inf"},
}
SHOW = """async ([told, nearness]) => {
  const [{ regression }, { render }] = [await import("/page/coefficients.js"), await import("/page/dom.js")];
  const place = document.createElement("div");
  place.id = "table";
  document.body.append(place);
  render(place, [regression(told, nearness)], []);
}"""


def site(seed: int) -> Table:
    rng = np.random.default_rng(seed)
    age, sex = rng.normal(60, 9, 150), rng.choice(["f", "m"], 150)
    ill = rng.random(150) < 1 / (1 + np.exp(-(age - 60) / 9 - (sex == "m")))
    return Table({"age": Column.numeric(age), "sex": Column.categorical(list(sex)), "ill": Column.numeric(ill * 1.0)})


async def fitted(f: Federation) -> dict[str, Any]:
    f.people("a", "b")
    for seed, name in enumerate(("a", "b")):
        await f.node(name, {"t": site(seed)})
    session = await f.propose(**EXACT)
    for name in ("a", "b"):
        await f.consent(session, name)
    assert await f.state(session["session_id"], "completed", "failed") == "completed"
    return session


def test_the_table_of_a_run_is_that_of_its_result_and_for_who_may_read_the_model(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            session = await fitted(f)
            run = session["session_id"]
            told = await f.ok("sci", "GET", f"/api/runs/{run}/coefficients")
            model = f.store.models.latest(run)
            assert model is not None
            expected = coefficients.of(f.store.blobs.get(model.sha))
            assert [row["name"] for row in told["terms"]] == ["intercept", "age", "sex=m"]
            for row, term in zip(told["terms"], expected, strict=True):
                assert row["coefficient"] == term.coefficient
                assert (row["low"], row["high"], row["p_value"]) == (term.low, term.high, term.p_value)
                assert term.coefficient is not None
                assert row["ratio"] == math.exp(term.coefficient)
                assert row["degrees"] is None  # z
            assert (told["effect"], told["why"]) == ("odds_ratio", "")
            await f.ok("owner-a", "GET", f"/api/runs/{run}/coefficients", None, 403)
            async with serving(f.app) as url:
                given = {"HANSE_URL": url, "HANSE_TOKEN": f.tokens["sci"]}
                asked = partial(CliRunner().invoke, command, ["run", "coefficients", run], env=given)
                printed = (await asyncio.to_thread(asked)).output.splitlines()
            assert printed[0].split()[:3] == ["name", "outcome", "coefficient"]
            assert [line.split()[0] for line in printed[1:]] == ["intercept", "age", "sex=m", "!"]
            assert printed[-1].startswith("! fitted to ")
            probe = await f.propose(num_rounds=1)
            await f.ok("sci", "GET", f"/api/runs/{probe['session_id']}/coefficients", None, 404)

    asyncio.run(body())


def test_of_another_model_there_are_no_terms_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    told = coefficients_view.shown(Record({"algorithm": "fedavg"}))
    assert told["terms"] == []
    assert "exact fit" in told["why"]
    monkeypatch.setattr(coefficients_view, "LARGEST", 8)
    with pytest.raises(NotFound, match="so many columns"):
        coefficients_view.shown(Record({}, {"fit.hessian": np.zeros((2, 2))}))


def test_in_a_browser_the_page_of_an_exact_fit_shows_its_table(tmp_path: Path) -> None:
    path = chromium()

    async def body() -> None:
        async with Federation(tmp_path) as f:
            session = await fitted(f)
            complaints: list[str] = []
            async with serving(f.app) as url, tab(path, complaints) as page:
                await page.goto(url)
                await page.fill("#token", f.tokens["sci"])
                await page.press("#token", "Enter")
                await page.click(".runs a")
                table = page.locator("[aria-labelledby=h-coefficients]")
                await table.wait_for()
                rows = [" ".join((await row.inner_text()).split()) for row in await table.locator("tr").all()]
                assert rows[0].lower() == "term outcome estimate std. error 95 % ci z p odds ratio 95 % ci"
                assert rows[3].startswith("sex=m against f ")
                assert [row.split()[0] for row in rows[1:]] == ["intercept", "age", "sex=m"]
                assert "< 0.001" in rows[2]
                assert await page.locator(".head", has_text="exact: equals the pooled fit").count() == 1  # not folded
                term = {"name": EVIL, "outcome": "", "coefficient": None, "degrees": 7, "note": "not estimable"}
                told = {"terms": [{**term, "reference": ""}], "effect": "", "level": 0.9}
                await page.evaluate(SHOW, [told, "exact"])
                text = " ".join((await page.inner_text("#table")).split())
                assert "90 % CI T P".lower() in text.lower()
                assert text.endswith("1: not estimable")
                assert await page.locator("#table img").count() == 0
                assert await page.evaluate("window.stolen") is None
                f.it.chronicle.close_streams()
            assert complaints == [], json.dumps(session)

    asyncio.run(asyncio.wait_for(body(), 2 * PATIENCE))
