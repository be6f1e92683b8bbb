"""A model card says where a model came from, in words that nobody can turn into something else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hanse.coordinator import model_card
from hanse.store.models import ModelVersion
from hanse.table import Column, Table

from .federation import PROBE, Federation

MODEL: dict[str, Any] = {
    "model_name": "logistic_regression",
    "federated_strategy": "fedavg",
    "target_column": "disease",
    "sample_id_column": None,
    "num_rounds": 3,
    "local_epochs": 5,
}


def visits(seed: int) -> Table:
    x = np.random.default_rng(seed).normal(size=60)
    return Table({"x|y": Column.numeric(x), "disease": Column.categorical(np.where(x > 0, "ill", "well").tolist())})


async def finished(f: Federation, **more: Any) -> dict[str, Any]:
    f.people("a", "b")
    for seed, name in enumerate("ab"):
        await f.node(name, {"visits": visits(seed)})
    session = await f.ok("sci", "POST", "/api/training/start", {**MODEL, **more}, 201)
    await f.refused("sci", "GET", f"/api/runs/{session['session_id']}/card", None, 404)
    for name in "ab":
        await f.consent(session, name)
    await f.state(session["session_id"], "completed")
    return await f.ok("sci", "GET", f"/api/training/sessions/{session['session_id']}")  # type: ignore[no-any-return]


def test_it_says_data_consent_code_protection_and_figures(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            session = await finished(f, transforms=[{"name": "clip", "norm": 2.5}], keep_models=True)
            answer = await f.call("sci", "GET", f"/api/runs/{session['session_id']}/card")
            assert answer.headers["content-type"].startswith("text/markdown")
            card = answer.text
            for told in (session["code_hash"], session["result"]["sha256"], "owner-a", "| b | accept |", "averaged"):
                assert told.replace("_", "\\_") in card, told
            assert "| a | visits | v1 | at most 60 |" in card
            assert "clip norm=2.5" in card
            assert "single contributions: by sum were seen by the coordinator" in card
            assert "none was promised" in card
            accuracy = session["result"]["metrics"]["accuracy"]
            assert f"| accuracy | {accuracy:.4g} |" in card
            assert "After round 3" in card

    asyncio.run(body())


def test_of_what_an_earlier_release_proposed_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            session = await finished(f)
            real = f.store.runs.bundle
            monkeypatch.setattr(f.store.runs, "bundle", lambda run: {**real(run), "gathering": "plain"})
            said = await f.refused("sci", "GET", f"/api/runs/{session['session_id']}/card", None, 409)
            assert "has no card here: an earlier build of Hanse" in str(said)

    asyncio.run(body())


def test_words_of_others_are_only_words(tmp_path: Path) -> None:
    async def body() -> None:
        async with Federation(tmp_path) as f:
            hostile = "![x](http://evil/y) <script>alert(1)</script>\n# heading\n| a | b |"
            session = await finished(f, purpose=hostile, name=hostile)
            card = (await f.call("sci", "GET", f"/api/runs/{session['session_id']}/card")).text
            lines = card.splitlines()
            assert sum(line.startswith("# ") for line in lines) == 1
            assert "<script" not in card.replace("\\<", "")
            assert "](http" not in card.replace("\\]", "")
            assert "`x|y`" in card  # the name of a feature, as code

    asyncio.run(body())


def test_who_may_read_it_and_of_what(tmp_path: Path) -> None:
    """Of a probe there is no model; and a card is for who proposed the run, or operates the federation."""

    async def body() -> None:
        async with Federation(tmp_path) as f:
            session = await finished(f)
            path = f"/api/runs/{session['session_id']}/card"
            f.account("other", "data_scientist")
            await f.refused("other", "GET", path, None, 403)
            assert (await f.call("op", "GET", path)).status_code == 200
            probe = await f.propose(**PROBE)
            for name in "ab":
                await f.consent(probe, name)
            await f.state(probe["session_id"], "completed")
            await f.refused("sci", "GET", f"/api/runs/{probe['session_id']}/card", None, 404)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        ({"sum": "secure", "agree": "plain"}, "were seen by nobody"),
        ({"sum": "secure", "each": "plain", "agree": "plain"}, "by each were seen by the coordinator"),
        ({"sum": "plain", "agree": "plain"}, "by sum were seen by the coordinator"),
        ({"sum": "of another release"}, "by sum were seen by the coordinator"),
    ],
)
def test_what_one_way_hides_another_may_show(ways: dict[str, str], told: str) -> None:
    content = {"gathering": ways, "transforms": [], "datasets": {"a": {}, "b": {}, "c": {}}}
    bundle: Any = SimpleNamespace(content=content, config=SimpleNamespace(privacy=None))
    assert model_card._protection(bundle)["single contributions"] == told


def test_it_tells_the_figures_of_the_model_that_was_taken() -> None:
    """A run that ended early takes an earlier model; the card told the figures of the last one that was trained."""

    def version(number: int, round: int, loss: float) -> ModelVersion:
        return ModelVersion("r", number, round, "ab", 1, {"loss": loss}, 0.0)

    def measured(step: int, round: int, metrics: dict[str, Any]) -> dict[str, Any]:
        return {"step": step, "round": None, "metrics": {"evaluated_round": round, **metrics}}

    steps = [measured(0, 1, {"loss": 0.5, "c_index": 0.7}), measured(1, 2, {"loss": 0.75, "c_index": 0.6})]
    told = model_card._measured([version(1, 1, 0.5), version(2, 2, 0.75), version(3, 1, 0.5)], steps)
    assert "After round 1, on rows that were held out at each site:" in told
    assert "| loss | 0.5 |" in told
    assert "| c\\_index | 0.7 |" in told
    assert "least loss" not in told
    some = [measured(0, 1, {"loss": 0.5, "d2": 0.25, "sites": {"answered": 2, "of": 9, "which": "x"}})]
    told = model_card._measured([version(1, 1, 0.5)], some)
    assert "on rows that were held out at 2 of 9 sites:" in told
    assert "| d2 | 0.25 |" in told
