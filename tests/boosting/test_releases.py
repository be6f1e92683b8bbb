"""The bits of a booster in releases of XGBoost from 3.0 on, each in an environment of its own, from a package index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hanse.boosting.booster import dumps
from hanse.boosting.trees import margins

from .test_booster import CATEGORIES, FEATURES, TASKS, TYPES, data, forest, objective

RELEASES = ("3.0.0", "3.0.5", "3.1.3", "3.2.0", "3.3.0", "3.4.1")  # and what is installed here, in test_booster
LATER_PYTHON = ("3.3", "3.4")  # they need Python 3.12
READER = """
import json, sys
import numpy as np, xgboost
from pathlib import Path
here = Path(sys.argv[1])
X, types = np.load(here / "X.npy"), json.loads((here / "types.json").read_text())
seen = 0
for model in sorted(here.glob("*.ubj")):
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(model)
    rows = xgboost.DMatrix(X, feature_names=booster.feature_names, feature_types=types, enable_categorical=True)
    margin, said = (np.load(model.with_suffix(end)) for end in (".margin.npy", ".said.npy"))
    assert np.array_equal(booster.predict(rows, output_margin=True).reshape(margin.shape), margin), model
    assert np.array_equal(booster.predict(rows).astype(np.float64), said), model
    seen += 1
print(xgboost.__version__, seen)
"""


def interpreter() -> str:
    """A Python of 3.12 or later: this one, one of the path, or one of pyenv's."""
    if sys.version_info >= (3, 12):
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    there = [*map(str, sorted(root.glob("3.1[2-9]*/bin/python"))), "python3.12", "python3.13", "python3.14"]
    for python in filter(shutil.which, there):
        if subprocess.run([python, "-c", "pass"], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("this release needs Python 3.12, which is not here")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", RELEASES)
def test_every_release_predicts_the_same_bits(release: str, tmp_path: Path) -> None:
    X = data(0, 3000)
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "types.json").write_text(json.dumps(TYPES))
    lists = not release.startswith("3.0")
    for name in TASKS:
        own = objective(name)
        trees, base = forest(7, own.outputs, 60), np.float32([0.37, -0.2, 0.11][: own.outputs])
        place = tmp_path / f"{name.replace(':', '_')}.ubj"
        named = [f"column {i}" for i in range(FEATURES)]
        place.write_bytes(dumps(trees, base, own.document, FEATURES, named, CATEGORIES, lists=lists))
        expected = margins(trees, own.margin(base), X)
        np.save(place.with_suffix(".margin.npy"), expected)
        np.save(place.with_suffix(".said.npy"), own.predict(expected))
    python = tmp_path / "env" / "bin" / "python"
    made = [interpreter() if release.startswith(LATER_PYTHON) else sys.executable, "-m", "venv", tmp_path / "env"]
    subprocess.run(made, check=True)
    wanted = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"xgboost-cpu=={release}"]
    got = subprocess.run([python, *wanted], capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"xgboost-cpu {release} cannot be had here: {got.stderr.strip()[-200:]}")
    done = subprocess.run([python, "-c", READER, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [release, str(len(TASKS))]
