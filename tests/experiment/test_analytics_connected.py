"""Statistics through a real coordinator: no model, no target, standing consent, one no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hanse
from experiment.federation import living
from hanse.errors import Refused
from hanse.messages import Message, Record


def frame(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], rows)
    return pd.DataFrame({"age": rng.normal(60, 9, rows), "sex": sex, "disease": rng.random(rows)})


def standing(hospital: Any, decision: str) -> None:
    """The owner's standing answer, which the node gives with its receipt of the proposal."""
    inner = hospital.handle

    async def handle(peer: str, message: Message, progress: Any) -> Message:
        reply = await inner(peer, message, progress)
        if message.kind == "proposal":
            data = {"decision": decision, "actor": "standing policy", "reason": "" if decision == "accept" else "never"}
            return Message("ok", message.id, hospital.name, Record(data))
        return reply  # type: ignore[no-any-return]

    hospital.handle = handle


def test_from_connect_to_a_number(tmp_path: Path) -> None:
    sites = {"ulm": frame(70, 1), "bonn": frame(50, 2), "jena": frame(40, 3)}
    with living(tmp_path, sites) as real:
        for name, hospital in real.hospitals.items():
            standing(hospital, "reject" if name == "jena" else "accept")
            real.coordinator.presence._transport.attach(name, hospital.handle)  # type: ignore[attr-defined]
        with hanse.connect(real.url, real.tokens["scientist"]) as federation:
            analytics = federation.analytics(tags=["demo"])
            result = analytics.fetch_stats(["mean", "std"], ["age", "disease"])
            pooled = pd.concat([sites["ulm"], sites["bonn"]])
            assert result.nodes == ("bonn", "ulm")
            assert "jena" in result.failures
            assert float(result.values("mean")["age"]) == pytest.approx(pooled["age"].mean(), rel=1e-12)
            assert float(result.values("std")["disease"]) == pytest.approx(pooled["disease"].std(), rel=1e-12)
            strategies = ("statistics", "statistics_on_total")
            assert federation._backend.latest(strategies, ["demo"]) == "statistics"
            assert federation._backend.latest(strategies, ["other"]) == federation._backend.latest((), ["demo"]) == ""
            two = federation.analytics(nodes=["ulm", "bonn"], by="sex")
            assert two.mean(["age"])["age"] == pytest.approx(pooled.groupby("sex")["age"].mean().to_dict())
            asked = two.requests
            two.std(["age"])
            two.mean(["age"])
            assert two.requests == asked + 1
            with pytest.raises(Refused):
                federation.analytics(require="all").mean(["age"])
