"""A Flower app as text: what belongs to it, what is refused, and that every byte counts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse import algorithms, alignment
from hanse.algorithms import flower_app
from hanse.bundle import freeze, thaw
from hanse.codec import encode
from hanse.config import RunConfig
from hanse.differences import differences
from hanse.errors import ConfigError, NotAllowed, NotApproved
from hanse.flower.folder import FlowerApp, check_same, read
from hanse.flower.sending import FlowerMessage
from hanse.kinds import Site
from hanse.table import Table

APPS = Path(__file__).parents[1] / "flower_apps"
DATASETS = {"a": {"name": "d", "version": "v" * 64, "most_rows": 5}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(APPS / "hospitals", tmp_path / "app", ignore=ignored))


def added(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def config(app: FlowerApp, **more: Any) -> RunConfig:
    settings = {"federated_strategy": "flower_app", "plan": app.plan(), "target_column": "", **more}
    return algorithms.settled(RunConfig.parse(settings))


def test_an_app_is_the_files_that_flower_would_pack(folder: Path) -> None:
    for name in (
        ".flwr/x.py",
        ".hidden.py",
        "__pycache__/a.py",
        "hospitals/test_task.py",
        "venv/b.py",
        "data.csv",
        "k.pem",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x = 1\n")
    (folder / "LICENSE").write_text("mine\n")
    (folder / "linked.py").symlink_to("/etc/passwd")
    app = read(folder, {"num-server-rounds": 5})
    assert list(app.files) == [
        "LICENSE",
        "hospitals/__init__.py",
        "hospitals/client_app.py",
        "hospitals/server_app.py",
        "hospitals/task.py",
        "pyproject.toml",
    ]
    assert app.client == ("hospitals.client_app", "app")
    assert app.config == {"num-server-rounds": 5, "learning-rate": 0.5, "written": "written.json", "fails": ""}
    assert FlowerApp.of(app.plan()) == app


def test_every_byte_of_it_is_what_owners_agree_to(folder: Path) -> None:
    before = freeze(config(read(folder)), {"features": [], "kinds": {}}, DATASETS)
    file = folder / "hospitals" / "server_app.py"  # also of the part that does not run at the nodes
    raw = file.read_bytes()
    for changed in (raw + b" ", raw.replace(b"\n", b"\r\n", 1), raw.replace(b"FedAvg", b"FedAvG", 1)):
        file.write_bytes(changed)
        after = freeze(config(read(folder)), {"features": [], "kinds": {}}, DATASETS)
        assert after.sha256 != before.sha256
        assert changed.decode() in after.preview()
        with pytest.raises(NotApproved, match="hospitals/server_app.py of this Flower app is not what the owners"):
            check_same(FlowerApp.of(before.config.plan or {}), read(folder))
        (line, *_) = differences(before.content, after.content)
        assert line == "code that is another: hospitals/server_app.py"
        with pytest.raises(NotApproved, match="nothing was run"):  # at the node: a coordinator that sends another
            thaw(after.text, before.sha256)


def test_it_runs_in_the_cage_and_says_so(folder: Path) -> None:
    facts = freeze(config(read(folder), most_messages=7), {"features": [], "kinds": {}}, DATASETS).facts("a")
    assert facts["plan"] is True  # what the owner's rule for training plans looks at
    assert facts["steps"] == 7
    assert facts["gathering"] == {"each": "plain"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "pyproject.toml").unlink(), "no pyproject.toml"),
        (lambda f: (f / "pyproject.toml").write_text("x ="), "is not TOML"),
        (lambda f: (f / "hospitals" / "client_app.py").unlink(), r"clientapp in \[tool.flwr.app.components\]"),
        (lambda f: (f / "hospitals" / "odd.py").write_bytes(b"\xff"), "not text in UTF-8"),
        (lambda f: (f / "long.md").write_text("x" * 600_000), "more than 512 KiB"),
        (lambda f: added(f / "pyproject.toml", "x = [1]\n"), "expected a number, text or a truth value"),
    ],
)
def test_what_is_no_app_is_said(folder: Path, change: Any, said: str) -> None:
    change(folder)
    with pytest.raises(ConfigError, match=said):
        read(folder)


@pytest.mark.parametrize("given", [{"rounds": 3}, {"num-server-rounds": "3"}, {"num-server-rounds": True}])
def test_a_setting_that_the_app_has_not_is_refused(folder: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected a value such as 2|has no 'rounds'"):
        read(folder, given)


def test_a_setting_in_a_table_is_set_as_toml_writes_it(folder: Path) -> None:
    added(folder / "pyproject.toml", "[tool.flwr.app.config.inner]\ndepth = 1\n")
    for given in ({"inner": {"depth": 2}}, {"inner.depth": 2}):  # inner.depth=2 of --run-config is the first
        app = read(folder, given)
        assert app.config["inner.depth"] == 2
        assert FlowerApp.of(app.plan()) == app
    with pytest.raises(ConfigError, match=r"has no 'inner\.width'"):
        read(folder, {"inner": {"width": 2}})
    with pytest.raises(ConfigError, match=r"inner\.depth of this app is \[2\]; expected"):
        read(folder, {"inner": {"depth": [2]}})


@pytest.mark.parametrize(
    "path", ["../out.py", "/etc/x.py", "a//b.py", "a/../b.py", ".hidden/x.py", "", "a\\b.py", "a\n.py"]
)
def test_a_file_stays_below_the_folder_that_a_node_writes(folder: Path, path: str) -> None:
    plan = read(folder).plan()
    with pytest.raises(ConfigError, match="no path of a file of an app"):
        FlowerApp.of({**plan, "files": {**plan["files"], path: "x = 1"}})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"plan": None}, "there is none"),
        ({"plan": {"name": "x", "source": "y"}}, "files, run_config, source does not fit"),
        ({"privacy": "local"}, "noise|privacy"),
        ({"gathering": "secure"}, "secure|each"),
        ({"transforms": [{"name": "clip", "norm": 1}]}, "no transforms fit them"),
        ({"features": ["x"]}, "leave features out"),
    ],
)
def test_what_does_not_go_with_an_app_is_refused_when_it_is_proposed(
    folder: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        freeze(config(read(folder), **settings), {"features": [], "kinds": {}}, {**DATASETS, "b": DATASETS["a"]})


def test_owners_rules_see_every_column_that_the_app_sees(folder: Path) -> None:
    schemas = {"a": {"x": "numeric", "odd": "numeric"}, "b": {"odd": "categorical", "z": "numeric"}}
    found = alignment.of(config(read(folder)), schemas, {})
    assert found["features"] == ["odd", "x", "z"]
    bundle = freeze(config(read(folder)), found, DATASETS)
    assert bundle.facts("a")["features"] == ["odd", "x", "z"]


def test_an_owner_who_changes_what_leaves_refuses_it(folder: Path) -> None:
    settled = config(read(folder)).to_json()
    site = Site("a", Table(), settled, owner={"transforms": ["clip norm=1"]}, nodes=["a"])
    message = FlowerMessage("train", "", np.zeros(1, np.uint8))
    with pytest.raises(NotAllowed, match="this node's owner changes what leaves"):
        flower_app.ALGORITHM.answer(site, encode(message))
    with pytest.raises(NotAllowed, match="there is none here: sites of a simulation are tables"):
        flower_app.ALGORITHM.answer(replace(site, owner={}), encode(message))
