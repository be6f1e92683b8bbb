"""A model that was learned elsewhere is one that a run here can go on from (LEDGER S12)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import hanse
from hanse.coordinator.settings import CoordinatorSettings
from hanse.messages import Record, dump, load
from hanse.table import Column, Table

from .federation import Federation

MODEL: dict[str, Any] = {
    "model_name": "logistic_regression",
    "federated_strategy": "fedavg",
    "target_column": "y",
    "num_rounds": 1,
    "sample_id_column": None,
}


def rows(seed: int) -> dict[str, Any]:
    x = np.random.default_rng(seed).normal(size=40)
    return {"x": x, "y": np.where(x > 0, "ill", "well").tolist()}


def elsewhere(tmp_path: Path) -> tuple[Record, bytes]:
    """A model, and the file of its whole result."""
    with hanse.simulate({"far": rows(9)}) as federation:
        made = {k: v for k, v in MODEL.items() if k not in ("model_name", "target_column")}
        result = federation.experiment("logistic_regression", target="y", **made).run(progress=False)
    return result.record, result.save(tmp_path / "result.safetensors").read_bytes()


async def send(f: Federation, who: str, raw: bytes) -> httpx.Response:
    return await f.call(who, "POST", "/api/models", raw=raw)


def test_it_comes_in_and_a_run_goes_on_from_it(tmp_path: Path) -> None:
    record, whole = elsewhere(tmp_path)

    async def body() -> None:
        async with Federation(tmp_path / "here") as f:
            f.people("a")
            f.account("other", "data_scientist")
            table = Table({"x": Column.numeric(rows(1)["x"]), "y": Column.categorical(rows(1)["y"])})
            await f.node("a", {"visits": table}, standing="accept")
            first = await send(f, "sci", dump(record))
            assert first.status_code == 201, first.text
            sha = first.json()["sha"]
            assert (await send(f, "sci", whole)).json() == first.json()  # the same model, in the file of its result
            assert (await send(f, "sci", whole)).status_code == 200
            wanted = {**MODEL, "initial_model": sha}
            await f.refused("other", "POST", "/api/training/start", wanted, 404)
            session = await f.ok("sci", "POST", "/api/training/start", wanted, 201)
            assert session["config"]["features"] == ["x"]
            await f.state(session["session_id"], "completed")
            told = await f.ok("sci", "GET", f"/api/analytics/session/{session['session_id']}")
            here = hanse.experiment.results.Result(record, None, []).evaluate(table)  # type: ignore[arg-type]
            assert abs(told["rounds"][0]["loss"] - here["loss"]) < 0.2  # round 0 is that model, on held-out rows
            listed = await f.ok("sci", "GET", f"/api/models?sha={sha}")
            assert [v["run"] for v in listed["models"]] == [first.json()["run"]]
            assert (await f.ok("other", "GET", f"/api/models?sha={sha}"))["models"] == []
            there = await f.ok("sci", "GET", f"/api/training/sessions/{first.json()['run']}")
            assert (there["state"], there["expected_clients"]) == ("completed", [])
            assert "elsewhere" in await f.refused("sci", "GET", f"/api/runs/{first.json()['run']}/card", None, 404)
            await asyncio.to_thread(f.store.sweep, 0.0)
            assert f.store.blobs.has(sha)

    asyncio.run(body())


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    """Damaged bytes, records of other things, models that nobody here knows; and nothing of it is listed."""
    record, whole = elsewhere(tmp_path)
    data = dict(record.data)
    bare = {n: a for n, a in load(dump(record)).arrays.items() if not n.startswith("model.")}
    wrong: list[tuple[bytes, int]] = [
        (b"", 400),
        (b"\x80\x04\x95pickle", 400),
        (whole[:-7], 400),
        (dump(Record({}, {"model.coef": np.zeros(2)})), 422),
        (dump(Record({**data, "model_name": "gpt"}, record.arrays)), 422),
        (dump(Record({**data, "prepared": {"task": 1}}, record.arrays)), 422),
        (dump(Record({**data, "prepared": None}, record.arrays)), 422),
        (dump(Record(data, bare)), 422),
        (dump(Record({"hanse_result": 1, "model": [1]}, record.arrays)), 422),
    ]

    async def body() -> None:
        async with Federation(tmp_path / "here", CoordinatorSettings(body_bytes=1 << 20)) as f:
            f.people("a")
            for raw, status in wrong:
                answer = await send(f, "sci", raw)
                assert answer.status_code == status, (status, answer.text)
            assert (await send(f, "sci", b"x" * ((1 << 20) + 1))).status_code == 413
            assert (await send(f, "owner-a", whole)).status_code == 403
            assert (await f.ok("sci", "GET", "/api/models"))["models"] == []

    asyncio.run(body())


@pytest.mark.parametrize("changed", ["target_column", "model_name"])
def test_one_that_does_not_fit_the_run_is_refused_at_the_proposal(tmp_path: Path, changed: str) -> None:
    record, _ = elsewhere(tmp_path)

    async def body() -> None:
        async with Federation(tmp_path / "here") as f:
            f.people("a")
            table = Table({"x": Column.numeric(rows(1)["x"]), "y": Column.categorical(rows(1)["y"])})
            await f.node("a", {"visits": table})
            sha = (await send(f, "sci", dump(record))).json()["sha"]
            other = {"target_column": "x", "model_name": "sgd_classifier"}[changed]
            wanted = {**MODEL, "initial_model": sha, changed: other}
            assert "initial_model" in await f.refused("sci", "POST", "/api/training/start", wanted, 422)

    asyncio.run(body())
