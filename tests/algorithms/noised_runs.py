"""Rows, sites and noise for runs that hide rows: all follow from the test, so the same commit gets the same verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hanse.answers import Answerer
from hanse.privacy.drawing import key_for

FEATURES = [f"x{i}" for i in range(4)]
KEY = b"the key of these tests, no other"


def table(rows: int, seed: int = 3) -> dict[str, Any]:
    """Four features, and targets of each kind that follow from a linear score of them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 4))
    score = X @ np.array([1.0, -0.7, 0.5, 0.0]) - 0.3
    return {
        **{name: X[:, i] for i, name in enumerate(FEATURES)},
        "y": np.where(rng.random(rows) < 1 / (1 + np.exp(-score)), "yes", "no"),
        "cost": score * 3 + 10 + rng.normal(size=rows),
        "visits": rng.poisson(np.exp(0.3 * score)),
    }


def sites(count: int, rows: int) -> dict[str, Any]:
    whole = table(count * rows)
    return {f"s{k}": {n: v[k * rows : (k + 1) * rows] for n, v in whole.items()} for k in range(count)}


def pooled_auc(rows: int, held_out: dict[str, Any]) -> float:
    """Of the fit of all rows without noise."""
    whole = table(rows)
    fit = LogisticRegression().fit(np.column_stack([whole[n] for n in FEATURES]), whole["y"])
    scores = fit.predict_proba(np.column_stack([held_out[n] for n in FEATURES]))[:, 1]
    return float(roc_auc_score(held_out["y"] == "yes", scores))


@contextmanager
def same_noise() -> Iterator[None]:
    """Every site draws its noise from a secret that follows from its name."""
    made = Answerer.__init__

    def known(self: Answerer, node: str, *args: Any, **more: Any) -> None:
        made(self, node, *args, **{**more, "secret": lambda: key_for(KEY, node.encode())})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answerer, "__init__", known)
        yield
