"""What was measured of a model, as the page shows it in a browser."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE

from .federation import Federation
from .test_page import EVIL, chromium, serving, tab

TOLD: dict[str, Any] = {
    "groups": {
        "groups": [
            {"column": "sex", "group": "f", "rows": 80, "sites": 3, "loss": 0.25, "accuracy": 0.95, "auc": 0.997},
            {"column": "sex", "group": EVIL, "rows": 70, "sites": 2, "loss": 0.5, "accuracy": 0.5, "auc": None},
        ],
        "more": 4,
    },
    "cross_site": {
        "cells": [
            {"model": model, "site": site, "rows": 40, "loss": 0.5 + place / 100, "accuracy": 0.75, "auc": None}
            for place, (model, site) in enumerate(
                (model, site) for model in ("all sites", "ulm", "bonn") for site in ("bonn", "ulm")
            )
        ],
        "models": ["all sites", "ulm", "bonn"],
        "metrics": ["loss", "accuracy", "auc"],
        "few": ["kiel"],
    },
}
SHOW = """async (told) => {
  const [{ measured }, { render }] = [await import("/page/measured.js"), await import("/page/dom.js")];
  const place = document.createElement("div");
  place.id = "measured";
  document.body.append(place);
  let before = [];
  const show = () => { before = render(place, measured(told), before); };
  show();
  place.addEventListener("click", () => setTimeout(show));
}"""


def test_groups_and_the_matrix_in_a_browser(tmp_path: Path) -> None:
    path = chromium()

    async def body() -> None:
        async with Federation(tmp_path) as f:
            complaints: list[str] = []
            async with serving(f.app) as url, tab(path, complaints) as page:
                await page.goto(url)
                await page.wait_for_selector("#token")
                await page.evaluate(SHOW, TOLD)
                shown = page.locator("#measured")
                rows = [" ".join((await row.inner_text()).split()) for row in await shown.locator("tr").all()]
                assert [row.lower() for row in rows[:2]] == [
                    "column group rows sites loss accuracy auc",
                    "sex f 80 3 0.250 0.950 0.997",
                ]
                assert rows[2].endswith("70 2 0.500 0.500 –")
                assert [row.lower() for row in rows[3:]] == [
                    "model of bonn ulm",
                    "all sites 0.750 0.750",
                    "ulm 0.750 0.750",
                    "bonn 0.750 0.750",
                ]
                text = await shown.inner_text()
                assert "4 further groups are not told" in text
                assert "kiel: too few held-out rows" in text
                assert "AUC" not in [await button.inner_text() for button in await shown.locator("button").all()]
                await shown.locator("button", has_text="Loss").click()
                await page.wait_for_selector("#measured >> text=Loss on the held-out rows")
                assert "all sites 0.500 0.510" in " ".join((await shown.inner_text()).split())
                assert await page.locator("#measured img").count() == 0
                assert await page.evaluate("window.stolen") is None
                await page.evaluate(SHOW.replace('"measured"', '"nothing"'), {})
                assert await page.inner_text("#nothing") == ""
                f.it.chronicle.close_streams()
            assert complaints == []

    asyncio.run(asyncio.wait_for(body(), 2 * PATIENCE))
